"""Files made to do damage, or merely odd: one typed error or a right answer, and no file left."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from unmask.errors import ConfigError, MediaError
from unmask.faces.spec import CropSpec
from unmask.inference.limits import Input, Limits
from unmask.inference.predictor import Predictor, watch_inputs
from unmask.media.encode import write_video
from unmask.types import Face, Image, Verdict

Make = Callable[[], bytes]


def draw(size: tuple[int, int] = (60, 80)) -> PilImage.Image:
    return PilImage.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))


def save(image: PilImage.Image, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(height * (3 * width + 1)) if width < 100 else b""))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def webp(side: int) -> bytes:
    data = b"\x2f" + struct.pack("<I", (side - 1) | ((side - 1) << 14)) + bytes(9)
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif(side: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\x00;"
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0) + frame


def tiff(side: int) -> bytes:
    tags = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, side), (279, 4, side * side)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def archive() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("photo.jpg", save(draw(), "JPEG"))
    return data.getvalue()


SVG = b"""<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"><text>&x;</text></svg>"""
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(pwned) (w) file closefile\nshowpage\n"

REFUSED: dict[str, tuple[str, Make, str]] = {
    "nothing": ("a.jpg", lambda: b"", r"is empty \(0 bytes\)"),
    "truncated jpeg": ("a.jpg", lambda: save(draw(), "JPEG")[:700], "truncated.*Download or export it again"),
    "truncated webp": ("a.webp", lambda: save(draw(), "WEBP")[:700], "cannot be read as an image"),
    "a zip": ("a.zip", archive, "is neither an image nor a video"),
    "a zip named jpg": ("a.jpg", archive, "is not an image and cannot be read as a video: its format"),
    "svg with external entities": ("a.svg", lambda: SVG, "is neither an image nor a video"),
    "svg named png": ("a.png", lambda: SVG, "cannot be read as an image"),
    "postscript": ("a.eps", lambda: EPS, "is neither an image nor a video"),
    "postscript named jpg": ("a.jpg", lambda: EPS, "cannot be read as an image: it is none of JPEG"),
    "html": ("a.jpg", lambda: b"<html><script>alert(1)</script></html>", "cannot be read as an image"),
    "pickle": ("a.jpg", lambda: b"\x80\x04\x95cos\nsystem\n", "cannot be read as an image"),
    "png of 30,000 px": ("a.png", lambda: png(30_000, 30_000), "100,000,000. Raise the limit"),
    "webp of 16,383 px": ("a.webp", lambda: webp(16_383), "100,000,000. Raise the limit"),
    "gif of 30,000 px": ("a.gif", lambda: gif(30_000), "100,000,000. Raise the limit"),
    "tiff of 30,000 px": ("a.tif", lambda: tiff(30_000), "100,000,000. Raise the limit"),
    "tiff without its pixels": ("a.tif", lambda: tiff(1000), "truncated"),
    "png whose text swells": (
        "a.png", lambda: png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))), "too large",
    ),
    "png whose colours swell": (
        "a.png", lambda: png(8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000)))), "too large",
    ),
    "a playlist": ("a.m3u8", lambda: b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n", "is neither an image nor a video"),
    "a list of files": ("a.mp4", lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", "cannot be read as a video"),
}  # fmt: skip

SCORED: dict[str, tuple[str, Make]] = {
    "jpeg named mp4": ("a.mp4", lambda: save(draw(), "JPEG")),
    "jpeg named txt": ("a.txt", lambda: save(draw(), "JPEG")),
    "jpeg without a suffix": ("photo", lambda: save(draw(), "JPEG")),
    "jpeg and zip in one": ("a.jpg", lambda: save(draw(), "JPEG") + archive()),
    "jpeg and html in one": ("a.jpg", lambda: save(draw(), "JPEG", comment=b"<script>alert(1)</script>")),
    "png whose pixels swell": ("a.png", lambda: png(8, 8, chunk(b"IDAT", zlib.compress(bytes(50_000_000))))),
    "one pixel": ("a.png", lambda: save(draw((1, 1)), "PNG")),
    "one row": ("a.png", lambda: save(draw((1, 5000)), "PNG")),
    "one column": ("a.png", lambda: save(draw((5000, 1)), "PNG")),
}


@pytest.fixture
def predictor(spec: CropSpec, make_checkpoint: Callable[..., Path]) -> Predictor:
    return Predictor.load(make_checkpoint(spec), device="cpu")


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_file_gets_one_typed_error_and_leaves_nothing(
    predictor: Predictor, in_folder: Path, case: str
) -> None:
    name, make, words = REFUSED[case]
    folder = in_folder / "given"
    folder.mkdir()
    (folder / name).write_bytes(make())
    before = sorted(in_folder.rglob("*"))
    with pytest.raises(MediaError, match=words) as caught:
        predictor.predict_file(folder / name)
    assert f"'{folder / name}'" in str(caught.value)
    with pytest.raises(MediaError, match=r"'upload 1'") as caught:
        predictor.predict_file(folder / name, name="upload 1")
    assert str(folder) not in str(caught.value)  # a service does not tell where it keeps files
    (step,) = watch_inputs(predictor, [Input(folder / name)])
    assert step.prediction is not None
    assert step.prediction.error
    assert sorted(in_folder.rglob("*")) == before


@pytest.mark.parametrize("case", SCORED)
def test_an_odd_image_is_what_it_holds(predictor: Predictor, in_folder: Path, case: str) -> None:
    name, make = SCORED[case]
    (in_folder / name).write_bytes(make())
    before = sorted(in_folder.rglob("*"))
    assert predictor.predict_file(in_folder / name).verdict is Verdict.NO_FACE
    assert sorted(in_folder.rglob("*")) == before


@pytest.mark.parametrize(("kind", "suffix"), [("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png")])
def test_of_an_animation_one_image_is_decoded_and_that_is_said(
    predictor: Predictor, in_folder: Path, kind: str, suffix: str
) -> None:
    frames = [PilImage.new("RGB", (8, 8), (level % 256, level // 256, 0)) for level in range(300)]
    path = in_folder / f"a.{suffix}"
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    prediction = predictor.predict_file(path)
    assert len(prediction.frames) == 1
    assert prediction.notes == ("The file is an animation: only its first image was examined.",)


def test_ten_thousand_frames_cost_no_more_than_one(predictor: Predictor, in_folder: Path) -> None:
    import time

    frame = b"\x21\xf9\x04\x00\x01\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 800, 800, 0)
    pixels = save(PilImage.new("P", (800, 800)), "GIF")
    data = pixels[pixels.index(b"\x2c") + 10 : -1]
    (in_folder / "a.gif").write_bytes(pixels[:-1] + (frame + data) * 10_000 + b";")
    start = time.perf_counter()
    assert "animation" in predictor.predict_file(in_folder / "a.gif").notes[0]
    assert time.perf_counter() - start < 5


class Crowd:
    """Finds as many faces as it is told, the largest first."""

    name, weights_sha256 = "haar", ""

    def __init__(self, num_faces: int, side: float) -> None:
        self.num_faces, self.side = num_faces, side

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        face = [
            Face((4.0 * place, 0.0, 4.0 * place + self.side, self.side), None, 0.9) for place in range(self.num_faces)
        ]
        return [face for _ in images]


def test_of_two_hundred_faces_the_largest_are_scored_and_that_is_said(predictor: Predictor, in_folder: Path) -> None:
    predictor.detector = Crowd(200, 60.0)
    prediction = predictor.predict_image(np.asarray(draw((100, 900))))
    assert len(prediction.faces) == 64
    assert prediction.notes == ("200 faces were found: only the 64 largest were scored (limits.max_faces).",)
    predictor.limits = Limits(max_faces=3)
    write_video(in_folder / "a.mp4", [np.asarray(draw((100, 100)))] * 4, fps=5)
    video = predictor.predict_video(in_folder / "a.mp4")
    assert {len(frame.faces) for frame in video.frames} == {3}
    assert video.notes == ("Up to 200 faces were found in a frame: only the 3 largest were scored (limits.max_faces).",)


def test_faces_of_twenty_pixels_are_scored_and_their_score_is_doubted(predictor: Predictor) -> None:
    predictor.detector = Crowd(1, 20.0)
    prediction = predictor.predict_image(np.asarray(draw()))
    assert prediction.verdict is not Verdict.NO_FACE
    assert prediction.notes == ("The face is smaller than 40 pixels (the smallest 20): such a score says little.",)


def test_limits_of_a_video_refuse_or_thin_out_and_say_so(predictor: Predictor, in_folder: Path) -> None:
    path = in_folder / "a.mp4"
    write_video(path, [np.asarray(draw((64, 64)))] * 30, fps=10)
    predictor.every_n, predictor.limits = 1, Limits(max_frames=4)
    prediction = predictor.predict_video(path)
    assert [frame.index for frame in prediction.frames] == [0, 10, 19, 29]
    assert (
        prediction.notes[0]
        == "30 frames were asked for: only 4 of them, evenly spaced, were examined (limits.max_frames)."
    )
    assert "4 of 30 frames" in prediction.notes[1]
    predictor.limits = Limits(max_seconds=2)
    with pytest.raises(MediaError, match=r"a\.mp4' is 3\.0 seconds.* 2 .*limits\.max_seconds=[34],"):
        predictor.predict_video(path)
    predictor.limits = Limits(max_pixels=4000)
    with pytest.raises(MediaError, match="64 x 64 pixels, more than the maximum of 4,000"):
        predictor.predict_video(path)
    (in_folder / "a.jpg").write_bytes(save(draw(), "JPEG"))
    with pytest.raises(MediaError, match="80 x 60 pixels, more than the maximum of 4,000"):
        predictor.predict_file(in_folder / "a.jpg")


def test_a_limit_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"limits\.max_faces=0 must be above 0"):
        Limits(max_faces=0)


def test_frames_that_cannot_be_decoded_are_counted(predictor: Predictor, in_folder: Path) -> None:
    path = in_folder / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3), dtype=np.uint8)
    write_video(path, noise, fps=10, crf=1)
    data = path.read_bytes()
    start, end = data.index(b"mdat"), data.index(b"moov")
    cut = start + 2 * (end - start) // 3
    path.write_bytes(data[:cut] + bytes(end - 4 - cut) + data[end - 4 :])
    prediction = predictor.predict_video(path)
    num_examined = len(prediction.frames)
    assert 0 < num_examined < 60
    assert prediction.notes[0] == f"{60 - num_examined} of 60 frames could not be decoded."
    assert f"{num_examined} of 60 frames" in prediction.notes[1]
    assert (prediction.num_examined, prediction.num_frames) == (num_examined, 60)


def test_a_row_of_notes_is_plain(predictor: Predictor) -> None:
    predictor.detector = Crowd(1, 20.0)
    row = predictor.predict_image(np.asarray(draw())).to_dict()
    assert json.loads(json.dumps(row))["notes"] == list(row["notes"])
