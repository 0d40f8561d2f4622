"""Authentic photographs alone: prepared by person, and trained on with fakes that training makes itself."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import train_tiny

from unmask.cli.prepare import main
from unmask.data.tables import FaceDataset
from unmask.errors import DatasetError
from unmask.inference.predictor import Predictor
from unmask.media.image import write_jpeg
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import animate, draw_identity


def _draw_people(root: Path) -> None:
    for person in range(8):
        rng = np.random.default_rng(person)
        sitter = Sitter(draw_identity(rng), size=128)
        for number, head in enumerate(film(sitter, animate(rng, num_frames=2, fps=25), rng)):
            write_jpeg(root / f"person_{person}" / f"{number}.jpg", head.image, quality=95)


def test_portraits_alone_are_prepared_and_trained_on_with_self_blended_images(
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _draw_people(in_folder / "people")
    arguments = ["source=portraits", "source.root=people", "output=faces", "num_workers=0", "crop.crop_size=64",
                 "split.train=0.5", "split.val=0.25", "split.test=0.25"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
    main()
    out = capsys.readouterr()
    assert "python train.py dataset.root=faces augmentation=sbi" in out.out
    dataset = FaceDataset.load("faces")
    assert dataset.faces["label"].unique().tolist() == [0]
    assert dataset.faces["split"].value_counts().to_dict() == {"train": 8, "val": 4, "test": 4}
    assert dataset.videos.groupby("group")["split"].nunique().unique().tolist() == [1]

    with pytest.raises(DatasetError, match=r"no fake crops.*augmentation=sbi"):
        train_tiny(Path("faces"), in_folder / "refused")

    result = train_tiny(Path("faces"), in_folder / "run", "augmentation=sbi", "dataset.batch_size=4")
    assert "Split 'val' of 'faces' has no fakes" in capsys.readouterr().out
    assert result["objective_key"] == "val/auroc"
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    assert 0 <= metrics["val/auroc"] <= 1
    prediction = Predictor.load(str(result["bundle"])).predict_image(in_folder / "people/person_0/0.jpg")
    assert prediction.score is not None
    assert [source.forgeries for source in prediction.trained_on] == [
        "self_made"
    ]  # so that its verdicts carry a warning


def test_portraits_without_landmarks_cannot_be_blended_which_is_said(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _draw_people(in_folder / "people")
    monkeypatch.setattr(
        sys, "argv", ["prepare.py", "source=portraits", "source.root=people", "output=faces", "detector=whole",
                      "num_workers=0", "crop.crop_size=64"]
    )  # fmt: skip
    main()
    out = capsys.readouterr().out
    assert "detector=retinaface_mobilenet" in out
    assert "python train.py" not in out
    with pytest.raises(DatasetError, match=r"landmarks.*'whole'.*detector=retinaface_mobilenet"):
        train_tiny(Path("faces"), in_folder / "run", "augmentation=sbi")
