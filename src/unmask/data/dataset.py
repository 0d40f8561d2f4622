"""Select the rows of a split, and read their crops as tensors."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.utils.data import Dataset

from unmask.data.augmentation import Augmentation, FakeMaker, Landmarks
from unmask.data.sampler import Draw
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError, DatasetError, MediaError
from unmask.faces.crop import locate_landmarks, prepare_input
from unmask.faces.spec import CropSpec, InputSpec
from unmask.media.image import decode_crop_file
from unmask.paths import show_command
from unmask.types import Face, Image, Label

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]


def cap_methods(table: pd.DataFrame, *, cap: int, seed: int) -> pd.DataFrame:
    """Return a table with at most `cap` crops of each forgery method; all real crops stay.

    Args:
        table: Rows of faces.
        cap: Maximum number of crops for each method.
        seed: Seed of the choice.
    """
    rng = np.random.default_rng([seed, cap])
    kept = np.ones(len(table), bool)
    fakes = table["label"].to_numpy() == Label.FAKE
    for method in sorted(table["method"][fakes].unique()):
        rows = np.flatnonzero(fakes & (table["method"] == method).to_numpy())
        kept[rng.permutation(rows)[cap:]] = False
    return table[kept].reset_index(drop=True)


def limit_rows(table: pd.DataFrame, *, limit: int, seed: int, partners: Rows | None = None) -> pd.DataFrame:
    """Return a balanced subset: half of each class, or all of a class that has fewer; a single class fills it.

    Args:
        table: Rows of faces.
        limit: Number of rows.
        seed: Seed of the choice.
        partners: Row of the original of each fake, to draw fakes together with their originals.
    """
    rng, labels = np.random.default_rng([seed, limit]), table["label"].to_numpy()
    if partners is not None:
        fakes = rng.permutation(np.flatnonzero(partners >= 0))[: limit // 2]
        rows = np.concatenate([fakes, partners[fakes]])
    else:
        classes = [np.flatnonzero(labels == label) for label in Label if (labels == label).any()]
        rows = np.concatenate([rng.permutation(found)[: limit // len(classes)] for found in classes])
    return table.iloc[np.unique(rows)].reset_index(drop=True)


def find_originals(table: pd.DataFrame, dataset: FaceDataset) -> Rows:
    """Return for every fake crop the row of its original's crop nearest in time, then in position; -1 for the others.

    Args:
        table: Rows of faces of one split.
        dataset: Dataset that names the original of each video.

    Raises:
        ConfigError: No fake has an original.
    """
    partners = np.full(len(table), -1, np.int64)
    originals = dataset.videos.set_index("video_id")["original"].dropna().to_dict()
    rows_of = {str(name): rows for name, rows in table.groupby("video_id").indices.items()}
    frames = table["frame_index"].to_numpy(np.float64)
    centres = _find_centres(table)
    num_fakes = int((table["label"] == Label.FAKE).sum())
    for video_id, rows in rows_of.items():
        theirs = rows_of.get(str(originals.get(video_id)))
        if theirs is None or table["label"].iat[rows[0]] != Label.FAKE:
            continue
        apart = np.linalg.norm(centres[rows][:, None] - centres[theirs][None], axis=2)
        distance = np.abs(frames[rows][:, None] - frames[theirs][None]) * 1e6 + apart
        partners[rows] = theirs[distance.argmin(axis=1)]
    num_found = int((partners >= 0).sum())
    if not num_found:
        raise ConfigError(
            f"dataset.sampling=paired needs fakes with a known original, and none of the {num_fakes} fake crops of "
            f"split 'train' in '{dataset.root}' has one. Choose dataset.sampling=weighted, natural or subsample."
        )
    if num_found < num_fakes:
        logger.warning(
            "dataset.sampling=paired leaves out %d of %d fake crops that have no original in '%s'.",
            num_fakes - num_found, num_fakes, dataset.root,
        )  # fmt: skip
    return partners


def _find_centres(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    if table["box"].isna().any():
        return np.zeros((len(table), 2))
    boxes = np.stack([np.asarray(box, np.float64) for box in table["box"]])
    centres: npt.NDArray[np.float64] = (boxes[:, :2] + boxes[:, 2:]) / 2
    return centres


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
        transform: Callable[[Image, Landmarks | None], Image] | None = None,
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

    def stored(self, row: int) -> Image:
        """Return a crop as it is stored.

        Raises:
            DatasetError: It cannot be read.
        """
        try:
            return decode_crop_file(self._paths[row])
        except MediaError as error:
            repair = show_command("prepare.py", "task=repair", f"output={self._root}")
            raise DatasetError(f"{error} Make it again with: {repair}") from error

    def _augment(self, crop: Image, row: int, draw: Draw | None) -> Image:
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
