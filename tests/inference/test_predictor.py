import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unmask.decision import Decision
from unmask.errors import CheckpointError, MediaError, SpecMismatchError
from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
from unmask.faces.spec import CropSpec, InputSpec
from unmask.inference.backend import TorchBackend
from unmask.inference.deciding import Deciding, sum_up
from unmask.inference.limits import Input, Limits
from unmask.inference.predictor import Predictor, watch_inputs
from unmask.inference.results import FaceScore, FrameResult
from unmask.media.encode import write_video
from unmask.media.image import write_jpeg
from unmask.types import Face, Image, MediaKind, Verdict


class Brightness(torch.nn.Module):
    """Scores a crop by its brightness: black 0, white 1."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        share = (images.float().mean(dim=(1, 2, 3)) / 255).clamp(1e-4, 1 - 1e-4)
        return torch.logit(share)


class Patches:
    """Finds what is not grey: a stand-in for a face detector whose faces a test can place."""

    name = "haar"
    weights_sha256 = ""

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: Image) -> list[Face]:
        faces = []
        for left in (0, 80):
            part = image[:, left : left + 80].astype(int).mean(axis=2)
            rows, columns = np.nonzero(np.abs(part - 128) > 40)
            if len(rows):
                box = (left + columns.min(), rows.min(), left + columns.max() + 1, rows.max() + 1)
                x1, y1, x2, y2 = (float(value) for value in box)
                faces.append(Face((x1, y1, x2, y2), None, 0.9))
        return sorted(faces, key=lambda face: -(face.box[2] - face.box[0]))


def make_frame(left: int | None, right: int | None = None) -> Image:
    """A grey frame with a square of given brightness in its left and right half."""
    image = np.full((80, 160, 3), 128, np.uint8)
    for start, value in ((20, left), (100, right)):
        if value is not None:
            image[20:60, start : start + 40] = value
    return image


def make_predictor(decision: Decision = Decision(), **options: object) -> Predictor:  # noqa: B008
    spec = CropSpec("haar", margin=0.8, crop_size=32, num_frames=options.pop("num_frames", 20))  # type: ignore[arg-type]
    arguments = {"input_spec": InputSpec(size=16), "batch_size": 3} | options
    backend = TorchBackend(Brightness(), device=torch.device("cpu"))
    return Predictor(backend, detector=Patches(), crop_spec=spec, decision=decision, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def video(tmp_path: Path) -> Callable[[list[Image]], Path]:
    def write(frames: list[Image]) -> Path:
        write_video(tmp_path / "clip.mp4", frames, fps=10, crf=5)
        return tmp_path / "clip.mp4"

    return write


def test_an_image_gives_a_row_per_face_and_the_verdict_of_the_most_fake() -> None:
    prediction = make_predictor().predict_image(make_frame(10, 250), name="two.jpg")
    assert (prediction.path, prediction.kind, prediction.verdict) == ("two.jpg", MediaKind.IMAGE, Verdict.FAKE)
    assert sorted(face.verdict for face in prediction.faces) == [Verdict.FAKE, Verdict.REAL]
    assert prediction.score == max(face.score for face in prediction.faces) > 0.9
    assert prediction.faces[0].track != prediction.faces[1].track
    assert len(prediction.frames[0].faces) == 2


def test_no_face_has_no_score_and_not_one_half() -> None:
    prediction = make_predictor().predict_image(make_frame(None))
    assert prediction.verdict is Verdict.NO_FACE
    assert prediction.score is None
    assert prediction.faces == ()


def test_images_in_one_batch_keep_their_own_faces() -> None:
    predictor = make_predictor()
    images = [make_frame(10, 250), make_frame(None), make_frame(250), make_frame(10)]
    together = predictor.predict_images(images, names=list("abcd"))
    assert together == [predictor.predict_image(image, name=name) for image, name in zip(images, "abcd", strict=True)]
    assert [row.verdict for row in together] == [Verdict.FAKE, Verdict.NO_FACE, Verdict.FAKE, Verdict.REAL]


def test_a_video_scores_each_person_and_takes_the_most_fake(video: Callable[..., Path]) -> None:
    path = video([make_frame(20, 220) for _ in range(20)])
    prediction = make_predictor().predict_video(path)
    assert prediction.kind is MediaKind.VIDEO
    assert [face.num_frames for face in prediction.faces] == [20, 20]
    assert {face.verdict for face in prediction.faces} == {Verdict.REAL, Verdict.FAKE}
    assert prediction.score == max(face.score for face in prediction.faces)
    assert [frame.time_seconds for frame in prediction.frames[:3]] == pytest.approx([0.0, 0.1, 0.2])


def test_a_passer_by_of_one_frame_does_not_decide(video: Callable[..., Path]) -> None:
    frames = [make_frame(20) for _ in range(20)]
    frames[10] = make_frame(20, 250)
    prediction = make_predictor().predict_video(video(frames))
    brief = next(face for face in prediction.faces if face.num_frames == 1)
    assert brief.verdict is Verdict.FAKE
    assert not brief.decides
    assert prediction.verdict is Verdict.REAL


def test_a_face_in_few_frames_decides_where_there_is_no_other(video: Callable[..., Path]) -> None:
    frames = [make_frame(None) for _ in range(20)]
    frames[10] = make_frame(250)
    prediction = make_predictor().predict_video(video(frames))
    assert prediction.verdict is Verdict.FAKE
    assert sum(bool(frame.faces) for frame in prediction.frames) == 1


def test_where_every_face_is_brief_all_of_them_decide() -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    frames = [FrameResult(track, 0.0, (FaceScore(track, box, 0.9, 0.1),)) for track in range(30)]
    assert all(face.decides for face in sum_up(frames, decision=Decision(), deciding=Deciding(), margin=0.0))


@pytest.mark.parametrize(("aggregation", "verdict"), [("mean", Verdict.REAL), ("max", Verdict.FAKE)])
def test_a_track_scores_as_the_decision_says(aggregation: str, verdict: Verdict) -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    scores = [0.1] * 15 + [0.9] * 5
    frames = [FrameResult(index, 0.0, (FaceScore(0, box, 0.9, score),)) for index, score in enumerate(scores)]
    decision = Decision(aggregation=aggregation)
    (face,) = sum_up(frames, decision=decision, deciding=Deciding(), margin=0.0)
    assert face.verdict is verdict


def test_a_video_without_faces_says_so(video: Callable[..., Path]) -> None:
    prediction = make_predictor(num_frames=5).predict_video(video([make_frame(None) for _ in range(8)]))
    assert prediction.verdict is Verdict.NO_FACE
    assert [len(frame.faces) for frame in prediction.frames] == [0] * 8
    assert (prediction.num_examined, prediction.num_frames) == (8, 8)


def test_a_score_within_the_margin_is_uncertain() -> None:
    assert make_predictor(margin=0.5).predict_image(make_frame(180)).verdict is Verdict.UNCERTAIN
    assert make_predictor(margin=0.0).predict_image(make_frame(180)).verdict is Verdict.FAKE


def test_a_file_that_cannot_be_read_is_a_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "good.jpg", make_frame(250), quality=95)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.mp4").write_text("no video")
    names = ["empty.jpg", "text.mp4", "good.jpg"]
    inputs = [Input(tmp_path / name) for name in names] + [Input(tmp_path / "gone.png", error="No such file")]
    steps = watch_inputs(make_predictor(), inputs)
    rows = [step.prediction for step in steps if step.prediction is not None]
    assert [row.verdict for row in rows] == [None, None, Verdict.FAKE, None]
    assert "0 bytes" in str(rows[0].error)
    assert "cannot be read as a video" in str(rows[1].error)
    assert rows[3].error == "No such file"
    assert rows[3].kind is None


def test_an_image_that_is_damaged_raises_where_it_is_asked_for_alone(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "cut.jpg", make_frame(250), quality=95)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:300])
    with pytest.raises(MediaError, match=r"cut\.jpg"):
        make_predictor().predict_image(tmp_path / "cut.jpg")


def test_a_checkpoint_predicts_a_drawn_video(clip: Path, spec: CropSpec, make_checkpoint: Callable[..., Path]) -> None:
    predictor = Predictor.load(make_checkpoint(spec, Decision(threshold=0.4)), device="cpu", num_frames=4)
    prediction = predictor.predict_file(clip)
    assert prediction.verdict in (Verdict.REAL, Verdict.FAKE)
    assert prediction.threshold == 0.4
    assert [frame.index for frame in prediction.frames] == [0, 8, 15, 23]
    assert all(len(frame.faces) == 1 for frame in prediction.frames)
    assert prediction.faces[0].num_frames == 4


def test_a_given_threshold_replaces_that_of_the_checkpoint(
    whole_image_spec: CropSpec, make_checkpoint: Callable[..., Path]
) -> None:
    path = make_checkpoint(whole_image_spec)
    image = make_frame(250)
    score = Predictor.load(path, device="cpu").predict_image(image).score
    assert score is not None
    at = Predictor.load(path, device="cpu", threshold=score, margin=0).predict_image(image)
    above = Predictor.load(path, device="cpu", threshold=score + 1e-6, margin=0).predict_image(image)
    assert (at.verdict, above.verdict) == (Verdict.FAKE, Verdict.REAL)


def test_an_image_that_is_a_crop_already_is_one_face_as_large_as_itself(
    whole_image_spec: CropSpec, make_checkpoint: Callable[..., Path]
) -> None:
    prediction = Predictor.load(make_checkpoint(whole_image_spec), device="cpu").predict_image(make_frame(10, 250))
    assert [face.box for face in prediction.faces] == [(0.0, 0.0, 160.0, 80.0)]


def test_other_weights_of_the_detector_are_refused(spec: CropSpec, make_checkpoint: Callable[..., Path]) -> None:
    path = make_checkpoint(replace(spec, detector_sha256="0" * 64))
    with pytest.raises(SpecMismatchError, match=rf"retinaface_mobilenet.*{spec.detector_sha256}.*{'0' * 64}"):
        Predictor.load(path, device="cpu")


def test_a_detector_of_another_version_is_named_with_the_choices(
    spec: CropSpec, make_checkpoint: Callable[..., Path]
) -> None:
    with pytest.raises(SpecMismatchError, match=r"'yunet'.*retinaface_mobilenet, retinaface, haar, none"):
        Predictor.load(make_checkpoint(replace(spec, detector="yunet")), device="cpu")


def test_a_checkpoint_that_is_not_there_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.ckpt.*train\.py"):
        Predictor.load(tmp_path / "gone.ckpt")


@pytest.mark.parametrize(
    ("shape", "dtype"), [((40, 40), "uint8"), ((40, 40, 4), "uint8"), ((40, 40, 3), "float64"), ((0, 40, 3), "uint8")]
)
def test_an_array_that_is_no_image_is_told(shape: tuple[int, ...], dtype: str) -> None:
    pixels: Any = np.zeros(shape, dtype)
    with pytest.raises(MediaError, match=rf"array 'one' of {dtype} and shape {re.escape(str(shape))} is not an image"):
        make_predictor().predict_image(pixels, name="one")


def test_a_file_is_watched_frame_by_frame(video: Callable[..., Path], tmp_path: Path) -> None:
    path = video([make_frame(250) for _ in range(8)])
    write_jpeg(tmp_path / "good.jpg", make_frame(250), quality=95)
    steps = list(watch_inputs(make_predictor(num_frames=8), [Input(path), Input(tmp_path / "good.jpg")]))
    assert [step.prediction.path for step in steps if step.prediction] == [str(path), str(tmp_path / "good.jpg")]
    assert steps[0].num_frames == 8
    assert 0 < steps[0].num_done <= 8


def test_a_face_seen_only_between_the_frames_asked_for_is_found_and_scored(video: Callable[..., Path]) -> None:
    path = video([make_frame(250 if 41 <= position < 49 else None) for position in range(100)])
    steps = list(make_predictor(num_frames=3).watch_video(path))
    prediction = steps[-1].prediction
    assert prediction is not None
    assert prediction.verdict is Verdict.FAKE
    assert prediction.faces[0].num_frames >= 3
    indices = [frame.index for frame in prediction.frames]
    assert indices == sorted(set(indices))
    assert prediction.num_examined == len(indices) < 60
    assert prediction.num_frames == 100
    assert any("asked for (3)" in note and str(len(indices)) in note for note in prediction.notes)
    assert set(prediction.key_frames) <= set(range(41, 49))
    (stretch,) = prediction.suspicious
    assert 4.1 <= stretch.start_seconds <= stretch.end_seconds < 4.85
    assert [step.num_done for step in steps] == sorted(step.num_done for step in steps)
    assert all(step.num_done <= step.num_frames for step in steps)
    assert steps[-1].num_done == steps[-1].num_frames == len(indices)


@pytest.mark.parametrize("every_n", [None, 30])
def test_a_video_without_a_face_says_how_much_of_it_was_examined(
    video: Callable[..., Path], every_n: int | None
) -> None:
    path = video([make_frame(None)] * 100)
    prediction = make_predictor(num_frames=4, every_n=every_n, limits=Limits(max_search=5)).predict_video(path)
    assert (prediction.verdict, prediction.num_examined, prediction.num_frames) == (Verdict.NO_FACE, 9, 100)
    (note,) = prediction.notes
    assert "9 of 100 frames" in note
    assert "limits.max_search" in note
    unsearched = make_predictor(num_frames=4, every_n=every_n, limits=Limits(max_search=0)).predict_video(path)
    assert unsearched.num_examined == 4
    bounded = make_predictor(num_frames=4, limits=Limits(max_frames=7)).predict_video(path)
    assert bounded.num_examined == 7


def test_a_cut_to_somebody_else_in_the_same_place_begins_another_person(
    video: Callable[..., Path], clip_maker: Callable[..., list[Image]]
) -> None:
    first, second = clip_maker(1, num_frames=12), clip_maker(2, num_frames=12)
    path = video([(first, second)[place // 3 % 2][place] for place in range(12)])
    predictor = make_predictor(num_frames=12)
    predictor.detector = RetinaFaceMobileNet()
    prediction = predictor.predict_video(path)
    assert [frame.faces[0].track for frame in prediction.frames] == [0, 0, 0, 1, 1, 1] * 2
    assert [face.num_frames for face in prediction.faces] == [6, 6]


def test_where_cuts_show_many_people_those_seen_half_as_long_as_the_longest_decide() -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    lengths = [8, 7, 5, 4, 3, *[4] * 20]
    tracks = [track for track, length in enumerate(lengths) for _ in range(length)]
    frames = [FrameResult(place, 0.0, (FaceScore(track, box, 0.9, 0.1),)) for place, track in enumerate(tracks)]
    rows = sum_up(frames, decision=Decision(), deciding=Deciding(), margin=0.0)
    assert [row.decides for row in rows] == [length >= 4 for length in lengths]
