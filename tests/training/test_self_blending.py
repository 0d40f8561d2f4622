from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score
from tests.conftest import train_tiny

from unmask.data.dataset import FaceCrops
from unmask.data.tables import FaceDataset
from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
from unmask.faces.spec import CropSpec
from unmask.models.checkpoint import load_checkpoint
from unmask.preparation.prepare import prepare
from unmask.sources.synthetic import SyntheticFaces


@pytest.fixture
def many_faces(tmp_path: Path) -> Path:
    """240 drawn people, four frames each."""
    source, output = SyntheticFaces(tmp_path / "source", num_identities=240, num_frames=4), tmp_path / "faces"
    source.create(num_workers=2)
    detector = RetinaFaceMobileNet()
    spec = CropSpec(detector.name, detector.weights_sha256, num_frames=4)
    fractions = {"train": 0.7, "val": 0.15, "test": 0.15}
    prepare(source, output=output, detector=detector, spec=spec, fractions=fractions, seed=0, num_workers=2)
    return output


def score_method(checkpoint_path: str, root: Path, method: str) -> float:
    """Return the ROC-AUC of the test crops of one method against the real ones."""
    checkpoint, dataset = load_checkpoint(checkpoint_path), FaceDataset.load(root)
    table = dataset.faces_of("test")
    table = table[table["method"].isin(["original", method])].reset_index(drop=True)
    crops = FaceCrops(table, root=root, input_spec=checkpoint.input_spec)
    network = checkpoint.build_network()
    with torch.inference_mode():
        logits = [network(crops[row]["image"][None]) for row in range(len(crops))]
    return float(roc_auc_score(table["label"], torch.cat(logits).numpy()))


@pytest.mark.slow
def test_self_blending_of_real_crops_alone_separates_face_swaps_it_never_saw(many_faces: Path, tmp_path: Path) -> None:
    result = train_tiny(
        many_faces, tmp_path / "run", "augmentation=sbi", "model=resnet18", "model.weights=null", "model.dropout=0",
        "model.input_size=112", "optimizer.lr=1e-3", "scheduler=onecycle", "trainer.max_epochs=14", "precision=auto",
        "dataset.limit.val=200", "seed=0",
    )  # fmt: skip
    last = str(result["last_checkpoint"])  # the last, since the best one is chosen by its score on fakes
    # A plain loop over as many epochs gave 0.70 and 0.99; with 48 real and 48 forged videos the standard error of the
    # first is about 0.05.
    assert score_method(last, many_faces, "FaceSwap") > 0.6
    assert score_method(last, many_faces, "Deepfakes") > 0.9
