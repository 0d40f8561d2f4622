from pathlib import Path

import pytest

from unmask.errors import SourceError
from unmask.sources.folders import describe_folder
from unmask.sources.image_folder import ImageFolder
from unmask.types import Label, MediaKind


def _lay_out(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folders_named_after_labels_are_read_at_any_depth(tmp_path: Path) -> None:
    root = _lay_out(
        tmp_path, "real/a.jpg", "real_flickr/deep/b.png", "fake_stylegan/c.JPG", "Fake/d.mp4", "notes/e.jpg"
    )
    videos = {video.video_id: video for video in ImageFolder(root).list_videos()}
    assert sorted(videos) == [
        "image_folder/Fake/d.mp4", "image_folder/fake_stylegan/c.JPG", "image_folder/real/a.jpg",
        "image_folder/real_flickr/deep/b.png",
    ]  # fmt: skip
    real, fake = videos["image_folder/real_flickr/deep/b.png"], videos["image_folder/fake_stylegan/c.JPG"]
    assert (real.label, real.method, real.split, real.kind) == (Label.REAL, "original", None, MediaKind.PICTURE)
    assert (fake.label, fake.method) == (Label.FAKE, "fake_stylegan")
    assert videos["image_folder/Fake/d.mp4"].kind == MediaKind.VIDEO
    assert fake.path == root / "fake_stylegan/c.JPG"


@pytest.mark.parametrize(("folder", "split"), [("valid", "val"), ("val", "val"), ("Train", "train"), ("test", "test")])
def test_folders_of_splits_are_known_by_their_usual_names(tmp_path: Path, folder: str, split: str) -> None:
    root = _lay_out(tmp_path, f"{folder}/real/a.jpg", f"{folder}/fake/a.jpg")
    videos = ImageFolder(root, name="140k").list_videos()
    assert [(video.video_id, video.split) for video in videos] == [
        (f"140k/{folder}/fake/a.jpg", split), (f"140k/{folder}/real/a.jpg", split)
    ]  # fmt: skip


def test_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"No such folder: source\.root='.*gone'"):
        ImageFolder(tmp_path / "gone").list_videos()


def test_wrong_layout_says_what_was_looked_for_and_what_was_found(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, "cats/a.jpg", "dogs/b.jpg")
    with pytest.raises(SourceError, match=r"looked for 'real\*/' and 'fake\*/'.*found 0 files.*'cats/', 'dogs/'"):
        ImageFolder(root).list_videos()


@pytest.mark.parametrize(("there", "absent"), [("real", "fake"), ("fake", "real")])
def test_one_label_alone_is_refused(tmp_path: Path, there: str, absent: str) -> None:
    root = _lay_out(tmp_path, f"{there}/a.jpg", f"{absent}/note.txt")
    with pytest.raises(SourceError, match=f"found 1 files, none of them {absent}"):
        ImageFolder(root).list_videos()


def test_description_of_a_folder_is_short(tmp_path: Path) -> None:
    _lay_out(tmp_path / "full", *(f"{index:02d}.jpg" for index in range(11)))
    (tmp_path / "empty").mkdir()
    assert describe_folder(tmp_path / "full", limit=2) == "'00.jpg', '01.jpg' and 9 more"
    assert describe_folder(tmp_path / "empty") == "nothing, it is empty"
    assert describe_folder(tmp_path / "gone") == "nothing, it does not exist"
    assert describe_folder(tmp_path) == "'empty/', 'full/'"
