import base64
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from unmask.inference.predictor import Predictor
from unmask.media.kinds import IMAGE_NAMES, VIDEO_SUFFIXES
from unmask.web.api.app import STATIC


def send(client: TestClient, *files: Path, names: tuple[str, ...] = (), **options: Any) -> Any:
    parts = [
        ("files", (name, path.read_bytes())) for path, name in zip(files, names or [f.name for f in files], strict=True)
    ]
    return client.post("/v1/images", files=parts, **options)


def test_image_gets_the_score_of_the_predictor(client: TestClient, media: Path, bundle: Path) -> None:
    (row,) = send(client, media / "face.jpg").json()["results"]
    expected = Predictor.load(bundle, margin=0.05).predict_image(media / "face.jpg")
    assert row["score"] == pytest.approx(expected.score, abs=1e-6)
    assert (row["name"], row["kind"], row["verdict"]) == ("face.jpg", "image", expected.verdict)
    assert row["faces"][0]["box"] == pytest.approx(expected.faces[0].box)
    assert row["threshold"] == expected.threshold
    assert np.allclose(row["faces"][0]["landmarks"], expected.frames[0].faces[0].landmarks)


def test_face_comes_with_crop_and_heat_map_if_asked_for(client: TestClient, media: Path) -> None:
    (row,) = send(client, media / "face.jpg").json()["results"]
    for key in ("crop", "heatmap"):
        head, _, data = row["faces"][0][key].partition(",")
        assert head == "data:image/jpeg;base64"
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape[0] == image.shape[1] == 64
    (row,) = send(client, media / "face.jpg", params={"heatmaps": "false"}).json()["results"]
    assert "heatmap" not in row["faces"][0]


def test_bad_file_among_good_ones_has_its_own_error(client: TestClient, media: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes((media / "face.jpg").read_bytes()[:700])
    answer = send(client, media / "face.jpg", tmp_path / "cut.jpg")
    good, bad = answer.json()["results"]
    assert (answer.status_code, good["verdict"] is not None) == (200, True)
    assert (bad["name"], bad["code"]) == ("cut.jpg", "unreadable_file")
    assert "cut.jpg" in bad["error"]
    assert str(tmp_path) not in bad["error"]


def test_text_file_error_names_its_kind_and_the_accepted_formats(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello " * 50)
    detail = send(client, tmp_path / "notes.txt").json()["detail"]
    for told in ("'notes.txt' is neither an image nor a video, but text", "JPEG", "HEIC", "MP4", "POST /v1/videos"):
        assert told in detail


def test_video_among_images_is_refused_with_its_route(client: TestClient, media: Path) -> None:
    answer = send(client, media / "clip.mp4")
    assert answer.status_code == 422
    assert all(part in answer.json()["detail"] for part in ("'clip.mp4'", "POST /v1/videos"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"), ("..\\..\\boot.ini", "boot.ini"), ("<img src=x onerror=alert(1)>.jpg", "_img"),
        ("a\x1b[31m.jpg", "a"), ("x" * 500 + ".jpg", "xxx"), ("...", "upload"),
    ],
)  # fmt: skip
def test_file_names_are_sanitized(client: TestClient, media: Path, service_folder: Path, name: str, shown: str) -> None:
    (row,) = send(client, media / "face.jpg", names=(name,)).json()["results"]
    assert row["name"].startswith(shown)
    assert not set(row["name"]) & set('<>"/\\\x1b')
    assert len(row["name"]) <= 120
    assert not list((service_folder / "uploads").iterdir())


def test_every_answer_has_a_request_id_and_keeps_a_given_one(client: TestClient) -> None:
    assert len(client.get("/healthz").headers["X-Request-ID"]) == 32
    answer = client.get("/v1/nowhere", headers={"X-Request-ID": "case-7"})
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == "case-7"
    assert client.get("/healthz", headers={"X-Request-ID": "a b\tc"}).headers["X-Request-ID"] != "a b\tc"


def test_every_error_is_a_problem(client: TestClient) -> None:
    for method, path, status in (
        ("GET", "/v1/nowhere", 404), ("PUT", "/v1/images", 405), ("POST", "/v1/images", 415),
        ("GET", f"/v1/jobs/{'0' * 32}", 404), ("GET", "/v1/jobs/zero", 422),
    ):  # fmt: skip
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        problem = answer.json()
        assert problem["status"] == status
        assert problem["code"] in problem["type"]
        assert problem["instance"] == path
        assert problem["detail"]
    assert client.put(f"/v1/jobs/{'0' * 32}").headers["allow"] == "DELETE, GET"


def list_texts(value: Any) -> list[str]:
    """Return all keys and values below a value, as text."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in list_texts(part)]
    return [text for part in value for text in list_texts(part)] if isinstance(value, list) else [str(value)]


def test_model_description_has_decision_and_limits_but_no_paths(
    client: TestClient, face_dataset: Path, bundle: Path, service_folder: Path
) -> None:
    model = client.get("/v1/model").json()
    texts = list_texts(model)
    private = (face_dataset, bundle, service_folder, Path.home(), Path.cwd(), Path(tempfile.gettempdir()))
    assert len(texts) > 50
    assert not [text for text in texts for path in private if str(path) in text]
    assert not [text for text in texts if text.startswith(("/", "~"))]
    assert model["name"] == "tiny"
    assert 0 < model["decision"]["threshold"] < 1
    assert model["limits"]["service"]["files"] == 3
    assert model["limits"]["file"]["max_faces"] == 64


def test_metrics_count_requests_by_route(client: TestClient, media: Path) -> None:
    send(client, media / "face.jpg")
    text = client.get("/metrics").text
    assert 'unmask_requests_total{method="POST",route="/v1/images",status="200"}' in text
    assert 'unmask_jobs{state="queued"} 0.0' in text
    assert 'unmask_verdicts_total{kind="image"' in text


def test_invented_routes_and_methods_add_no_metrics(client: TestClient) -> None:
    for number in range(3):
        assert client.request(f"MADEUP{number}", "/v1/model").status_code == 405
        assert client.get(f"/made/up/{number}").status_code == 404
    text = client.get("/metrics").text
    assert "MADEUP" not in text
    assert "/made" not in text
    assert 'unmask_requests_total{method="any",route="/v1/model",status="405"} 3.0' in text
    assert 'unmask_requests_total{method="any",route="unknown",status="404"}' in text


def test_health_checks_answer_head_requests(client: TestClient) -> None:
    for path in ("/", "/healthz", "/readyz"):
        assert client.head(path).status_code == 200
        assert client.put(path).headers["allow"] == "GET, HEAD"
    described = client.get("/openapi.json").json()["paths"]
    assert list(described["/healthz"]) == ["get"]


def test_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    for path in ("/static/page.js", "/static/style.css"):
        assert path in page.text
        assert client.get(path).status_code == 200
        assert "http" not in client.get(path).text.replace("http://www.w3.org/2000/svg", "")
    assert "innerHTML" not in client.get("/static/page.js").text
    assert "http" not in page.text.replace("</", "")


def test_page_knows_every_video_suffix(client: TestClient) -> None:
    formats = client.get("/v1/model").json()["formats"]
    assert set(formats["video_suffixes"]) == VIDEO_SUFFIXES
    assert set(formats["images"]) == set(IMAGE_NAMES)
    assert "formats.video_suffixes" in (STATIC / "page.js").read_text()


def test_model_title_names_run_and_training_data(client: TestClient) -> None:
    model = client.get("/v1/model").json()
    assert model["trained_on"] == [{"name": "synthetic", "forgeries": "drawn"}]
    assert "drew" in model["warning"]
    assert model["run_name"] in model["title"]
    assert "synthetic (drawn faces)" in model["title"]
    assert model["version"] not in model["title"]


def test_every_image_carries_headline_and_warning(client: TestClient, media: Path) -> None:
    with (media / "face.jpg").open("rb") as file:
        (row,) = client.post("/v1/images?heatmaps=false", files={"files": file}).json()["results"]
    assert row["headline"].lower().startswith(row["verdict"].split("_")[0])
    assert f"{row['threshold']:.3f}" in row["reason"]
    assert row["trained_on"] == [{"name": "synthetic", "forgeries": "drawn"}]
    assert "'synthetic'" in row["warning"]
