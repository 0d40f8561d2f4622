"""Folders and columns of the tables are those of the dataset `xhlulu/140k-real-and-fake-faces` on Kaggle."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from unmask.data.splits import SplitOptions
from unmask.errors import SourceError
from unmask.preparation.check import check_source
from unmask.sources.auto import AutoSource
from unmask.sources.faces_140k import Faces140k
from unmask.types import Label, MediaKind

BASE = "real_vs_fake/real-vs-fake"
HEADER = ",original_path,id,label,label_str,path"
NAMES = ("train/fake/A1.jpg", "train/real/31355.jpg", "valid/real/05001.jpg", "valid/fake/B2.jpg", "test/fake/C3.jpg",
         "test/real/70000.jpg")  # fmt: skip


def _row(name: str, *, number: int = 0, label: str | None = None) -> str:
    """A row as in train.csv: 1 means real."""
    word = label or name.split("/")[1]
    stem = Path(name).stem
    return f"{number},/kaggle/input/flickrfaceshq/{stem}.jpg,{stem},{int(word == 'real')},{word},{name}"


def _lay_out(root: Path, names: Sequence[str] = NAMES, *, rows: dict[str, list[str]] | None = None) -> Path:
    for name in names:
        path = root / BASE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if rows is None:
        rows = {split: [_row(name) for name in names if name.startswith(split)] for split in ("train", "valid", "test")}
    for split, lines in rows.items():
        (root / f"{split}.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return root


@pytest.mark.parametrize("place", ["", "real_vs_fake", BASE])
@pytest.mark.parametrize("has_tables", [True, False])
def test_folders_give_label_and_split_from_any_of_the_three_roots(
    tmp_path: Path, place: str, has_tables: bool, caplog: pytest.LogCaptureFixture
) -> None:
    _lay_out(tmp_path, rows=None if has_tables else {})
    videos = {video.video_id: video for video in Faces140k(tmp_path / place).list_videos()}
    assert {name: (video.label, video.method, video.split) for name, video in videos.items()} == {
        "faces_140k/train/fake/A1.jpg": (Label.FAKE, "StyleGAN", "train"),
        "faces_140k/train/real/31355.jpg": (Label.REAL, "original", "train"),
        "faces_140k/valid/real/05001.jpg": (Label.REAL, "original", "val"),
        "faces_140k/valid/fake/B2.jpg": (Label.FAKE, "StyleGAN", "val"),
        "faces_140k/test/fake/C3.jpg": (Label.FAKE, "StyleGAN", "test"),
        "faces_140k/test/real/70000.jpg": (Label.REAL, "original", "test"),
    }
    assert videos["faces_140k/test/real/70000.jpg"].path == tmp_path / BASE / "test/real/70000.jpg"
    assert {(video.kind, video.identities, video.is_there) for video in videos.values()} == {
        (MediaKind.IMAGE, (), True)
    }
    assert caplog.text == ""


def test_rows_that_contradict_their_folder_are_counted_and_named(tmp_path: Path) -> None:
    rows = {
        "train": [_row("train/fake/A1.jpg", label="real"), _row("valid/real/05001.jpg"), _row("train/real/31355.jpg")],
        "test": ["0,x,70000,0,,test/real/70000.jpg", "1,x,1,1,real,elsewhere.jpg"],
    }
    root = _lay_out(tmp_path, rows=rows)
    with pytest.raises(SourceError) as refused:
        Faces140k(root).list_videos()
    for part in (
        "4 rows", "'train.csv' line 2: real, path 'train/fake/A1.jpg'", "'train.csv' line 3", "'test.csv' line 2: fake",
        "'test.csv' line 3", "source.tables=false",
    ):  # fmt: skip
        assert part in str(refused.value)
    assert len(Faces140k(root, tables=False).list_videos()) == len(NAMES)


def test_images_of_the_tables_alone_are_missing_and_those_of_the_folders_alone_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _lay_out(tmp_path, rows={"train": [_row("train/real/00009.jpg"), _row("train/real/31355.jpg")]})
    videos = {video.video_id: video for video in Faces140k(root).list_videos()}
    gone = videos.pop("faces_140k/train/real/00009.jpg")
    assert (gone.is_there, gone.label, gone.split) == (False, Label.REAL, "train")
    assert len(videos) == len(NAMES)
    assert "1 images are in no table: 'train/fake/A1.jpg'" in caplog.text  # the other splits have no table


def test_a_half_finished_download_says_what_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _lay_out(tmp_path, ("train/fake/A1.jpg", "train/fake/notes.txt"), rows={})
    (video,) = Faces140k(root).list_videos()
    assert video.label == Label.FAKE
    assert "'train/real', 'valid/real', 'valid/fake', 'test/real', 'test/fake'" in caplog.text
    assert "'notes.txt'" in caplog.text


def test_tables_of_another_dataset_above_the_root_are_not_read(tmp_path: Path) -> None:
    for name in NAMES:
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "train.csv").write_text("path,label\nx.jpg,1\n")
    assert len(Faces140k(tmp_path / "mine").list_videos()) == len(NAMES)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(SourceError) as refused:
        Faces140k(tmp_path).list_videos()
    for part in ("'valid/'", "'images/'", "source.root"):
        assert part in str(refused.value)
    with pytest.raises(SourceError, match=r"source\.root='.*gone'"):
        Faces140k(tmp_path / "gone").list_videos()


def test_a_check_counts_each_folder_and_what_is_skipped(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, rows={"train": [_row("train/real/00009.jpg"), _row("train/real/31355.jpg")]})
    for name in ("train/real/notes.txt", "train/real/._a.jpg", "valid/other/a.jpg", "extra/a.jpg", "readme.md"):
        (root / BASE / name).parent.mkdir(exist_ok=True)
        (root / BASE / name).touch()
    found = check_source(AutoSource(root), SplitOptions({"train": 0.7, "val": 0.15, "test": 0.15}, 0))
    assert {part.name: (part.have, part.missing, part.unexpected) for part in found.parts} == {
        "train/real": (1, 1, 2), "train/fake": (1, 0, 1), "valid/real": (1, 0, 0), "valid/fake": (1, 0, 0),
        "test/real": (1, 0, 0), "test/fake": (1, 0, 0), "": (0, 0, 2), "valid": (0, 0, 1),
    }  # fmt: skip
    reasons = {part.name: part.reasons for part in found.parts}
    assert reasons["train/real"] == ("1 hidden or unfinished ('._a.jpg')", "1 of another kind ('notes.txt')")
    assert reasons["train/fake"] == ("1 read, but in no table ('train/fake/A1.jpg')",)
    assert (reasons[""], reasons["valid"]) == (
        ("2 of another kind ('extra', 'readme.md')",), ("1 of another kind ('other')",)
    )  # fmt: skip
    assert found.counts["splits"] == {split: {"real": 1, "fake": 1} for split in ("train", "val", "test")}
    assert found.counts["groups"] == len(NAMES)
