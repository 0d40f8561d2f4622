"""Crops as tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from unmask.data.augmentation import Augmentation, FakeMaker, Landmarks
from unmask.data.sampler import Draw
from unmask.errors import DatasetError, MediaError
from unmask.faces.crop import locate_landmarks, prepare_input
from unmask.faces.spec import CropSpec, InputSpec
from unmask.media.picture import decode_crop_file
from unmask.paths import show_command
from unmask.types import Face, Label, Picture


class FaceCrops(Dataset[dict[str, Any]]):
    """The crops of a table, decoded and brought to the network's size; normalised later, on the device.

    An item holds `image` (uint8, shape `(3, size, size)`), `label`, `row` (in `table`) and `video` (its number). It is
    asked for by its row, or by a `Draw`, which also seeds the augmentation.

    Args:
        table: Rows of `faces.parquet`, numbered from 0.
        root: Of the face dataset.
        input_spec: Size of the input.
        transform: Gets the stored crop and its landmarks, and returns what is seen instead; None to leave it.
        landmarks: Of every row, or None where the transform does without.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        root: Path,
        input_spec: InputSpec,
        transform: Callable[[Picture, Landmarks | None], Picture] | None = None,
        landmarks: list[Landmarks] | None = None,
    ) -> None:
        self.table = table
        self.transform = transform
        self.input_spec = input_spec
        self._root = root
        self._paths = [root / crop for crop in table["crop"]]
        self._labels = table["label"].to_numpy(np.int64)
        self._videos = pd.factorize(table["video_id"])[0].astype(np.int64)
        self._landmarks = landmarks

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: "int | Draw") -> dict[str, Any]:
        draw = index if isinstance(index, Draw) else None
        row = index.row if isinstance(index, Draw) else index
        crop = self.stored(row)
        label = int(self._labels[row])
        if self.transform is not None:
            crop, label = self._augment(crop, row, draw), label if draw is None or not draw.is_forged else Label.FAKE
        image = torch.from_numpy(prepare_input(crop, self.input_spec)).permute(2, 0, 1).contiguous()
        return {"image": image, "label": int(label), "row": row, "video": int(self._videos[row])}

    def stored(self, row: int) -> Picture:
        """Return a crop as it is stored.

        Raises:
            DatasetError: It cannot be read.
        """
        try:
            return decode_crop_file(self._paths[row])
        except MediaError as error:
            repair = show_command("prepare.py", "task=repair", f"output={self._root}")
            raise DatasetError(f"{error} Make it again with: {repair}") from error

    def _augment(self, crop: Picture, row: int, draw: Draw | None) -> Picture:
        assert self.transform is not None
        landmarks = None if self._landmarks is None else self._landmarks[row]
        if draw is not None and isinstance(self.transform, Augmentation | FakeMaker):
            self.transform.set_seed(draw.seed)
        if draw is not None and draw.is_forged:
            assert isinstance(self.transform, FakeMaker)
            return self.transform.forge(crop, landmarks)
        return self.transform(crop, landmarks)


def find_landmarks(table: pd.DataFrame, *, spec: CropSpec, root: Path) -> list[Landmarks]:
    """Return the landmarks of every crop, in pixels of the crop.

    Args:
        table: Rows of faces.
        spec: How the crops were made.
        root: Of the face dataset, for the message.

    Raises:
        DatasetError: A crop has none.
    """
    found = []
    for box, landmarks in zip(table["box"], table["landmarks"], strict=True):
        if landmarks is None or np.size(landmarks) != 10:
            raise DatasetError(
                f"The augmentation needs the landmarks of every face, and '{root}' was prepared with the detector "
                f"'{spec.detector}', which gives none. Prepare it again with detector=retinaface_mobilenet, or choose "
                f"an augmentation without them: augmentation=light, strong, compression, deepfakebench, robust"
            )
        x1, y1, x2, y2 = map(float, box)
        points = tuple((float(x), float(y)) for x, y in np.reshape(landmarks, (5, 2)))
        located = locate_landmarks(Face((x1, y1, x2, y2), points, 1.0), spec)
        assert located is not None
        found.append(located)
    return found
