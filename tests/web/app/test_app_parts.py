import csv
import io
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from tests.web.app.conftest import paint

from unmask.decision import Decision
from unmask.faces.spec import CropSpec
from unmask.inference.predictor import Predictor
from unmask.inference.results import FaceResult, Prediction
from unmask.types import Face, MediaKind, Verdict
from unmask.web.app.chart import MAX_PERSONS, choose_persons, draw_timeline, list_points
from unmask.web.app.exports import COLUMNS, write_csv, write_json
from unmask.web.app.finding import ModelFile, list_models
from unmask.web.app.gauge import draw_gauge
from unmask.web.app.loading import Model
from unmask.web.app.record import find_evaluations, read_dataset, read_training
from unmask.web.app.scoring import Upload, look_at
from unmask.web.app.settings import given_model
from unmask.web.app.text import clock, code, plain, printable, shorten
from unmask.web.app.views import MAX_FACES, MAX_FRAMES, MAX_SIDE, FrameView, Looked, ViewKeeper, make_view
from unmask.web.app.words import explain, explain_numbers, percent, say


@pytest.fixture
def model(app_bundle: Path) -> Model:
    file = ModelFile(str(app_bundle), "first", 1.0)
    provenance: dict[str, object] = {"run_id": "run-1"}
    return Model(file, app_bundle, Predictor.load(app_bundle), "tiny", provenance, threading.Lock())


def picture(verdict: Verdict | None, score: float | None, *, num_faces: int = 1, name: str = "a.png") -> Prediction:
    faces = tuple(FaceResult(n, (0, 0, 9, 9), 1.0, (score or 0) / (n + 1), Verdict.FAKE) for n in range(num_faces))
    return Prediction(name, MediaKind.PICTURE, verdict, score, 0.5, faces if score is not None else ())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a_b*c.png", "a\\_b\\*c.png"),
        ("<img src=x onerror=alert(1)>", "\\<img src=x onerror=alert\\(1\\)\\>"),
        ("![x](u)", "\\!\\[x\\]\\(u\\)"),
        (":red[x] $a$ &lt;", "\\:red\\[x\\] \\$a\\$ \\&lt;"),
        ("two\nlines\u202egpj.exe", "two\ufffdlines\ufffdgpj.exe"),
    ],
)
def test_text_is_shown_as_it_is(name: str, shown: str) -> None:
    assert plain(name) == shown


@pytest.mark.parametrize("name", ["www.evil.example", "HTTPS://evil.example", "http://evil.example", "me@evil.example"])
def test_addresses_in_text_do_not_become_links(name: str) -> None:
    assert "\u2060" in plain(name)
    assert name.replace(":", "\\:") not in plain(name)


def test_code_fences_are_longer_than_those_in_the_text() -> None:
    assert code("a``b`c") == "``` a``b`c ```"


def test_long_names_keep_start_and_suffix() -> None:
    assert shorten("x" * 100 + "end.png", length=20) == "x" * 9 + "…" + "xxx" + "end.png"
    assert printable(shorten("short.png")) == "short.png"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0:00.0"), (59.96, "1:00.0"), (723.04, "12:03.0"), (3723, "1:02:03.0")]
)
def test_moments_are_written_as_on_a_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said


@pytest.mark.parametrize(
    ("probability", "said"), [(None, "unknown"), (0.0, "under 1 %"), (0.934, "93 %"), (0.9999, "over 99 %")]
)
def test_probabilities_never_claim_certainty(probability: float | None, said: str) -> None:
    assert percent(probability) == said


def test_every_verdict_is_explained_in_its_own_words() -> None:
    assert "below the threshold 0.500" in explain(picture(Verdict.REAL, 0.2), margin=0.05)
    assert "above the threshold 0.500" in explain(picture(Verdict.FAKE, 0.9), margin=0.05)
    unsure = explain(picture(Verdict.UNCERTAIN, 0.51), margin=0.05)
    assert "between 0.475 and 0.525" in unsure
    assert "not known" in unsure
    assert "does not mean it is real" in explain(picture(Verdict.NO_FACE, None), margin=0.05)
    assert "face 0," in explain(picture(Verdict.FAKE, 0.9, num_faces=3), margin=0.05)


def test_numbers_of_an_uncalibrated_model_are_not_called_probabilities() -> None:
    text = explain_numbers(Decision(), num_frames=8, margin=0.05)
    assert "not calibrated" in text
    assert "default, since nothing was chosen" in text
    calibrated = explain_numbers(Decision(calibration=(1, 0), criterion="eer"), num_frames=8, margin=0.05)
    assert "not calibrated" not in calibrated
    assert "both kinds of error are equally frequent" in calibrated


def test_an_unreadable_file_is_said_to_be_unreadable() -> None:
    assert say(Prediction("a", None, None, None, 0.5, error="broken")).word == "Cannot be read"


def test_the_gauge_shows_score_threshold_and_the_uncertain_part() -> None:
    html = draw_gauge(0.25, threshold=0.8, margin=0.05)
    assert 'class="uncertain" style="left:76.00%;width:5.00%"' in html
    assert 'class="needle" style="left:25.00%"' in html
    assert "threshold 0.800" in html


def touch(path: Path, *, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (seconds, seconds))


def test_bundles_and_checkpoints_are_found_newest_first(tmp_path: Path) -> None:
    for run, seconds in (("outputs/train/old", 1e9), ("multirun/train/s/0", 3e9)):
        touch(tmp_path / run / "bundle/spec.json", seconds=seconds)
        touch(tmp_path / run / "bundle/model.onnx", seconds=seconds)
        touch(tmp_path / run / "checkpoints/best.ckpt", seconds=seconds)  # its bundle stands for it
        touch(tmp_path / run / "model/spec.json", seconds=seconds)
        touch(tmp_path / run / "model/model.onnx", seconds=seconds)
        touch(tmp_path / run / "model/MLmodel", seconds=seconds)
    touch(tmp_path / "outputs/train/none/checkpoints/best.ckpt", seconds=2e9)
    touch(tmp_path / "outputs/train/none/checkpoints/last.ckpt", seconds=2e9)
    touch(tmp_path / "outputs/train/part/.bundle.1.part/spec.json", seconds=4e9)
    touch(tmp_path / "outputs/train/part/.bundle.1.part/model.onnx", seconds=4e9)
    folders = [tmp_path / "outputs", tmp_path / "multirun", tmp_path / "absent"]
    names = [model.name for model in list_models(folders)]
    assert names == ["train/s/0", "train/none/checkpoints/best.ckpt", "train/old"]
    assert list_models(folders)[0].label.startswith("train/s/0 · 24 Jan 2065")


def test_a_named_model_comes_first_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "outputs/a/checkpoints/best.ckpt"
    touch(path, seconds=1e9)
    touch(tmp_path / "outputs/b/checkpoints/best.ckpt", seconds=2e9)
    models = list_models([tmp_path / "outputs"], given=str(path))
    assert [model.name for model in models] == ["a/checkpoints/best.ckpt", "b/checkpoints/best.ckpt"]
    assert list_models([], given="gone.ckpt")[0].made == "date unknown"


def test_a_model_is_named_by_argument_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["main.py", "--flag"])
    monkeypatch.setenv("UNMASK_CHECKPOINT", "from/environment")
    assert given_model() == "from/environment"
    monkeypatch.setattr("sys.argv", ["main.py", "runs:/abc"])
    assert given_model() == "runs:/abc"


def test_what_a_run_wrote_about_itself_is_found(tmp_path: Path) -> None:
    (tmp_path / "run/bundle").mkdir(parents=True)
    (tmp_path / "run/result.json").write_text('{"best_checkpoint": "b", "metrics": {"val/auroc": 0.9}}')
    assert read_training(tmp_path / "run/bundle")["metrics"] == {"val/auroc": 0.9}
    assert read_training(tmp_path / "run/checkpoints/best.ckpt")["best_checkpoint"] == "b"
    (tmp_path / "run/result.json").write_text("[" * 5000)
    assert read_training(tmp_path / "run/bundle") == {}


def test_a_dataset_prepared_anew_since_the_training_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    provenance = {"dataset": "ffpp", "dataset_root": str(tmp_path), "preprocessing_hash": "a"}
    (tmp_path / "dataset.json").write_text('{"name": "ffpp", "preprocessing_hash": "a", "counts": {}}')
    assert read_dataset(provenance)
    assert not read_dataset(provenance | {"preprocessing_hash": "b"})
    assert not read_dataset({})


def test_evaluations_of_other_models_are_passed_over(tmp_path: Path) -> None:
    for name, provenance in (("mine", {"checkpoint": "x/best.ckpt"}), ("other", {"checkpoint": "y/best.ckpt"})):
        (tmp_path / name).mkdir()
        content = {"datasets": {name: {"split": "test"}}, "provenance": provenance}
        (tmp_path / name / "result.json").write_text(json.dumps(content))
    (tmp_path / "result.json").write_text("broken")
    assert [row.dataset for row in find_evaluations(None, "x/best.ckpt", [tmp_path])] == ["mine"]


def look(
    model: Model, name: str, data: bytes, on_step: Callable[[int, int], None] = lambda done, total: None
) -> Looked:
    return look_at(model, Upload("1", name, io.BytesIO(data)), on_step=on_step)


def test_a_video_tells_the_frames_done(model: Model, clip_bytes: bytes) -> None:
    steps: list[tuple[int, int]] = []
    looked = look(model, "clip.mp4", clip_bytes, lambda done, total: steps.append((done, total)))
    assert steps[-1] == (6, 6)
    assert [view.index for view in looked.views] == [frame.index for frame in looked.prediction.frames]
    assert looked.num_bytes == len(clip_bytes)


def test_a_visitor_who_leaves_in_the_middle_leaves_no_file(
    model: Model, clip_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def leave(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(model, "clip.mp4", clip_bytes, leave)
    assert list(tmp_path.iterdir()) == []
    assert not model.lock.locked()


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.png", "a/b.png", "x" * 300 + ".png", "photo", "photo.p\x00ng", ".."]
)
def test_names_of_uploads_choose_no_path(model: Model, make_png: Callable[[int], bytes], name: str) -> None:
    looked = look(model, name, make_png(1))
    assert looked.prediction.error is None
    assert "/" not in looked.name


def test_an_error_names_the_upload_and_not_our_own_file(model: Model) -> None:
    error = look(model, "broken <b>.png", b"\x89PNG\r\n\x1a\n").prediction.error
    assert error is not None
    assert "broken <b>.png" in error
    assert "upload" not in error


def test_frames_of_a_long_video_are_thinned_evenly() -> None:
    keeper, made = ViewKeeper(), []
    for index in range(1000):
        keeper.offer(lambda index=index: made.append(index) or FrameView(index, b"", 1.0, {}))  # type: ignore[misc]
    kept = [view.index for view in keeper.views]
    assert MAX_FRAMES / 2 <= len(kept) <= MAX_FRAMES
    assert len({b - a for a, b in pairwise(kept)}) == 1
    assert len(made) < 1000


def test_kept_frames_are_small() -> None:
    face = Face((100, 100, 200, 200), None, 1.0)
    view = make_view(paint(0, width=3000, height=1000), 5, [(0, face)], spec=CropSpec("none", crop_size=64))
    assert view.image.shape[:2] == (round(1000 * MAX_SIDE / 3000), MAX_SIDE)
    assert list(view.crops) == [0]


def test_a_crowd_keeps_the_crops_of_the_most_suspicious(model: Model, make_png: Callable[[int], bytes]) -> None:
    class Crowd:
        name, weights_sha256 = "none", ""

        def detect(self, images: object) -> list[list[Face]]:
            return [[Face((float(n), 0.0, n + 20.0, 20.0), None, 1.0) for n in range(50)]]

    model.predictor.detector = Crowd()
    looked = look(model, "crowd.png", make_png(1))
    scores = [face.score for face in looked.prediction.frames[0].faces]
    assert len(scores) == 50
    assert {scores[place] for place in looked.views[0].crops} == set(sorted(scores)[-MAX_FACES:])


def test_the_chart_holds_the_frames_that_are_pointed_at(model: Model, clip_bytes: bytes) -> None:
    looked = look(model, "clip.mp4", clip_bytes)
    points = list_points(looked)
    assert len(points) == 6
    assert all(point["image"].startswith("data:image/jpeg;base64,") for point in points)
    chart = draw_timeline(looked, chosen=points[2]["frame"]).to_dict()
    assert {param["name"] for param in chart["params"]} == {"hovered", "picked"}
    assert "clip.mp4" not in json.dumps(chart)


def test_the_chart_shows_the_most_suspicious_of_many_persons() -> None:
    faces = tuple(FaceResult(n, (0, 0, 1, 1), 1.0, n / 20, Verdict.FAKE, decides=n != 19) for n in range(20))
    prediction = Prediction("a", MediaKind.VIDEO, Verdict.FAKE, 0.9, 0.5, faces)
    shown = [face.track for face in choose_persons(Looked("1", "", 0, prediction))]
    assert shown == list(range(19 - MAX_PERSONS, 19))


def test_downloads_hold_what_predict_writes_and_whose_verdict_it_is(
    model: Model, make_png: Callable[[int], bytes]
) -> None:
    files = [look(model, "a.png", make_png(1)), look(model, "broken.png", b"\x89PNG\r\n\x1a\n")]
    rows = json.loads(write_json(model, files))
    assert [row["path"] for row in rows] == ["a.png", "broken.png"]
    assert rows[0]["faces"][0]["score"] == rows[0]["score"]
    assert rows[0]["probability"] == pytest.approx(rows[0]["score"], abs=1e-6)  # its calibration changes nothing
    assert rows[0]["sha256"] == files[0].sha256
    assert rows[0]["run_id"] == "run-1"
    table = list(csv.DictReader(io.StringIO(write_csv(model, files))))
    assert list(table[0]) == list(COLUMNS)
    assert table[0]["faces"] == "1"
    assert "cannot be read" in table[1]["error"]


@pytest.mark.parametrize("name", ['=HYPERLINK("http://evil.example")', "+1", "-1", "@a", "\t=1"])
def test_names_do_not_become_formulas_in_a_spreadsheet(
    model: Model, make_png: Callable[[int], bytes], name: str
) -> None:
    looked = look(model, "a.png", make_png(1))
    looked = replace(looked, prediction=replace(looked.prediction, path=name))
    (row,) = csv.DictReader(io.StringIO(write_csv(model, [looked])))
    assert row["path"] == f"'{name}"


def test_a_bug_is_not_taken_for_a_bad_file(model: Model, make_png: Callable[[int], bytes]) -> None:
    class Broken:
        name, weights_sha256 = "none", ""

        def detect(self, images: object) -> list[list[Face]]:
            raise RuntimeError("a bug")

    model.predictor.detector = Broken()
    with pytest.raises(RuntimeError, match="a bug"):
        look(model, "a.png", make_png(1))
