"""Bad input as an attacker posts it: one typed error or a right answer, and no file left anywhere."""

import io
import json
import os
import pickle
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.inference.test_attacks import EPS, SVG, archive, chunk, draw, gif, png, save, tiff, webp
from tests.media.test_mp4 import patch

from unmask.errors import CheckpointError
from unmask.web.api.app import create_app
from unmask.web.api.settings import ModelSettings, ServiceSettings

Make = Callable[[bytes], bytes]
"""Makes a file of a good JPEG, or without it."""

SCRIPT = b"<html><script>alert(1)</script></html>"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the service's folder and the temporary one: all that it could write to."""
    home = tmp_path_factory.mktemp("home")
    (home / "tmp").mkdir()
    return home


@pytest.fixture(scope="module")
def client(start: Callable[..., Any], home: Path) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as change:
        change.setenv("TMPDIR", str(home / "tmp"))
        change.setattr(tempfile, "tempdir", None)
        change.chdir(home)
        limits = {"image_bytes": 4_000_000, "video_bytes": 4_000_000, "files": 3}
        with start(home / "service", limits=limits) as client:
            yield client


def list_files(home: Path) -> list[Path]:
    return sorted(
        path for path in home.rglob("*") if not path.name.startswith("jobs.sqlite") and path.name != "uploads"
    )


@pytest.fixture(autouse=True)
def nothing_stays(client: TestClient, home: Path) -> Iterator[None]:
    before = list_files(home)
    yield
    assert list_files(home) == before


def post(client: TestClient, data: bytes, name: str = "a.jpg", *, route: str = "images") -> Any:
    return client.post(f"/v1/{route}", files=[("files", (name, data))])


def judge_video(client: TestClient, data: bytes, name: str) -> dict[str, Any]:
    """Return the job when it is over, and delete it."""
    answer = post(client, data, name, route="videos")
    assert answer.status_code == 202
    address = answer.headers["location"]
    for _ in range(300):
        job: dict[str, Any] = client.get(address).json()
        if job["state"] in ("done", "failed"):
            break
        time.sleep(0.05)
    assert client.delete(address).status_code == 204
    return job


def animate_webp(num_frames: int) -> bytes:
    pixels = save(Image.new("RGB", (8, 8)), "WEBP", lossless=True)[12:]
    frame = bytes(6) + b"\7\0\0" * 2 + b"\1\0\0\0" + pixels
    head = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + b"\7\0\0" * 2 + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body = b"WEBP" + head + (b"ANMF" + struct.pack("<I", len(frame)) + frame) * num_frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animate_gif(num_frames: int) -> bytes:
    pixels = save(Image.new("P", (200, 200)), "GIF")
    frame = b"\x21\xf9\x04\0\1\0\0\0" + pixels[pixels.rindex(b"\x2c\0\0\0\0") : -1]
    return pixels[:-1] + frame * num_frames + b";"


REFUSED: dict[str, tuple[str, Make, str]] = {
    "nothing": ("a.jpg", lambda _: b"", "is empty (0 bytes). Download or copy it again"),
    "cut jpeg": ("a.jpg", lambda jpeg: jpeg[:700], "is truncated"),
    "cut png": ("a.png", lambda _: save(draw(), "PNG")[:700], "cannot be read as an image"),
    "cut webp": ("a.webp", lambda _: save(draw(), "WEBP")[:700], "cannot be read as an image"),
    "zip": ("a.zip", lambda _: archive(), "is not an image"),
    "zip named jpg": ("a.jpg", lambda _: archive(), "is not an image"),
    "pdf with a jpeg": ("a.pdf", lambda jpeg: b"%PDF-1.4\nstream\n" + jpeg, "is not an image"),
    "pdf named jpg": ("a.jpg", lambda jpeg: b"%PDF-1.4\nstream\n" + jpeg, "is not an image"),
    "html named jpg": ("a.jpg", lambda jpeg: SCRIPT + jpeg, "is not an image"),
    "svg with entities": ("a.svg", lambda _: SVG, "neither an image nor a video"),
    "svg named png": ("a.png", lambda _: SVG, "neither an image nor a video"),
    "postscript": ("a.jpg", lambda _: EPS, "neither an image nor a video"),
    "pickle": ("a.jpg", lambda _: pickle.dumps(Payload(Path("ran"))), "is not an image"),
    "png of 30,000 px": ("a.png", lambda _: png(30_000, 30_000), "maximum of 100,000,000"),
    "gif of 30,000 px": ("a.gif", lambda _: gif(30_000), "maximum of 100,000,000"),
    "tiff of 30,000 px": ("a.tif", lambda _: tiff(30_000), "maximum of 100,000,000"),
    "webp of 16,383 px": ("a.webp", lambda _: webp(16_383), "maximum of 100,000,000"),
    "bomb in a text": (
        "a.png", lambda _: png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))), "too large",
    ),
}  # fmt: skip

JUDGED: dict[str, tuple[str, Make]] = {
    "jpeg named mp4": ("a.mp4", lambda jpeg: jpeg),
    "jpeg named txt": ("a.txt", lambda jpeg: jpeg),
    "jpeg and zip": ("a.jpg", lambda jpeg: jpeg + archive()),
    "jpeg and pdf": ("a.pdf", lambda jpeg: jpeg + b"%PDF-1.4\ntrailer\n%%EOF"),
    "jpeg and html": ("a.html", lambda jpeg: jpeg + SCRIPT),
    "png and script": ("a.js", lambda jpeg: save(Image.open(io.BytesIO(jpeg)), "PNG") + SCRIPT),
    "gif and script": ("a.js", lambda jpeg: save(Image.open(io.BytesIO(jpeg)), "GIF") + b"=1;alert(1)" + SCRIPT),
}


class Payload:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_file_gets_one_typed_error(client: TestClient, media: Path, case: str) -> None:
    name, make, told = REFUSED[case]
    answer = post(client, make((media / "face.jpg").read_bytes()), name)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "unreadable_file")
    assert answer.headers["content-type"] == "application/problem+json"
    assert told in problem["detail"]
    assert problem["detail"].count(f"'{name}'") == 1
    assert [row["code"] for row in problem["errors"]] == ["unreadable_file"]
    assert "root:" not in answer.text


@pytest.mark.parametrize("case", JUDGED)
def test_polyglot_or_wrong_name_is_judged_as_the_image_it_is(client: TestClient, media: Path, case: str) -> None:
    name, make = JUDGED[case]
    (row,) = post(client, make((media / "face.jpg").read_bytes()), name).json()["results"]
    assert (row["kind"], row["name"], len(row["faces"])) == ("image", name, 1)


@pytest.mark.parametrize(("name", "make"), [("a.gif", animate_gif), ("a.webp", animate_webp)])
def test_of_ten_thousand_frames_the_first_is_judged_at_no_more_cost(
    client: TestClient, name: str, make: Callable[[int], bytes]
) -> None:
    data, start = make(10_000), time.monotonic()
    (row,) = post(client, data, name).json()["results"]
    assert row["notes"] == ["The file is an animation: only its first image was examined."]
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("seconds", [1, 4_000_000_000])
def test_lying_duration_of_a_video_changes_nothing(
    client: TestClient, media: Path, tmp_path: Path, seconds: int
) -> None:
    (path := tmp_path / "lies.mp4").write_bytes((media / "clip.mp4").read_bytes())
    for box, offset in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        patch(path, box, offset, seconds)
    honest = judge_video(client, (media / "clip.mp4").read_bytes(), "clip.mp4")["result"]
    lying = judge_video(client, path.read_bytes(), "clip.mp4")["result"]
    assert lying["score"] == pytest.approx(honest["score"])
    assert [frame["index"] for frame in lying["frames"]] == [frame["index"] for frame in honest["frames"]]


def test_video_that_claims_a_hundred_million_frames_fails_its_job(
    client: TestClient, media: Path, tmp_path: Path
) -> None:
    (path := tmp_path / "lies.mp4").write_bytes((media / "clip.mp4").read_bytes())
    job = judge_video(client, patch(path, b"stsz", 4, 1, 100_000_000).read_bytes(), "lies.mp4")
    assert (job["state"], job["error"]["code"]) == ("failed", "unreadable_file")
    assert "'lies.mp4' claims 100,000,000 frames" in job["error"]["detail"]


VIDEOS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "nothing": ("a.mp4", lambda _: b"", "is empty (0 bytes)"),
    "cut": ("a.mp4", lambda clip: clip[: len(clip) // 2], "cannot be read as a video"),
    "zip": ("a.mp4", lambda _: archive(), "cannot be read as a video"),
    "playlist": (
        "a.m3u8",
        lambda _: b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n",
        "is neither an image nor a video, but text",
    ),
    "list of files": ("a.mp4", lambda _: b"ffconcat version 1.0\nfile /etc/passwd\n", "cannot be read as a video"),
}


@pytest.mark.parametrize("case", VIDEOS)
def test_hostile_video_fails_its_job_with_one_typed_error(client: TestClient, media: Path, case: str) -> None:
    name, make, told = VIDEOS[case]
    job = judge_video(client, make((media / "clip.mp4").read_bytes()), name)
    assert (job["state"], job["error"]["code"]) == ("failed", "unreadable_file")
    assert told in job["error"]["detail"]
    assert f"'{name}'" in job["error"]["detail"]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.zip", "clip.jpg"])
def test_video_and_zip_in_one_is_judged_as_the_video_it_is(client: TestClient, media: Path, name: str) -> None:
    job = judge_video(client, (media / "clip.mp4").read_bytes() + archive(), name)
    assert (job["state"], job["result"]["kind"]) == ("done", "video")
    assert job["result"]["frames"]


def draw_crowd(client: TestClient, portrait: Image.Image, *, width: int, columns: int, rows: int) -> bytes:
    """Tile a face, cut out where the service finds it."""
    (row,) = post(client, save(portrait, "PNG")).json()["results"]
    left, top, right, bottom = row["faces"][0]["box"]
    tile = portrait.crop((round(left) - 30, round(top) - 30, round(right) + 30, round(bottom) + 30))
    tile = tile.resize((width, round(width * tile.height / tile.width)), Image.Resampling.BOX)
    crowd = Image.new("RGB", (columns * tile.width, rows * tile.height))
    for place in range(columns * rows):
        crowd.paste(tile, (place % columns * tile.width, place // columns * tile.height))
    return save(crowd, "PNG")


def test_of_two_hundred_faces_the_largest_are_scored_and_small_ones_doubted(client: TestClient, media: Path) -> None:
    crowd = draw_crowd(client, Image.open(media / "face.jpg"), width=36, columns=16, rows=13)
    (row,) = post(client, crowd, "crowd.png").json()["results"]
    assert len(row["faces"]) == 64
    many, small = sorted(row["notes"], key=lambda note: "pixels" in note)
    assert int(many.split()[0]) >= 200
    assert many.endswith("faces were found: only the 64 largest were scored (limits.max_faces).")
    assert small.endswith("such a score says little.")
    assert all(15 < face["box"][2] - face["box"][0] < 25 for face in row["faces"])


def test_image_without_a_face_has_neither_score_nor_probability(client: TestClient) -> None:
    (row,) = post(client, save(draw(), "PNG"), "noise.png").json()["results"]
    assert (row["verdict"], row["score"], row["probability"], row["faces"]) == ("no_face", None, None, [])


@pytest.mark.parametrize("route", ["images", "videos"])
def test_name_of_a_file_is_never_a_path(client: TestClient, media: Path, home: Path, route: str) -> None:
    data, name = (media / "face.jpg").read_bytes(), "../../../<b>onerror=x</b>.jpg"
    if route == "videos":
        assert "'b_.jpg' is an image" in judge_video(client, data, name)["error"]["detail"]
    else:
        assert post(client, data, name).json()["results"][0]["name"] == "b_.jpg"
    assert not list(home.parent.rglob("*b_.jpg"))


class Sender:
    """A client that sends an endless file, as a server tells of it, and looks at the disk meanwhile."""

    def __init__(self, home: Path, *, num_pieces: int) -> None:
        self.home, self.left, self.most, self.answer = home, num_pieces, 0, list[dict[str, Any]]()
        self.head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="<a>.jpg"\r\n\r\n'

    async def receive(self) -> dict[str, Any]:
        sizes = {path: path.stat().st_size for path in list_files(self.home) if path.is_file()}
        assert {path.parent.parent for path in sizes} <= {self.home / "service" / "uploads"}, sizes
        self.most = max(self.most, sum(sizes.values()))
        if not self.left:
            return {"type": "http.disconnect"}
        self.left -= 1
        head, self.head = self.head, b""
        return {"type": "http.request", "body": head + bytes(1_000_000), "more_body": True}

    async def send(self, message: dict[str, Any]) -> None:
        self.answer.append(message)

    def start(self, client: TestClient) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
        scope = {
            "type": "http", "method": "POST", "path": "/v1/images", "raw_path": b"/v1/images", "query_string": b"",
            "headers": [(b"content-type", b"multipart/form-data; boundary=x")], "http_version": "1.1",
            "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "root_path": "",
        }  # fmt: skip
        assert client.portal is not None
        client.portal.call(client.app, scope, self.receive, self.send)
        return self.answer[0]["status"], dict(self.answer[0]["headers"]), json.loads(self.answer[1]["body"])


def test_file_above_the_limit_ends_the_request_early(client: TestClient, home: Path) -> None:
    sender = Sender(home, num_pieces=11)  # below the limit of the request, above that of a file
    status, headers, problem = sender.start(client)
    assert (status, problem["code"]) == (413, "file_too_large")
    assert all(part in problem["detail"] for part in ("'_a_.jpg'", "4,000,000 bytes", "service.image_bytes"))
    assert headers[b"connection"] == b"close"
    assert 0 < sender.most <= 4_000_000
    assert sender.left > 5


def test_disconnecting_client_is_not_logged_as_a_bug(
    client: TestClient, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender(home, num_pieces=3)
    status, _, problem = sender.start(client)
    assert (status, problem["code"]) == (400, "broken_off")
    assert sender.most > 1_000_000
    assert "defect" not in caplog.text


@pytest.mark.parametrize("kind", ["checkpoint", "bundle"])
def test_service_of_a_model_that_would_run_code_does_not_start(tmp_path: Path, bundle: Path, kind: str) -> None:
    evil, ran = tmp_path / "evil.ckpt", tmp_path / "ran"
    if kind == "bundle":
        evil.mkdir()
        for file in bundle.iterdir():
            (evil / file.name).write_bytes(file.read_bytes())
        (evil / "spec.json").write_bytes(pickle.dumps(Payload(ran)))
    else:
        evil.write_bytes(pickle.dumps({"state_dict": Payload(ran)}, protocol=2))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt"):
        create_app(ServiceSettings(ModelSettings(str(evil)), tmp_path / "service"))
    assert not ran.exists()
