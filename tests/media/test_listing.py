from pathlib import Path

import pytest

from unmask.inference.limits import expand_inputs
from unmask.media.listing import is_passed_over, list_folder, list_media


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/a.jpg", "__MACOSX/a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", "@eaDir/a.jpg",
        ".Trash-1000/a.jpg", "lost+found/a.jpg", "a.mp4.part", "a.jpg.crdownload", "a.jpg~", "$RECYCLE.BIN/a.jpg",
        "deep/er/.hidden/a.jpg",
    ],
)  # fmt: skip
def test_what_is_no_data_is_passed_over_and_counted(tmp_path: Path, name: str) -> None:
    listing = list_folder(_touch(tmp_path, "b.jpg", name))
    assert [path.name for path in listing.files] == ["b.jpg"]
    assert sum(listing.passed_over.values()) == 1
    assert next(iter(listing.passed_over)) in listing.describe_passed_over()


def test_folders_with_names_like_others_are_searched(tmp_path: Path) -> None:
    names = ("dfdc_train_part_0/a.mp4", "macosx/a.jpg", "party/b.jpg")
    assert len(list_media(_touch(tmp_path, *names))) == 3
    assert not any(is_passed_over(name) for name in ("dfdc_train_part_0", "real", "part", "a.jpg"))


def test_media_among_what_is_passed_over_are_counted(tmp_path: Path) -> None:
    listing = list_folder(_touch(tmp_path, ".x/a.jpg", ".x/b.txt", ".c.jpg", "d.mp4.part", ".DS_Store", "notes.txt"))
    assert listing.num_media_passed_over == 3
    assert "2 in '.x'" in listing.describe_passed_over()
    assert "1 '.txt' files" in listing.describe_passed_over()


def test_links_are_followed_and_every_file_is_taken_once(tmp_path: Path) -> None:
    root = _touch(tmp_path, "set/a.jpg", "set/deep/b.jpg", "pool/c.jpg", "pool/d.mp4") / "set"
    (root / "pool").symlink_to(tmp_path / "pool")
    (root / "again").symlink_to(root / "deep")
    (root / "circle").symlink_to(root)
    (root / "e.jpg").symlink_to(root / "a.jpg")
    (root / "gone.jpg").symlink_to(root / "nothing.jpg")
    (root / "loop").symlink_to(root / "loop")
    (tmp_path / "pool" / "back").symlink_to(root)
    listing = list_folder(root)
    assert [path.relative_to(root).as_posix() for path in listing.files] == [
        "a.jpg", "deep/b.jpg", "pool/c.jpg", "pool/d.mp4"
    ]  # fmt: skip
    assert listing.passed_over == {"links to what is listed already": 4, "links that lead nowhere": 2}


def test_links_out_of_the_folder_can_be_left_alone(tmp_path: Path) -> None:
    root = _touch(tmp_path, "set/deep/b.jpg", "pool/c.jpg") / "set"
    (root / "pool").symlink_to(tmp_path / "pool")
    (root / "c.jpg").symlink_to(tmp_path / "pool" / "c.jpg")
    (root / "inside").symlink_to(root / "deep")
    listing = list_folder(root, follow_links=False)
    assert [path.name for path in listing.files] == ["b.jpg"]
    assert listing.links_out == (root / "c.jpg", root / "pool")


def test_a_folder_of_predict_follows_links_and_says_what_it_passes_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _touch(tmp_path, "set/a.jpg", "set/.cache/b.jpg", "pool/c.jpg") / "set"
    (root / "pool").symlink_to(tmp_path / "pool")
    assert [entry.path.name for entry in expand_inputs([root])] == ["a.jpg", "c.jpg"]
    assert "1 in '.cache'" in caplog.text
    (entry,) = expand_inputs([_touch(tmp_path, "empty/.cache/b.jpg", "empty/x.txt") / "empty"])
    assert "1 '.txt' files, 1 in '.cache'" in str(entry.error)
