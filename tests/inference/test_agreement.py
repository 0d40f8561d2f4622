from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image as PilImage
from tests.media.drawn import make_profile, write_frames

from unmask.evaluation.run import Options, evaluate
from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
from unmask.faces.spec import CropSpec
from unmask.inference.predictor import Predictor
from unmask.media.encode import write_video
from unmask.media.image import write_jpeg
from unmask.preparation.prepare import prepare
from unmask.sources.image_folder import ImageFolder
from unmask.types import Image, Verdict


@pytest.fixture
def media(tmp_path: Path, clip_maker: Callable[..., list[Image]]) -> Path:
    root = tmp_path / "media"
    for seed, label in enumerate(("real", "fake"), start=1):
        write_video(root / "test" / label / "clip.mp4", clip_maker(seed, num_frames=15), fps=25)
        write_jpeg(root / "test" / label / "photo.jpg", clip_maker(seed + 10, num_frames=1)[0], quality=92)
    # These need more than decoding: pixels twice as wide as high, stored sideways; colours of a wide profile.
    sideways = [np.ascontiguousarray(np.rot90(image)[:, ::2]) for image in clip_maker(3, num_frames=15)]
    turned = [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30]
    write_frames(root / "test" / "fake" / "clip.mp4", sideways, aspect=Fraction(2), display=turned)
    wide = make_profile(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), gamma=2.2)
    photo = root / "test" / "fake" / "photo.jpg"
    PilImage.open(photo).save(photo, icc_profile=wide, quality=92)
    return root


def test_evaluate_and_predict_give_the_same_crop_the_same_score(
    media: Path, tmp_path: Path, spec: CropSpec, make_checkpoint: Callable[..., Path]
) -> None:
    fractions = {"train": 0.0, "val": 0.0, "test": 1.0}
    prepare(
        ImageFolder(media), output=tmp_path / "faces", detector=RetinaFaceMobileNet(), spec=spec, fractions=fractions,
        seed=0, num_workers=0,
    )  # fmt: skip
    checkpoint = make_checkpoint(spec)
    evaluation = evaluate(checkpoint, root=tmp_path / "faces", output=tmp_path / "run", options=Options(device="cpu"))
    evaluated = pd.read_parquet(evaluation.scores)
    predictor = Predictor.load(checkpoint, device="cpu", batch_size=5)
    predicted = {
        (f"image_folder/{path.relative_to(media).as_posix()}", frame.index): frame.faces[0].score
        for path in sorted(media.rglob("*.*"))
        for frame in predictor.predict_file(path).frames
    }
    assert len(evaluated) == len(predicted) == 2 * (spec.num_frames + 1)
    assert evaluated["score"].std() > 1e-3, "scores that are all alike would agree by chance"
    for row in evaluated.itertuples():
        assert predicted[row.video_id, row.frame_index] == pytest.approx(row.score, abs=1e-4)
    videos = pd.read_parquet(tmp_path / "run" / "scores_videos.parquet").set_index("video_id")
    clip = media / "test" / "fake" / "clip.mp4"
    assert predictor.predict_file(clip).score == pytest.approx(
        videos.loc["image_folder/test/fake/clip.mp4", "score"], abs=1e-4
    )


@pytest.fixture
def crowd(tmp_path: Path, clip_maker: Callable[..., list[Image]]) -> Path:
    """Return videos of two people, the second of whom comes late and is blurred half of the time."""
    root = tmp_path / "crowd"
    for seed, label in enumerate(("real", "fake"), start=1):
        left, right = clip_maker(seed, num_frames=16), clip_maker(seed + 4, num_frames=16)
        frames = []
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            second = cv2.GaussianBlur(other, (0, 0), 5) if index % 4 < 2 else other
            frames.append(np.hstack([one, second if index >= 4 else np.full_like(other, 90)]))
        write_video(root / "test" / label / "clip.mp4", frames, fps=25)
    return root


@pytest.mark.parametrize(
    ("options", "num_crops"),
    [
        ({"format": "png"}, 28),
        ({"format": "webp"}, 28),
        ({"chroma": "4:2:0"}, 28),
        ({"min_sharpness": 20.0}, 22),
        ({"min_confidence": 0.98, "format": "png"}, 26),
    ],
    ids=["png", "webp", "4:2:0", "sharpness", "confidence"],
)
def test_every_format_and_limit_gives_evaluation_and_prediction_the_same_video_scores(
    crowd: Path,
    tmp_path: Path,
    spec: CropSpec,
    make_checkpoint: Callable[..., Path],
    options: dict[str, object],
    num_crops: int,
) -> None:
    crops = replace(spec, keep="all", num_frames=8, **options)  # type: ignore[arg-type]
    prepare(
        ImageFolder(crowd), output=tmp_path / "faces", detector=RetinaFaceMobileNet(), spec=crops,
        fractions={"train": 0.0, "val": 0.0, "test": 1.0}, seed=0, num_workers=0,
    )  # fmt: skip
    checkpoint = make_checkpoint(crops)
    evaluation = evaluate(checkpoint, root=tmp_path / "faces", output=tmp_path / "run", options=Options(device="cpu"))
    frames = pd.read_parquet(evaluation.scores)
    assert len(frames) == num_crops
    scores = pd.read_parquet(tmp_path / "run" / "scores_videos.parquet").set_index("video_id")["score"]
    predictor = Predictor.load(checkpoint, device="cpu")
    for label in ("real", "fake"):
        name = f"image_folder/test/{label}/clip.mp4"
        rows = frames[frames["video_id"] == name]
        prediction = predictor.predict_file(crowd / "test" / label / "clip.mp4")
        assert [face.num_frames for face in prediction.faces] == rows.groupby("track").size().sort_values().tolist()[
            ::-1
        ]
        assert prediction.score == pytest.approx(scores[name], abs=1e-6)
        assert abs(prediction.score - rows["score"].mean()) > 1e-3, "the mean over people would differ"
        predicted = sorted(face.score for frame in prediction.frames for face in frame.faces)
        assert predicted == pytest.approx(sorted(rows["score"]), abs=1e-6)
    notes = [
        note for label in ("real", "fake") for note in predictor.predict_file(crowd / f"test/{label}/clip.mp4").notes
    ]
    limits = [key for key in options if key.startswith("min_")]
    assert [key for key in ("min_sharpness", "min_confidence") if f"crop.{key}=" in " ".join(notes)] == limits


def test_image_whose_faces_all_fail_a_limit_of_the_model_has_no_verdict_and_says_why(
    media: Path, spec: CropSpec, make_checkpoint: Callable[..., Path]
) -> None:
    predictor = Predictor.load(make_checkpoint(replace(spec, min_face=1000)), device="cpu")
    for path, num in ((media / "test/real/photo.jpg", "1 of 1"), (media / "test/real/clip.mp4", "6 of 6")):
        prediction = predictor.predict_file(path)
        assert (prediction.verdict, prediction.score, prediction.faces) == (Verdict.NO_FACE, None, ())
        (note,) = [note for note in prediction.notes if "crop.min_face=1000" in note]
        assert num in note
        assert not any("No face was found" in note for note in prediction.notes)
        assert "No face was found" not in prediction.reason
