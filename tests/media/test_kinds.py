from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unmask.errors import MediaError
from unmask.media.kinds import list_media, sniff_kind
from unmask.media.picture import write_jpeg
from unmask.types import MediaKind


def test_kind_is_told_by_content_not_by_name(tmp_path: Path, counter_video: Callable[..., Path]) -> None:
    write_jpeg(tmp_path / "picture.mp4", np.zeros((8, 8, 3), np.uint8), quality=90)
    assert sniff_kind(tmp_path / "picture.mp4") == MediaKind.PICTURE
    assert sniff_kind(counter_video(2).rename(tmp_path / "video.jpg")) == MediaKind.VIDEO


def test_picture_that_is_too_large_is_still_a_picture(huge_png: Callable[..., Path]) -> None:
    assert sniff_kind(huge_png(30_000, 30_000)) == MediaKind.PICTURE


@pytest.mark.parametrize("size", [0, None])
def test_nothing_has_no_kind(tmp_path: Path, size: int | None) -> None:
    path = tmp_path / "a.jpg"
    if size is not None:
        path.touch()
    with pytest.raises(MediaError, match="holds 0 bytes" if size == 0 else "No such file"):
        sniff_kind(path)


def test_folders_are_searched_deeply_and_in_order(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.mp4", "a.png", "b/.hidden.jpg", "b/._3.jpg", "note.txt", "folder.jpg/4.webm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_media(tmp_path)]
    assert found == ["a.png", "b/1.mp4", "b/2.JPG", "folder.jpg/4.webm"]


def test_text_with_the_name_of_a_picture_is_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello\n" * 100)
    assert sniff_kind(tmp_path / "a.jpg") is MediaKind.PICTURE
