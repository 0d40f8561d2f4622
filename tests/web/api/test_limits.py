import asyncio
import io
import json
import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from unmask.cli.serve import build_settings
from unmask.config import read_defaults
from unmask.errors import ConfigError
from unmask.web.api.settings import (
    JsonLines,
    ModelSettings,
    ServiceLimits,
    ServiceSettings,
    check_hashes,
    hash_key,
    is_known,
    make_key,
)


@pytest.fixture(autouse=True)
def nothing_stays(service_folder: Path) -> Iterator[None]:
    yield
    assert not list((service_folder / "uploads").glob("*"))


def post(client: TestClient, data: bytes, name: str = "a.jpg") -> Any:
    return client.post("/v1/images", files=[("files", (name, data))])


def test_too_large_a_file_is_refused(client: TestClient) -> None:
    answer = post(client, bytes(600_001))
    assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")
    assert all(part in answer.json()["detail"] for part in ("'a.jpg'", "600,000 bytes", "service.image_bytes"))


def test_too_large_a_request_is_refused_before_it_is_read(client: TestClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "2000000000"}
    answer = client.post("/v1/images", content=b"", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.headers["connection"] == "close"


def test_too_many_files_are_refused_with_a_fix(client: TestClient, media: Path) -> None:
    data = (media / "face.jpg").read_bytes()
    answer = client.post("/v1/images", files=[("files", ("a.jpg", data))] * 4)
    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_files")
    assert "more than 3 files (service.files)" in answer.json()["detail"]
    answer = client.post("/v1/videos", files=[("files", ("a.mp4", b"x"))] * 2)
    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_files")
    assert "more than one file" in answer.json()["detail"]


def test_other_fields_are_refused(client: TestClient, media: Path) -> None:
    data = (media / "face.jpg").read_bytes()
    answer = client.post("/v1/images", files=[("file", ("a.jpg", data))])
    assert (answer.status_code, answer.json()["code"]) == (422, "no_file")
    answer = client.post("/v1/images", files=[("files", ("a.jpg", data))], data={"more": "1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")


def test_body_that_is_not_a_form_is_refused(client: TestClient) -> None:
    assert client.post("/v1/images", json={}).json()["code"] == "not_multipart"
    broken = client.post("/v1/images", content=b"--y", headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert (broken.status_code, broken.json()["code"]) == (400, "malformed_body")


@pytest.mark.parametrize("charset", ["undefined", "idna", "punycode", "zlib", "klingon", "utf-16", '"a\0b"', "\xe9"])
def test_form_in_an_unknown_charset_is_refused(client: TestClient, charset: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}".encode("latin-1")}
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="\xff.jpg"\r\n\r\nx\r\n--x--\r\n'
    answer = client.post("/v1/images", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "charset=utf-8" in answer.json()["detail"]


@pytest.mark.parametrize("charset", ["UTF-8", '"utf-8"', "iso-8859-1", "windows-1252"])
def test_form_in_a_usual_charset_is_read(client: TestClient, charset: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="\x81.jpg"\r\n\r\nx\r\n--x--\r\n'
    answer = client.post("/v1/images", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable_file")


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.jpg", b"x")
    return buffer.getvalue()


SVG = b"""<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>"""


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.jpg", b"", "is empty (0 bytes)"),
        ("a.svg", SVG, "neither an image nor a video"),
        ("a.jpg", SVG, "neither an image nor a video"),
        ("a.zip", _zip(), "is not an image"),
        ("a.mp3", b"ID3" + bytes(500), "is not an image"),
    ],
)
def test_what_is_not_an_image_is_reported(client: TestClient, name: str, data: bytes, told: str) -> None:
    answer = post(client, data, name)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert f"'{name}'" in answer.json()["detail"]
    assert "root:" not in answer.text


def test_image_with_too_many_pixels_is_refused_without_decoding(
    client: TestClient, huge_png: Callable[..., Path]
) -> None:
    answer = post(client, huge_png(30_000, 30_000).read_bytes(), "bomb.png")
    assert answer.status_code == 422
    told = answer.json()["detail"]
    assert "'bomb.png' holds 900,000,000 pixels, more than the maximum of 100,000,000" in told
    assert "limits.max_pixels is a limit of this service, which its operator can raise" in told


def test_polyglot_is_judged_as_the_image_it_is(client: TestClient, media: Path) -> None:
    answer = post(client, (media / "face.jpg").read_bytes() + _zip() + b"<script>alert(1)</script>")
    assert answer.status_code == 200
    assert answer.json()["results"][0]["kind"] == "image"


def test_animation_of_ten_thousand_frames_is_judged_by_its_first(client: TestClient) -> None:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (number % 256, number // 256, 0)) for number in range(10_000)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    (row,) = post(client, buffer.getvalue(), "a.gif").json()["results"]
    assert row["verdict"] == "no_face"
    assert any("only its first image" in note for note in row["notes"])


def test_slow_body_times_out(client: TestClient) -> None:
    """Speaks ASGI itself, as a server does for a client that sends half a body and then nothing."""
    sent: list[dict[str, Any]] = []
    calls = 0

    async def receive() -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls > 1:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": b"--x\r\n", "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/images", "raw_path": b"/v1/images", "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=x")], "http_version": "1.1", "scheme": "http",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip
    assert client.portal is not None
    client.portal.call(client.app, scope, receive, send)
    assert sent[0]["status"] == 408
    assert dict(sent[0]["headers"])[b"connection"] == b"close"
    assert b"no data for 1 s" in sent[1]["body"]


def test_busy_service_sends_retry_after(client: TestClient, media: Path) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    taken = 0
    while service.take_place():
        taken += 1
    answer = post(client, (media / "face.jpg").read_bytes())
    for _ in range(taken):
        service.give_place()
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert int(answer.headers["retry-after"]) > 0
    assert post(client, (media / "face.jpg").read_bytes()).status_code == 200


def test_key_is_required_if_keys_are_configured(start: Callable[..., Any], tmp_path: Path) -> None:
    key = make_key()
    with start(tmp_path, api_keys=(hash_key(make_key()), hash_key(key)), cors_origins=("https://a.example",)) as client:
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": f"Basic {key}"}):
            answer = client.get("/v1/model", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unknown_key")
        assert client.get("/v1/model", headers={"X-API-Key": key}).status_code == 200
        assert client.get("/v1/model", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 401
        allowed = client.get("/healthz", headers={"Origin": "https://a.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        other = client.get("/healthz", headers={"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers
        assert client.get("/openapi.json").json()["paths"]["/v1/model"]["get"]["security"]


def test_configuration_holds_hashes_of_keys_only() -> None:
    key = make_key()
    assert is_known(key, [hash_key(key)])
    assert not is_known("", [hash_key(key)])
    check_hashes([hash_key(key)])
    digits = "é" * 64, "A" * 64, hash_key(key)[7:] + "\n"
    told = "^Entry 2 of 2 in api_keys is not a key hash.* Make a key and its hash with"
    for wrong in (key, "hunter2", hash_key(key).upper(), *(f"sha256:{some}" for some in digits)):
        with pytest.raises(ConfigError, match=told) as caught:
            check_hashes([hash_key(key), wrong])
        assert wrong[:7] not in str(caught.value).replace("'sha256:'", "")


def test_limits_must_be_above_zero(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"service\.files=0 must be above 0"):
        ServiceLimits(files=0)
    with pytest.raises(ConfigError, match="image_workers=0 must be at least 1"):
        ServiceSettings(ModelSettings("x"), tmp_path, image_workers=0)


@pytest.mark.parametrize(("asked", "taken"), [(None, min(4, os.cpu_count() or 1)), (3, 3), (0, None)])
def test_number_of_workers_is_as_configured(bundle: Path, asked: int | None, taken: int | None) -> None:
    cfg = read_defaults("serve")
    cfg.checkpoint, cfg.image_workers = str(bundle), asked
    if taken is None:
        with pytest.raises(ConfigError, match="image_workers=0 must be at least 1"):
            build_settings(cfg)
    else:
        assert build_settings(cfg).image_workers == taken


def test_log_is_json_without_contents_of_files(client: TestClient, media: Path) -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.setFormatter(JsonLines())
    log = logging.getLogger("unmask.web.api")
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        post(client, (media / "face.jpg").read_bytes(), "secret name.jpg")
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    (entry,) = [json.loads(line) for line in lines]
    assert (entry["event"], entry["route"], entry["status"]) == ("request", "/v1/images", 200)
    assert entry["request_id"]
    assert "secret" not in lines[0]
