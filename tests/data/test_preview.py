from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from tests.conftest import compose_config

from unmask.data.datamodule import FaceDataModule
from unmask.data.preview import write_previews
from unmask.faces.spec import InputSpec
from unmask.media.image import read_image


def _open(root: Path, *overrides: str) -> FaceDataModule:
    cfg = compose_config("train", f"dataset.root={root}", "dataset.num_workers=0", "model=tiny", *overrides)
    augmentation = instantiate(cfg.augmentation)
    data: FaceDataModule = instantiate(cfg.dataset, input_spec=InputSpec(size=32), augmentation=augmentation, seed=0)
    data.setup()
    return data


@pytest.mark.parametrize("augmentation", ["light", "sbi", "dfdc_winner"])
def test_preview_writes_a_sheet_per_class(face_dataset: Path, tmp_path: Path, augmentation: str) -> None:
    paths = write_previews(_open(face_dataset, f"augmentation={augmentation}"), tmp_path, rows=3, columns=4)
    assert set(paths) == {"real", "fake"}
    for path in paths.values():
        sheet = read_image(path)
        assert sheet.shape == (28 + 3 * 36, 4 * 36, 3)
        stored, *draws = (sheet[28:60, column * 36 : column * 36 + 32] for column in range(4))
        assert stored.std() > 5
        assert any((drawn != stored).any() for drawn in draws)


def test_preview_without_augmentation_shows_the_stored_crop(face_dataset: Path, tmp_path: Path) -> None:
    paths = write_previews(_open(face_dataset, "augmentation=none"), tmp_path, rows=2, columns=3)
    sheet = read_image(paths["fake"])[28:]
    assert np.array_equal(sheet[:, :36], sheet[:, 36:72])
