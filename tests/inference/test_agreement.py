from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from tests.media.drawn import make_profile, write_frames

from unmask.evaluation.run import evaluate
from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
from unmask.faces.spec import CropSpec
from unmask.inference.predictor import Predictor
from unmask.media.encode import write_video
from unmask.media.image import write_jpeg
from unmask.preparation.prepare import prepare
from unmask.sources.image_folder import ImageFolder
from unmask.types import Image


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
    import pandas as pd

    fractions = {"train": 0.0, "val": 0.0, "test": 1.0}
    prepare(
        ImageFolder(media), output=tmp_path / "faces", detector=RetinaFaceMobileNet(), spec=spec, fractions=fractions,
        seed=0, num_workers=0,
    )  # fmt: skip
    checkpoint = make_checkpoint(spec)
    evaluation = evaluate(checkpoint, root=tmp_path / "faces", output=tmp_path / "run", device="cpu")
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
