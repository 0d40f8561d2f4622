"""`detector=whole` from preparing to the app: images and videos without any face are scored."""

import io
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from tests.conftest import train_tiny
from tests.web.api.conftest import wait_until_ready

from unmask.cli.prepare import main
from unmask.data.tables import FaceDataset
from unmask.evaluation.run import Options, evaluate
from unmask.inference.predictor import Predictor
from unmask.media.encode import write_video
from unmask.media.image import read_image, write_jpeg
from unmask.types import Image, Verdict
from unmask.web.api.app import create_app
from unmask.web.api.settings import ModelSettings, ServiceSettings
from unmask.web.app.models import Model, ModelFile
from unmask.web.app.session import DroppedFile, look_at

Prepare = Callable[..., None]


def paint(seed: int, *, is_fake: bool, width: int = 96, height: int = 64) -> Image:
    """A landscape without a face: a soft gradient, with a fine grid in a fake one."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(
        rng.integers(40, 200, (3, 3, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_LINEAR
    )
    if is_fake:
        image[::2, ::2] = 255
    return np.asarray(image, np.uint8)


@pytest.fixture
def source(in_folder: Path) -> Path:
    """Images, a video and a folder of frames of each class and split."""
    seed = 0
    for split in ("train", "val", "test"):
        for label in ("real", "fake"):
            folder, is_fake = in_folder / "raw" / split / label, label == "fake"
            for number in range(3):
                seed += 1
                write_jpeg(folder / f"{number}.jpg", paint(seed, is_fake=is_fake), quality=95)
            frames = [paint(seed + 500 + at // 3, is_fake=is_fake) for at in range(6)]  # a cut in the middle
            write_video(folder / "clip.mp4", frames, fps=5)
            for number in range(3):
                write_jpeg(folder / "frames" / f"{number:04d}.jpg", frames[number], quality=95)
    return in_folder / "raw"


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Prepare:
    def prepare(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
        main()

    return prepare


ARGUMENTS = ("source=image_folder", "source.root=raw", "source.frames_of=folder", "detector=whole", "output=faces",
             "num_workers=0", "crop.crop_size=64", "crop.num_frames=4")  # fmt: skip


def test_whole_images_go_from_prepare_to_every_way_of_prediction(
    source: Path, in_folder: Path, prepare: Prepare
) -> None:
    prepare(*ARGUMENTS)
    dataset = FaceDataset.load("faces")
    assert dataset.videos["outcome"].value_counts().to_dict() == {"ok": 30}
    assert dataset.spec.detector_options == {"fit": "letterbox"}
    assert (dataset.spec.detector, dataset.spec.margin, dataset.spec.aligned) == ("whole", 1.0, False)
    assert dataset.faces.groupby("video_id").size().groupby(dataset.videos.set_index("video_id")["kind"]).unique().map(
        list
    ).to_dict() == {"frames": [3], "image": [1], "video": [4]}
    assert {tuple(box) for box in dataset.faces["box"]} == {(0.0, 0.0, 96.0, 64.0)}

    result = train_tiny(Path("faces"), in_folder / "run", "model.input_size=32")
    checkpoint, bundle = Path(str(result["best_checkpoint"])), Path(str(result["bundle"]))
    evaluation = evaluate(checkpoint, root="faces", output=in_folder / "evaluation", options=Options(device="cpu"))
    scores = pd.read_parquet(evaluation.scores)
    assert len(scores) == 2 * (3 + 4 + 3)
    for predictor in (Predictor.load(checkpoint, device="cpu"), Predictor.load(bundle)):
        for row in scores[~scores["video_id"].str.contains("frames")].itertuples():
            prediction = predictor.predict_file(source / row.video_id.removeprefix("image_folder/"))
            (face,) = next(frame for frame in prediction.frames if frame.index == row.frame_index).faces
            assert face.score == pytest.approx(row.score, abs=1e-4)
            assert prediction.verdict is not Verdict.NO_FACE
            assert prediction.notes == ()
            assert len(prediction.faces) == 1  # the cut of the video makes no second track
    image = source / "test" / "fake" / "0.jpg"
    expected = Predictor.load(bundle).predict_image(image)
    assert "face" not in (expected.headline + expected.reason).lower()
    assert "image" in expected.reason

    clip = Predictor.load(bundle).predict_file(source / "test" / "real" / "clip.mp4")
    assert "face" not in (clip.headline + clip.reason).lower()
    assert "video" in clip.reason

    service = ServiceSettings(ModelSettings(str(bundle)), in_folder / "service", image_workers=1)
    with TestClient(create_app(service)) as client:
        wait_until_ready(client)
        answer = client.post("/v1/images", files=[("files", ("0.jpg", image.read_bytes()))]).json()
    (row,) = answer["results"]
    assert row["score"] == pytest.approx(expected.score, abs=1e-6)
    assert row["verdict"] != "no_face"
    assert row["faces"][0]["box"] == [0, 0, 96, 64]

    model = Model(ModelFile(str(bundle), "first", 1.0), bundle, Predictor.load(bundle), "tiny", {}, threading.Lock())
    dropped = DroppedFile("1", "0.jpg", io.BytesIO(image.read_bytes()))
    looked = look_at(model, dropped, max_bytes=10**8, on_step=lambda done, total: None)
    assert looked.prediction.score == pytest.approx(expected.score, abs=1e-6)
    assert len(looked.views[0].crops) == 1  # what the network saw, beside its heat map


def test_squash_stretches_the_image_in_prepare_and_in_prediction(
    source: Path, in_folder: Path, prepare: Prepare
) -> None:
    prepare(*ARGUMENTS, "detector.fit=squash")
    dataset = FaceDataset.load("faces")
    assert dataset.spec.detector_options == {"fit": "squash"}
    row = dataset.faces[dataset.faces["video_id"] == "image_folder/test/fake/0.jpg"].iloc[0]
    whole = cv2.resize(read_image(source / "test/fake/0.jpg"), (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(read_image(Path("faces") / row["crop"]).astype(int) - whole).mean() < 4  # but for the JPEG
    result = train_tiny(Path("faces"), in_folder / "run", "model.input_size=32")
    checkpoint = Path(str(result["bundle"])).parent / "checkpoints" / "best.ckpt"
    evaluation = evaluate(checkpoint, root="faces", output=in_folder / "evaluation", options=Options(device="cpu"))
    scores = pd.read_parquet(evaluation.scores).set_index("video_id")["score"]
    prediction = Predictor.load(str(result["bundle"])).predict_image(source / "test/fake/0.jpg")
    assert prediction.score == pytest.approx(scores["image_folder/test/fake/0.jpg"], abs=1e-4)


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("crop.margin=1.5", ("crop.margin=1.5", "detector=whole", "crop.margin=1.0")),
        ("crop.aligned=true", ("crop.aligned=True", "detector=whole")),
        ("detector.fit=stretch", ("detector.fit='stretch'", "letterbox", "squash")),
    ],
)
def test_what_does_not_fit_whole_images_is_refused(
    source: Path, prepare: Prepare, argument: str, parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        prepare(*ARGUMENTS, argument)
    said = capsys.readouterr().err
    assert all(part in said for part in parts)


def test_a_margin_of_one_may_be_said(source: Path, prepare: Prepare) -> None:
    prepare(*ARGUMENTS, "crop.margin=1", "limit=1")
    assert FaceDataset.load("faces").spec.margin == 1.0


def test_damaged_crops_of_whole_images_are_repaired_with_the_same_fit(
    source: Path, in_folder: Path, prepare: Prepare
) -> None:
    prepare(*ARGUMENTS, "detector.fit=squash")
    crop = Path("faces") / FaceDataset.load("faces").faces["crop"].iloc[0]
    before = crop.read_bytes()
    crop.write_bytes(b"damaged")
    prepare("task=repair", "output=faces", "num_workers=0", "hydra.run.dir=repair")
    assert crop.read_bytes() == before
    assert json.loads(Path("repair/result.json").read_text())["repaired"] == 1
