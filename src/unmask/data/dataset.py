"""Select rows of a split, pair fakes with originals, and read crops as tensors."""

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
from unmask.data.tables import FaceDataset, find_deciding
from unmask.errors import ConfigError, DatasetError, MediaError
from unmask.faces.crop import locate_landmarks, prepare_input
from unmask.faces.spec import CropSpec, InputSpec
from unmask.media.image import decode_crop_file
from unmask.paths import show_command
from unmask.types import Face, Image, Label

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]

SELF_MADE = "self_made"
"""Method of the fakes that an augmentation makes for a validation split without any."""

_VAL_SEEDS = 3
"""Random stream of their seeds."""


def add_fakes(table: pd.DataFrame, *, seed: int) -> tuple[pd.DataFrame, list[Draw]]:
    """Add a fake behind each real crop, to be made from it when it is read, and always in the same way.

    Args:
        table: Rows of `faces.parquet`, all real.
        seed: Seed of the run.

    Returns:
        The table with twice as many rows, and the draw of each row.
    """
    fakes = table.assign(label=int(Label.FAKE), method=SELF_MADE, video_id=table["video_id"] + f"/{SELF_MADE}")
    both = pd.concat([table, fakes]).sort_index(kind="stable").reset_index(drop=True)
    seeds = np.random.default_rng([seed, _VAL_SEEDS]).integers(2**63, size=len(table)).tolist()
    return both, [Draw(row, seeds[row // 2], is_forged=bool(row % 2)) for row in range(len(both))]


def cap_methods(table: pd.DataFrame, *, cap: int, seed: int) -> pd.DataFrame:
    """Keep at most `cap` crops of each forgery method, and all real crops.

    Args:
        table: Rows of `faces.parquet`.
        cap: Maximum number of crops per method.
        seed: Seed of the selection.
    """
    rng = np.random.default_rng([seed, cap])
    kept = np.ones(len(table), bool)
    fakes = table["label"].to_numpy() == Label.FAKE
    for method in sorted(table["method"][fakes].unique()):
        rows = np.flatnonzero(fakes & (table["method"] == method).to_numpy())
        kept[rng.permutation(rows)[cap:]] = False
    return table[kept].reset_index(drop=True)


def limit_rows(table: pd.DataFrame, *, limit: int, seed: int, partners: Rows | None = None) -> pd.DataFrame:
    """Select a balanced subset: `limit / 2` rows of each class, or fewer if a class has fewer.

    If the table has only one class, that class gets all `limit` rows.

    Args:
        table: Rows of `faces.parquet`.
        limit: Maximum number of rows.
        seed: Seed of the selection.
        partners: Result of `find_originals`, to select fakes together with their originals.
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
    """Return the row of each fake crop's original: the crop nearest in time, then in position; -1 if none.

    Args:
        table: Rows of `faces.parquet` of one split.
        dataset: Dataset whose videos name their originals.

    Raises:
        ConfigError: None of the fakes has an original.
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
            f"dataset.sampling=paired needs fakes with a known original, but none of the {num_fakes} fake crops of "
            f"split 'train' in '{dataset.root}' has one. Choose dataset.sampling=weighted, natural or subsample."
        )
    if num_found < num_fakes:
        logger.warning(
            "dataset.sampling=paired skips %d of %d fake crops that have no original in '%s'.",
            num_fakes - num_found, num_fakes, dataset.root,
        )  # fmt: skip
    return partners


def _find_centres(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    if table["box"].isna().any():
        return np.zeros((len(table), 2))
    boxes = np.stack([np.asarray(box, np.float64) for box in table["box"]])
    centres: npt.NDArray[np.float64] = (boxes[:, :2] + boxes[:, 2:]) / 2
    return centres


TRACK_STEP = 2**32
"""Factor of the track in a video number."""


def number_videos(table: pd.DataFrame) -> Rows:
    """Return the number of each crop's video plus `TRACK_STEP` times its track; -1 for tracks that do not decide.

    Args:
        table: Rows of `faces.parquet`.
    """
    numbers = pd.factorize(table["video_id"])[0].astype(np.int64)
    if "track" not in table:
        return numbers
    units = numbers + table["track"].to_numpy(np.int64) * TRACK_STEP
    return np.where(find_deciding(table), units, -1)


class FaceCrops(Dataset[dict[str, Any]]):
    """Crops decoded and resized to the network's input; normalisation happens later, on the device.

    An item contains `image` (uint8, shape `(3, size, size)`), `label`, `row` (in `table`), `video` (see
    `number_videos`) and `frame` (its number in the video).
    The index is a row, or a `Draw` that also seeds the augmentation.

    Args:
        table: Rows of `faces.parquet`, indexed from 0.
        root: Folder of the face dataset.
        input_spec: Size of the input.
        transform: Function from a stored crop and its landmarks to an augmented crop; None for no augmentation.
        landmarks: Landmarks of each row, or None if the transform does not need them.
        draws: Draw of each row where rows are augmented in the same way every time; None for no such rows.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        root: Path,
        input_spec: InputSpec,
        transform: Callable[[Image, Landmarks | None], Image] | None = None,
        landmarks: list[Landmarks] | None = None,
        draws: list[Draw] | None = None,
    ) -> None:
        self.table = table
        self.transform = transform
        self.input_spec = input_spec
        self._root = root
        self._paths = [root / crop for crop in table["crop"]]
        self._labels = table["label"].to_numpy(np.int64)
        self._videos = number_videos(table)
        self._frames = table["frame_index"].fillna(0).to_numpy(np.int64)
        self._landmarks = landmarks
        self._draws = draws

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: "int | Draw") -> dict[str, Any]:
        row = index.row if isinstance(index, Draw) else index
        draw = index if isinstance(index, Draw) else None if self._draws is None else self._draws[row]
        crop = self.stored(row)
        label = int(self._labels[row])
        if self.transform is not None:
            crop, label = self._augment(crop, row, draw), label if draw is None or not draw.is_forged else Label.FAKE
        image = torch.from_numpy(prepare_input(crop, self.input_spec)).permute(2, 0, 1).contiguous()
        numbers = {"row": row, "video": int(self._videos[row]), "frame": int(self._frames[row])}
        return {"image": image, "label": int(label), **numbers}

    def stored(self, row: int) -> Image:
        """Return a crop as stored.

        Raises:
            DatasetError: The crop cannot be read.
        """
        try:
            return decode_crop_file(self._paths[row])
        except MediaError as error:
            repair = show_command("prepare.py", "task=repair", f"output={self._root}")
            raise DatasetError(f"{error} Recreate it with: {repair}") from error

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
    """Return the landmarks of each crop, in pixels of the crop.

    Args:
        table: Rows of `faces.parquet`.
        spec: Crop settings.
        root: Folder of the face dataset, for error messages.

    Raises:
        DatasetError: A crop has no landmarks.
    """
    found = []
    for box, landmarks in zip(table["box"], table["landmarks"], strict=True):
        if landmarks is None or np.size(landmarks) != 10:
            raise DatasetError(
                f"The augmentation needs the landmarks of every face, but '{root}' was prepared with the detector "
                f"'{spec.detector}', which finds none. Prepare it again with detector=retinaface_mobilenet, or choose "
                f"an augmentation that does not need them: augmentation=light, strong, compression, deepfakebench, "
                f"robust"
            )
        x1, y1, x2, y2 = map(float, box)
        points = tuple((float(x), float(y)) for x, y in np.reshape(landmarks, (5, 2)))
        located = locate_landmarks(Face((x1, y1, x2, y2), points, 1.0), spec)
        assert located is not None
        found.append(located)
    return found
