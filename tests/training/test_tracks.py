from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from tests.conftest import train_tiny

from unmask.data.tables import FaceDataset
from unmask.evaluation.run import Options, evaluate
from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
from unmask.faces.spec import CropSpec
from unmask.metrics.threshold import choose_threshold
from unmask.preparation.prepare import prepare
from unmask.sources.ffpp import FaceForensics
from unmask.types import Face, Image


@dataclass
class WithBystander:
    """Finds the drawn head, and a second face in the corner, which is the background."""

    found: RetinaFaceMobileNet = field(default_factory=RetinaFaceMobileNet)
    weights_sha256: str = ""

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        corner = Face((0.0, 0.0, 24.0, 24.0), ((6.0, 8.0), (18.0, 8.0), (12.0, 12.0), (8.0, 18.0), (16.0, 18.0)), 0.9)
        return [[*faces, corner] for faces in self.found.detect(images)]


@pytest.fixture(scope="module")
def pairs(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pairs") / "faces"
    prepare(
        FaceForensics(synthetic_root, name="synthetic", splits=synthetic_root / "splits"), output=root,
        detector=WithBystander(), num_workers=0, seed=0, fractions={"train": 0.7, "val": 0.15, "test": 0.15},
        spec=CropSpec("tests.Both", crop_size=64, num_frames=4, format="png", keep="all", boxes="from_original"),
    )  # fmt: skip
    return root


def test_dataset_of_all_tracks_trains_and_is_evaluated_as_it_was_trained(pairs: Path, tmp_path: Path) -> None:
    assert set(FaceDataset.load(pairs).faces["track"]) == {0, 1}
    result = train_tiny(pairs, tmp_path, "trainer.max_epochs=2", "optimizer.lr=0.01", "dataset.sampling=paired")
    checkpoint = str(result["best_checkpoint"])
    evaluation = evaluate(checkpoint, root=pairs, output=tmp_path / "val", options=Options(split="val", device="cpu"))
    frames = pd.read_parquet(evaluation.scores)
    videos = pd.read_parquet(tmp_path / "val" / "scores_videos.parquet").set_index("video_id")
    by_track = frames.groupby(["video_id", "track"])["score"].mean()
    assert videos["score"].to_dict() == pytest.approx(by_track.groupby(level=0).max().to_dict())
    assert (by_track.groupby(level=0).nunique() == 2).all(), "tracks of equal scores would prove nothing"
    assert evaluation.figures["video"]["auroc"] == pytest.approx(result["objective"], abs=1e-6)
    chosen = choose_threshold(videos["label"], videos["score"])
    assert evaluation.decision["threshold"] == pytest.approx(chosen.threshold, abs=1e-4)


def test_crops_of_a_pair_show_the_same_place(pairs: Path) -> None:
    dataset = FaceDataset.load(pairs)
    originals = dataset.videos.set_index("video_id")["original"].dropna()
    assert len(originals) == 4 * 8
    places = ["frame_index", "track"]
    of = {name: rows.set_index(places)["box"].map(tuple).to_dict() for name, rows in dataset.faces.groupby("video_id")}
    for fake, original in originals.items():
        assert of[fake] == of[original]
