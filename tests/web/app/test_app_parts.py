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
from PIL import Image
from tests.web.app.conftest import paint

from unmask.errors import ConfigError
from unmask.faces.spec import CropSpec
from unmask.inference.predictor import Predictor
from unmask.inference.results import FaceResult, FrameResult, Prediction, TimeRange
from unmask.inference.timeline import MAX_PERSONS
from unmask.types import Face, MediaKind, Verdict
from unmask.web.app.chart import _shade, _time_axis, draw_timeline, list_persons, list_points
from unmask.web.app.exports import COLUMNS, write_csv, write_json
from unmask.web.app.finding import ModelFile, list_models, place_of
from unmask.web.app.loading import Model
from unmask.web.app.record import find_evaluations, read_dataset, read_training
from unmask.web.app.registry import Alias
from unmask.web.app.scoring import DroppedFile, look_at
from unmask.web.app.settings import given_model, read_settings
from unmask.web.app.views import MAX_FACES, MAX_FRAMES, MAX_SIDE, FrameView, Looked, ViewKeeper, make_view


@pytest.fixture
def model(app_bundle: Path) -> Model:
    file = ModelFile(str(app_bundle), "first", 1.0)
    provenance: dict[str, object] = {"run_id": "run-1"}
    return Model(file, app_bundle, Predictor.load(app_bundle), "tiny", provenance, threading.Lock())


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


def test_a_result_that_is_gone_when_it_is_looked_at_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"datasets": {"mine": {"split": "test"}}, "provenance": {"training: run id": "run-1"}}
    (tmp_path / "result.json").write_text(json.dumps(content))
    (tmp_path / "dangling.json").symlink_to(tmp_path / "gone")
    found = [tmp_path / "result.json", tmp_path / "dangling.json", tmp_path / "deleted/result.json"]
    monkeypatch.setattr(Path, "glob", lambda *_: iter(found))
    assert [row.dataset for row in find_evaluations("run-1", None, [tmp_path])] == ["mine"]


def test_visitors_see_of_a_path_only_what_lies_below_our_own_folders(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place_of(str(home / "outputs/train/first/bundle")) == "outputs/train/first/bundle"
    assert place_of(str(tmp_path / "mine.ckpt")) == place_of("mine.ckpt") == "mine.ckpt"
    assert place_of("/srv/secret/first/bundle") == place_of("/srv/secret/first/checkpoints/best.ckpt") == "first"
    assert place_of("../secret/first") == "first"
    assert place_of("/bundle") == "bundle"
    assert place_of("models:/faces@best") == "models:/faces@best"
    assert place_of(str(tmp_path)) == tmp_path.name
    monkeypatch.chdir("/")
    assert place_of("/srv/secret/first/bundle") == "first"  # everything lies below /


def test_an_alias_is_asked_for_once_a_minute_and_an_answer_that_fails_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, answers = [0.0], iter([None, 5.0, None, 7.0])
    monkeypatch.setattr("unmask.web.app.registry._ask", lambda name, alias: next(answers))
    monkeypatch.setattr("unmask.web.app.registry.time.monotonic", lambda: clock[0])
    alias, stamps = Alias("faces", "best"), []
    for clock[0] in (0, 59, 60, 119, 120, 180):
        stamps.append(alias.find_stamp())
    assert stamps == [0, 0, 5, 5, 5, 7]


def look(
    model: Model,
    name: str,
    data: bytes,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    max_bytes: int = 10**8,
) -> Looked:
    return look_at(model, DroppedFile("1", name, io.BytesIO(data)), max_bytes=max_bytes, on_step=on_step)


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
def test_names_of_files_choose_no_path(model: Model, make_png: Callable[[int], bytes], name: str) -> None:
    looked = look(model, name, make_png(1))
    assert looked.prediction.error is None
    assert "/" not in looked.name


def test_an_error_names_the_file_and_not_our_own_copy(model: Model) -> None:
    error = look(model, "broken <b>.png", b"\x89PNG\r\n\x1a\n").prediction.error
    assert error is not None
    assert "broken <b>.png" in error
    assert "dropped" not in error


def test_frames_of_a_long_video_are_thinned_evenly() -> None:
    keeper, made = ViewKeeper(max_bytes=1), []
    for index in range(1000):
        keeper.offer(lambda index=index: made.append(index) or FrameView(index, b"", 1.0, {}))  # type: ignore[misc]
    kept = [view.index for view in keeper.views]
    assert MAX_FRAMES / 2 <= len(kept) <= MAX_FRAMES
    assert len({b - a for a, b in pairwise(kept)}) == 1
    assert len(made) < 1000


def test_large_frames_are_thinned_evenly_until_they_fit() -> None:
    keeper = ViewKeeper(max_bytes=1000)
    for index in range(100):
        keeper.offer(lambda index=index: FrameView(index, b"." * 80, 1.0, {0: b"." * 20}))  # type: ignore[misc]
    assert [view.index for view in keeper.views] == list(range(0, 100, 16))
    assert sum(view.num_bytes for view in keeper.views) <= 1000
    small = ViewKeeper(max_bytes=1)
    small.offer(lambda: FrameView(0, b"..", 1.0, {}))
    assert len(small.views) == 1  # whatever its size


def test_a_video_keeps_no_more_than_it_may_beside_the_frames_that_weighed_most(model: Model, clip_bytes: bytes) -> None:
    whole = look(model, "clip.mp4", clip_bytes)
    assert whole.num_picture_bytes == sum(view.num_bytes for view in whole.views) > 0
    assert len(whole.thumbnails) == 6
    assert whole.num_picture_bytes > sum(view.num_bytes for view in whole.views)
    model.predictor.num_frames = 24
    thinned = look(model, "clip.mp4", clip_bytes, max_bytes=whole.views[0].num_bytes * 3)
    assert len(thinned.views) <= 3 + len(thinned.prediction.key_frames) < 24


@pytest.mark.parametrize("text", ["much", "0", "-1", "inf", "nan"])
def test_a_wrong_size_for_pictures_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert read_settings().picture_bytes == 200_000_000
    monkeypatch.setenv("UNMASK_PICTURES_MB", "0.5")
    assert read_settings().picture_bytes == 500_000
    monkeypatch.setenv("UNMASK_PICTURES_MB", text)
    with pytest.raises(ConfigError, match=f"UNMASK_PICTURES_MB='{text}' in the environment must be a number above 0"):
        read_settings()


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
    chart = draw_timeline(looked, chosen=points[2]["frame"]).to_dict()
    (pictures,) = [rows for rows in chart["datasets"].values() if "image" in rows[0]]
    assert [row["frame"] for row in pictures] == [point["frame"] for point in points]
    assert all(row["image"].startswith("data:image/jpeg;base64,") for row in pictures)
    assert {param["name"] for param in chart["params"]} == {"hovered", "picked"}
    assert "clip.mp4" not in json.dumps(chart)


def test_frames_that_weighed_most_are_kept_though_others_are_thinned_out(
    model: Model, clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.web.app.views.MAX_FRAMES", 2)
    model.predictor.num_frames = 24
    looked = look(model, "clip.mp4", clip_bytes)
    kept = [view.index for view in looked.views]
    assert set(looked.prediction.key_frames) <= set(kept)
    assert len(kept) <= 2 + len(looked.prediction.key_frames) < 24
    assert kept == sorted(kept)
    assert all(view.crops for view in looked.views)
    dots = [rows for rows in draw_timeline(looked, chosen=kept[0]).to_dict()["datasets"].values() if "time" in rows[0]]
    assert sorted(map(len, dots)) == [len(kept), 24]  # lines go through all, only kept frames can be clicked


@pytest.mark.parametrize(
    ("length", "marks"),
    [(3.9, "0:00.5 0:01.0 0:01.5"), (90, "0:15 0:30 0:45"), (7200, "15:00 30:00 45:00"), (1e6, "35:00:00 70:00:00")],
)
def test_the_axis_of_time_is_marked_as_on_a_clock(length: float, marks: str) -> None:
    names = _time_axis(length).to_dict()["labelExpr"]
    assert list(json.loads(names.removesuffix("[datum.value]")).values())[1:][: len(marks.split())] == marks.split()


def test_shades_that_touch_become_one() -> None:
    ranges = tuple(TimeRange(second, second, 0.9) for second in (0.0, 0.5, 1.0, 50.0))
    frames = tuple(FrameResult(second, float(second), ()) for second in (0, 100))
    prediction = Prediction("a", MediaKind.VIDEO, Verdict.FAKE, 0.9, 0.5, frames=frames, suspicious=ranges)
    shade = _shade(Looked("1", "", 0, prediction)).to_dict()
    assert list(shade["datasets"].values()) == [[{"start": 0, "end": 1.5}, {"start": 49.5, "end": 50.5}]]


def test_the_chart_shows_the_most_suspicious_of_many_persons() -> None:
    faces = tuple(FaceResult(n, (0, 0, 1, 1), 1.0, n / 20, Verdict.FAKE, decides=n != 19) for n in range(20))
    prediction = Prediction("a", MediaKind.VIDEO, Verdict.FAKE, 0.9, 0.5, faces)
    shown = [face.track for face in list_persons(Looked("1", "", 0, prediction))]
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


def test_downloads_hold_what_was_left_out(model: Model) -> None:
    data = io.BytesIO()
    first, *others = [Image.fromarray(paint(seed)) for seed in range(3)]
    first.save(data, "GIF", save_all=True, append_images=others)
    looked = look(model, "a.gif", data.getvalue())
    note = "The file is an animation: only its first picture was looked at."
    assert json.loads(write_json(model, [looked]))[0]["notes"] == [note]
    (row,) = csv.DictReader(io.StringIO(write_csv(model, [looked])))
    assert row["notes"] == note


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
