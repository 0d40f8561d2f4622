"""Crops as tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from unmask.faces.crop import prepare_input
from unmask.faces.spec import InputSpec
from unmask.media.picture import decode_crop_file
from unmask.types import Picture


class FaceCrops(Dataset[dict[str, Any]]):
    """The crops of a table, decoded and brought to the network's size; normalised later, on the device.

    An item holds `image` (uint8, shape `(3, size, size)`), `label`, `row` (in `table`) and `video` (its number).

    Args:
        table: Rows of `faces.parquet`, numbered from 0.
        root: Of the face dataset.
        input_spec: Size of the input.
        transform: Augmentation of the stored crop; None to leave it.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        root: Path,
        input_spec: InputSpec,
        transform: Callable[[Picture], Picture] | None = None,
    ) -> None:
        self.table = table
        self.transform = transform
        self.input_spec = input_spec
        self._paths = [root / crop for crop in table["crop"]]
        self._labels = table["label"].to_numpy(np.int64)
        self._videos = pd.factorize(table["video_id"])[0].astype(np.int64)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        crop = decode_crop_file(self._paths[index])
        if self.transform is not None:
            crop = self.transform(crop)
        image = torch.from_numpy(prepare_input(crop, self.input_spec)).permute(2, 0, 1).contiguous()
        return {"image": image, "label": int(self._labels[index]), "row": index, "video": int(self._videos[index])}
