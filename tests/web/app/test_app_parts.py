import csv
import io
import json
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
from unmask.forgeries import Forgeries, SourceRecord
from unmask.inference.predictor import Predictor
from unmask.inference.results import FaceResult, FaceScore, FrameResult, Prediction, TimeRange
from unmask.inference.timeline import MAX_PERSONS
from unmask.types import Face, MediaKind, Verdict
from unmask.web.app.check_page import COLUMNS, write_csv, write_json
from unmask.web.app.models import Model, ModelFile, read_settings
from unmask.web.app.session import DroppedFile, look_at
from unmask.web.app.video import _shade, _time_axis, draw_timeline, list_persons, list_points
from unmask.web.app.views import (
    MAX_FACES,
    MAX_FRAMES,
    MAX_SIDE,
    FrameView,
    Looked,
    ViewKeeper,
    find_suspect,
    make_view,
)

BOX = (0.0, 0.0, 9.0, 9.0)


@pytest.fixture
def model(app_bundle: Path) -> Model:
    file = ModelFile(str(app_bundle), "first", 1.0)
    provenance: dict[str, object] = {"run_id": "run-1"}
    return Model(file, app_bundle, Predictor.load(app_bundle), "tiny", provenance, threading.Lock())


def look(
    model: Model,
    name: str,
    data: bytes,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    max_bytes: int = 10**8,
) -> Looked:
    return look_at(model, DroppedFile("1", name, io.BytesIO(data)), max_bytes=max_bytes, on_step=on_step)


def test_a_video_reports_its_progress_in_frames(model: Model, clip_bytes: bytes) -> None:
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
def test_file_names_are_never_paths(model: Model, make_png: Callable[[int], bytes], name: str) -> None:
    looked = look(model, name, make_png(1))
    assert looked.prediction.error is None
    assert "/" not in looked.name


def test_an_error_names_the_file_not_our_copy(model: Model) -> None:
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


def test_a_video_keeps_within_its_memory_limit_beside_key_frames(model: Model, clip_bytes: bytes) -> None:
    whole = look(model, "clip.mp4", clip_bytes)
    assert whole.num_image_bytes == sum(view.num_bytes for view in whole.views) > 0
    assert len(whole.thumbnails) == 6
    assert whole.num_image_bytes > sum(view.num_bytes for view in whole.views)
    model.predictor.num_frames = 24
    thinned = look(model, "clip.mp4", clip_bytes, max_bytes=whole.views[0].num_bytes * 3)
    assert len(thinned.views) <= 3 + len(thinned.prediction.key_frames) < 24


@pytest.mark.parametrize("text", ["much", "0", "-1", "inf", "nan"])
def test_an_invalid_image_memory_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert read_settings().image_bytes == 200_000_000
    monkeypatch.setenv("UNMASK_IMAGES_MB", "0.5")
    assert read_settings().image_bytes == 500_000
    monkeypatch.setenv("UNMASK_IMAGES_MB", text)
    with pytest.raises(ConfigError, match=f"UNMASK_IMAGES_MB='{text}' in the environment must be a number above 0"):
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


def test_the_chart_holds_the_frames_to_hover_over(model: Model, clip_bytes: bytes) -> None:
    looked = look(model, "clip.mp4", clip_bytes)
    points = list_points(looked)
    assert len(points) == 6
    chart = draw_timeline(looked, chosen=points[2]["frame"]).to_dict()
    (images,) = [rows for rows in chart["datasets"].values() if "image" in rows[0]]
    assert [row["frame"] for row in images] == [point["frame"] for point in points]
    assert all(row["image"].startswith("data:image/jpeg;base64,") for row in images)
    assert {param["name"] for param in chart["params"]} == {"hovered", "picked"}
    assert "clip.mp4" not in json.dumps(chart)


def test_key_frames_are_kept_when_others_are_thinned(
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
    assert sorted(map(len, dots)) == sorted([len(kept), 24 - len(kept)])  # kept frames can be clicked, others are faint


def test_sampled_points_are_dots_and_never_joined(model: Model, clip_bytes: bytes) -> None:
    looked = look(model, "clip.mp4", clip_bytes)
    for shown in (looked, replace(looked, views=())):
        chart = draw_timeline(shown, chosen=None).to_dict()
        assert {layer["mark"]["type"] for layer in chart["layer"]} <= {"point", "rule", "rect", "text"}
        assert sum(len(rows) for rows in chart["datasets"].values() if "time" in rows[0]) == 6
        assert {row["person"] for rows in chart["datasets"].values() for row in rows if "person" in row} == {"face 1"}
        assert chart["config"]["axis"]["labelFontSize"] >= 12


def test_the_most_suspicious_frame_is_kept_and_found(
    model: Model, clip_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.predictor.decision = replace(model.predictor.decision, threshold=1.0)  # real: what weighed most looks real
    monkeypatch.setattr("unmask.web.app.views.MAX_FRAMES", 2)
    model.predictor.num_frames = 24
    looked = look(model, "clip.mp4", clip_bytes)
    suspect = max(looked.prediction.frames, key=lambda frame: frame.faces[0].score).index
    assert looked.prediction.verdict is Verdict.REAL
    assert suspect not in looked.prediction.key_frames
    assert find_suspect(looked.prediction, [view.index for view in looked.views]) == suspect


def test_a_face_that_does_not_decide_does_not_choose_the_open_frame() -> None:
    faces = (FaceResult(0, BOX, 1.0, 0.4, Verdict.REAL), FaceResult(1, BOX, 1.0, 0.9, Verdict.FAKE, decides=False))
    scores = {0: (0.1, 0.9), 5: (0.7, 0.1), 9: (0.2, 0.2)}
    frames = tuple(
        FrameResult(index, float(index), tuple(FaceScore(track, BOX, 1.0, score) for track, score in enumerate(pair)))
        for index, pair in scores.items()
    )
    prediction = Prediction("a", MediaKind.VIDEO, Verdict.REAL, 0.4, 0.5, faces, frames)
    assert find_suspect(prediction, [0, 5, 9]) == 5
    assert find_suspect(prediction, [0, 9]) == 9
    assert find_suspect(replace(prediction, frames=()), []) is None


def test_a_model_title_names_run_and_training_data_never_a_hash(model: Model) -> None:
    provenance = {"run_name": "trial", "trained_on": [{"name": "celebs", "forgeries": "external"}]}
    assert replace(model, provenance=provenance).title == "trial (tiny), trained on celebs"
    assert replace(model, provenance={"dataset": "synthetic"}).title.startswith("first (tiny), trained on synthetic")
    named = replace(model.file, name="runs:/0123456789abcdef")
    assert "0123456789abcdef" not in replace(model, file=named, provenance={}).title


@pytest.mark.parametrize(
    ("length", "marks"),
    [(3.9, "0:00.5 0:01.0 0:01.5"), (90, "0:15 0:30 0:45"), (7200, "15:00 30:00 45:00"), (1e6, "35:00:00 70:00:00")],
)
def test_the_time_axis_is_formatted_as_a_clock(length: float, marks: str) -> None:
    names = _time_axis(length).to_dict()["labelExpr"]
    assert list(json.loads(names.removesuffix("[datum.value]")).values())[1:][: len(marks.split())] == marks.split()


def test_touching_shades_are_merged() -> None:
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


def test_downloads_hold_the_columns_of_predict_and_the_model(model: Model, make_png: Callable[[int], bytes]) -> None:
    files = [look(model, "a.png", make_png(1)), look(model, "broken.png", b"\x89PNG\r\n\x1a\n")]
    rows = json.loads(write_json(model, files))
    assert [row["path"] for row in rows] == ["a.png", "broken.png"]
    assert rows[0]["faces"][0]["score"] == rows[0]["score"]
    assert rows[0]["probability"] == pytest.approx(rows[0]["score"], abs=1e-6)  # its calibration changes nothing
    assert rows[0]["sha256"] == files[0].sha256
    assert rows[0]["run_id"] == "run-1"
    prediction = files[0].prediction
    assert (rows[0]["headline"], rows[0]["reason"]) == (prediction.headline, prediction.reason)
    table = list(csv.DictReader(io.StringIO(write_csv(model, files))))
    assert list(table[0]) == list(COLUMNS)
    assert table[0]["faces"] == "1"
    assert table[0]["headline"] == prediction.headline
    assert "cannot be read" in table[1]["error"]


def test_downloads_carry_the_warning_of_the_model(model: Model, make_png: Callable[[int], bytes]) -> None:
    model.predictor.trained_on = (SourceRecord("mine", Forgeries.SELF_MADE),)
    looked = look(model, "a.png", make_png(1))
    assert looked.prediction.warning
    assert json.loads(write_json(model, [looked]))[0]["warning"] == looked.prediction.warning
    (row,) = csv.DictReader(io.StringIO(write_csv(model, [looked])))
    assert row["warning"] == looked.prediction.warning
    assert row["trained_on"] == "mine (forgeries made by Unmask)"


def test_downloads_hold_what_was_left_out(model: Model) -> None:
    data = io.BytesIO()
    first, *others = [Image.fromarray(paint(seed)) for seed in range(3)]
    first.save(data, "GIF", save_all=True, append_images=others)
    looked = look(model, "a.gif", data.getvalue())
    note = "The file is an animation: only its first image was examined."
    assert json.loads(write_json(model, [looked]))[0]["notes"] == [note]
    (row,) = csv.DictReader(io.StringIO(write_csv(model, [looked])))
    assert row["notes"] == note


@pytest.mark.parametrize("name", ['=HYPERLINK("http://evil.example")', "+1", "-1", "@a", "\t=1"])
def test_file_names_do_not_become_spreadsheet_formulas(
    model: Model, make_png: Callable[[int], bytes], name: str
) -> None:
    looked = look(model, "a.png", make_png(1))
    looked = replace(looked, prediction=replace(looked.prediction, path=name))
    (row,) = csv.DictReader(io.StringIO(write_csv(model, [looked])))
    assert row["path"] == f"'{name}"


def test_a_bug_is_not_reported_as_a_bad_file(model: Model, make_png: Callable[[int], bytes]) -> None:
    class Broken:
        name, weights_sha256 = "none", ""

        def detect(self, images: object) -> list[list[Face]]:
            raise RuntimeError("a bug")

    model.predictor.detector = Broken()
    with pytest.raises(RuntimeError, match="a bug"):
        look(model, "a.png", make_png(1))
