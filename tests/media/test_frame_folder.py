from pathlib import Path

import numpy as np
import pytest

from unmask.errors import MediaError
from unmask.media.image import write_jpeg
from unmask.media.listing import open_frame_folder, read_frame_folder
from unmask.media.video import choose_frames


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Eleven frames, of which the n-th has brightness 20 n, and what lies beside them."""
    for number in range(11):
        write_jpeg(tmp_path / f"frame_{number}.jpg", np.full((8, 12, 3), 20 * number, np.uint8), quality=95)
    for name in (".DS_Store", "._frame_0.jpg", "notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


def test_frames_come_in_natural_order_and_evenly_spaced(frames: Path) -> None:
    folder = open_frame_folder(frames)
    assert (len(folder.files), folder.codec) == (11, "jpg")
    read = list(read_frame_folder(folder, choose_frames(11, num_frames=3)))
    assert [(frame.index, frame.time_seconds) for frame in read] == [(0, 0.0), (5, 5.0), (10, 10.0)]
    assert [round(float(frame.image.mean()), -1) for frame in read] == [0, 100, 200]
    assert len(list(read_frame_folder(folder, range(11)))) == 11


def test_damaged_frames_are_left_out_unless_all_are(frames: Path) -> None:
    (frames / "frame_5.jpg").write_bytes(b"no image")
    assert [frame.index for frame in read_frame_folder(open_frame_folder(frames), [0, 5, 10])] == [0, 10]
    for path in frames.glob("frame_*.jpg"):
        path.write_bytes(b"no image")
    with pytest.raises(MediaError, match=r"No frame of '.*frame_10\.jpg"):
        list(read_frame_folder(open_frame_folder(frames), range(11)))


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="contains no frames"):
        open_frame_folder(tmp_path)
