import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from unmask.inference.predictor import Predictor
from unmask.web.api.jobs import JobState, JobStore


def send(client: TestClient, path: Path, name: str = "clip.mp4") -> Any:
    return client.post("/v1/videos", files=[("files", (name, path.read_bytes()))])


def wait(client: TestClient, job_id: str) -> dict[str, Any]:
    for _ in range(300):
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if job["state"] in ("done", "failed"):
            return job
        time.sleep(0.1)
    raise AssertionError(f"the job never ended: {job}")


def test_video_becomes_a_job_with_the_score_of_the_predictor(client: TestClient, media: Path, bundle: Path) -> None:
    answer = send(client, media / "clip.mp4")
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    job = wait(client, answer.json()["id"])
    expected = Predictor.load(bundle, margin=0.05).predict_video(media / "clip.mp4")
    assert job["result"]["score"] == pytest.approx(expected.score, abs=1e-6)
    assert job["result"]["key_frames"] == list(expected.key_frames)
    told = json.loads(json.dumps(expected.to_dict()))
    for key in ("headline", "reason", "trained_on", "warning", "num_examined", "num_frames"):
        assert job["result"][key] == told[key]
    assert job["result"]["frames"] == told["frames"]
    assert job["progress"] == {"done": len(expected.frames), "total": len(expected.frames)}
    assert job["expires"] == pytest.approx(job["finished"] + 24 * 3600)


def test_drawings_of_a_job_are_images_and_nothing_else_is_sent(
    client: TestClient, media: Path, service_folder: Path
) -> None:
    job = wait(client, send(client, media / "clip.mp4").json()["id"])
    assert job["result"]["heatmaps"]
    for drawing in job["result"]["heatmaps"]:
        for key in ("crop", "heatmap"):
            answer = client.get(drawing[key])
            assert answer.headers["content-type"] == "image/jpeg"
            assert answer.content.startswith(b"\xff\xd8")
    (service_folder / "jobs" / job["id"] / "heatmaps" / "other.jpg").write_bytes(b"x")
    for name in ("other.jpg", "crop_999999_0.jpg", "..%2f..%2fjobs.sqlite"):
        answer = client.get(f"/v1/jobs/{job['id']}/heatmaps/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert client.get(f"/v1/jobs/{job['id']}/heatmaps/other.jpg").json()["code"] == "no_drawing"
    assert not (service_folder / "jobs" / job["id"] / "upload").exists()  # a judged video is not kept


def test_deleted_job_leaves_no_files(client: TestClient, media: Path, service_folder: Path) -> None:
    job_id = send(client, media / "clip.mp4").json()["id"]
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert client.get(f"/v1/jobs/{job_id}").json()["code"] == "no_job"
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 404
    for _ in range(60):  # its process may have been drawing, and leave a folder for the next round
        time.sleep(0.5)
        if not (service_folder / "jobs" / job_id).exists():
            break
    assert not (service_folder / "jobs" / job_id).exists()


def test_bad_video_fails_its_job_and_leaves_no_file(client: TestClient, media: Path, service_folder: Path) -> None:
    (bad := service_folder / "bad.mp4").write_bytes((media / "clip.mp4").read_bytes()[:3000])
    job = wait(client, send(client, bad, "<b>.mp4").json()["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "unreadable_file")
    assert "'_b_.mp4'" in job["error"]["detail"]
    assert not (service_folder / "jobs" / job["id"]).exists()
    job = wait(client, send(client, media / "face.jpg", "face.jpg").json()["id"])
    assert all(part in job["error"]["detail"] for part in ("'face.jpg'", "POST /v1/images"))


def test_job_over_its_time_limit_is_stopped(start: Callable[..., Any], media: Path, tmp_path: Path) -> None:
    with start(tmp_path, limits={"job_seconds": 0.02}) as client:
        job = wait(client, send(client, media / "clip.mp4").json()["id"])
        assert job["error"]["code"] == "too_slow"
        assert "0.02 s (service.job_seconds)" in job["error"]["detail"]


def test_jobs_above_the_limit_are_refused(start: Callable[..., Any], media: Path, tmp_path: Path) -> None:
    with start(tmp_path, limits={"jobs": 1}) as client:
        store = JobStore(tmp_path / "jobs")
        (tmp_path / "v").write_bytes(b"x")
        store.add(tmp_path / "v", name="waiting.mp4", most=1)
        answer = send(client, media / "clip.mp4")
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_jobs")
        assert int(answer.headers["retry-after"]) > 0


def test_open_jobs_continue_after_a_restart_and_a_job_that_kills_its_worker_twice_fails(
    start: Callable[..., Any], media: Path, tmp_path: Path
) -> None:
    store = JobStore(tmp_path / "jobs")
    store.create()
    ids = []
    for attempts in (1, 2):
        (tmp_path / "v").write_bytes((media / "clip.mp4").read_bytes())
        job = store.add(tmp_path / "v", name="clip.mp4", most=9)
        assert job is not None
        for _ in range(attempts):
            store.begin(job.id)  # as a service does that is killed then
        ids.append(job.id)
    (tmp_path / "uploads" / "half").mkdir(parents=True)
    with start(tmp_path) as client:
        assert wait(client, ids[0])["state"] == "done"
        assert wait(client, ids[1])["error"]["code"] == "crashed"
    assert not (tmp_path / "uploads").exists()


def test_old_jobs_are_deleted_with_their_files(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    store.create()
    (tmp_path / "v").write_bytes(b"x")
    job = store.add(tmp_path / "v", name="a.mp4", most=1)
    assert job is not None
    store.finish(job.id, {"frames": []})
    assert store.delete_old(seconds=100) == 0
    assert store.find(job.id) is not None
    time.sleep(0.01)
    assert store.delete_old(seconds=0.001) == 1
    assert store.find(job.id) is None
    assert [path.name for path in store.folder.iterdir() if path.is_dir()] == []
    assert store.count()[JobState.DONE] == 0


def test_result_of_an_older_version_is_still_readable(client: TestClient, media: Path, service_folder: Path) -> None:
    job_id = send(client, media / "clip.mp4").json()["id"]
    result = wait(client, job_id)["result"]
    for key in ("headline", "reason", "trained_on", "warning", "num_examined", "num_frames"):
        del result[key]
    for frame in result["frames"]:
        for face in frame["faces"]:
            del face["verdict"]
    JobStore(service_folder / "jobs").finish(job_id, result)
    answer = client.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 200
    assert answer.json()["result"]["warning"] is None
