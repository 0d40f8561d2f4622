"""Files made to do damage, or merely odd, given to the app: one clear message or a verdict, and no file left."""

import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as PilImage
from streamlit.testing.v1 import AppTest
from tests.inference.test_attacks import REFUSED, SCORED, archive, draw, save
from tests.media.test_mp4 import patch
from tests.web.app.conftest import paint
from tests.web.app.pages import give, open_app
from tests.web.app.pages import said as said_in_markdown

from unmask.inference.limits import Limits
from unmask.media.encode import write_video
from unmask.types import Face, Image
from unmask.web.app.models import read_settings


def said(page: AppTest) -> str:
    return said_in_markdown(page).replace("\\", "")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


class Crowd:
    """Finds as many faces as it is told."""

    name, weights_sha256 = "none", ""

    def __init__(self, num_faces: int, side: float) -> None:
        self.faces = [Face((4.0 * n, 0.0, 4.0 * n + side, side), None, 0.9) for n in range(num_faces)]

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        return [self.faces for _ in images]


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float], None]:
    """Have the detector find so many faces of such a side."""

    def find(num_faces: int, side: float) -> None:
        monkeypatch.setattr("unmask.inference.predictor.build_detector", lambda *_, **__: Crowd(num_faces, side))

    return find


def make_animation(kind: str, num_frames: int) -> bytes:
    """An animation whose images all differ, lest the writer join them."""
    frames = [PilImage.new("RGB", (8, 8), (level % 256, level // 256, 0)) for level in range(num_frames)]
    return save(frames[0], kind, save_all=True, append_images=frames[1:])


def make_long_gif(num_frames: int) -> bytes:
    """A GIF that repeats one image, which costs few bytes."""
    pixels = save(PilImage.new("P", (200, 200)), "GIF")
    frame = b"\x21\xf9\x04\x00\x01\x00\x00\x00\x2c" + struct.pack("<HHHHB", 0, 0, 200, 200, 0)
    return pixels[:-1] + (frame + pixels[pixels.index(b"\x2c") + 10 : -1]) * num_frames + b";"


def make_video(folder: Path, *, num_frames: int = 8) -> Path:
    path = folder / "clip.mp4"
    write_video(path, [paint(number) for number in range(num_frames)], fps=8)
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_file_gets_one_error_message(bundle: Path, temporary: Path, case: str) -> None:
    name, make, _ = REFUSED[case]
    page = give(open_app(), (name, make()))
    assert "Cannot be read" in said(page)
    (message,) = [part.value for part in page.markdown if f"'{name}'" in part.value.replace("\\", "")]
    assert str(temporary) not in message
    assert "Traceback" not in said(page)
    assert not page.metric
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("case", SCORED)
def test_an_odd_image_gets_a_verdict(bundle: Path, temporary: Path, case: str) -> None:
    name, make = SCORED[case]
    page = give(open_app(), (name, make()))
    assert "above the threshold" in said(page)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("kind", "name"), [("GIF", "a.gif"), ("WEBP", "a.webp"), ("PNG", "a.png")])
def test_only_the_first_image_of_an_animation_is_examined_with_a_note(
    bundle: Path, temporary: Path, kind: str, name: str
) -> None:
    page = give(open_app(), (name, make_animation(kind, 20)))
    assert "The file is an animation: only its first image was examined." in said(page)
    assert list(temporary.iterdir()) == []


def test_ten_thousand_frames_of_an_animation_cost_no_more_than_one(bundle: Path, temporary: Path) -> None:
    page, data = open_app(), make_long_gif(10_000)
    give(page, ("warm.png", save(draw(), "PNG")))
    start = time.perf_counter()
    give(page, ("a.gif", data))
    assert time.perf_counter() - start < 5
    assert "only its first image was examined" in said(page)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("seconds", [1, 4_000_000_000])
def test_a_lying_duration_does_not_stretch_the_timeline(bundle: Path, temporary: Path, seconds: int) -> None:
    path = make_video(temporary)
    for box, offset in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        patch(path, box, offset, seconds)
    data = path.read_bytes()
    path.unlink()
    page = give(open_app(), ("clip.mp4", data))
    assert "Examined 6 of " in said(page)
    assert "from 0:00.0 to 0:00.9" in said(page)
    assert list(temporary.iterdir()) == []


def test_a_zip_appended_to_a_video_is_ignored(bundle: Path, temporary: Path, clip_bytes: bytes) -> None:
    page = give(open_app(), ("clip.zip", clip_bytes + archive()))
    assert "Suspicious stretches" in said(page)
    assert list(temporary.iterdir()) == []


def test_no_face_is_not_called_real(bundle: Path, find: Callable[..., None]) -> None:
    find(0, 0)
    page = give(open_app(), ("a.png", save(draw(), "PNG")))
    assert "No face found" in said(page)
    assert "does not mean it is real" in said(page)
    assert not page.metric


def test_the_largest_of_two_hundred_faces_are_scored_with_a_note(bundle: Path, find: Callable[..., None]) -> None:
    find(200, 60)
    page = give(open_app(), ("a.png", save(draw((100, 900)), "PNG")))
    assert "200 faces were found: only the 64 largest were scored (limits.max_faces)." in said(page)
    (faces,) = [box for box in page.selectbox if box.label == "Face"]
    assert len(faces.options) == 12  # as many as are kept to look closer at


def test_faces_of_twenty_pixels_get_a_note(bundle: Path, find: Callable[..., None]) -> None:
    find(1, 20)
    page = give(open_app(), ("a.png", save(draw(), "PNG")))
    assert "The face is smaller than 40 pixels (the smallest 20): such a score says little." in said(page)


def test_notes_say_what_was_left_out_of_a_video(
    bundle: Path, temporary: Path, find: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, limits = read_settings(), Limits(max_frames=4, max_faces=3)
    settings = replace(settings, predictor=replace(settings.predictor, every_n=1, limits=limits))
    monkeypatch.setattr("unmask.web.app.models.read_settings", lambda: settings)
    find(70, 20)
    text = said(give(open_app(), ("clip.mp4", make_video(temporary, num_frames=30).read_bytes())))
    assert "30 frames were asked for: only 4 of them, evenly spaced, were examined (limits.max_frames)." in text
    assert "Up to 70 faces were found in a frame: only the 3 largest were scored (limits.max_faces)." in text
    assert "3 of 3 faces are smaller than 40 pixels" in text


def test_a_batch_has_the_notes_of_each_file(bundle: Path, find: Callable[..., None]) -> None:
    find(1, 20)
    page = give(open_app(), ("a.gif", make_animation("GIF", 3)), ("b.png", save(draw(), "PNG")), ("c.png", b""))
    notes = dict(zip(page.dataframe[0].value["file"], page.dataframe[0].value["notes"], strict=True))
    small = "The face is smaller than 40 pixels (the smallest 20): such a score says little."
    assert notes == {
        "a.gif": f"The file is an animation: only its first image was examined. {small}",
        "b.png": small,
        "c.png": "'c.png' is empty (0 bytes). Download or copy it again.",
    }
