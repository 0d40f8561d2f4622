"""Choose the rows of a split to train on: caps, limits, and the original of each fake."""

import logging

import numpy as np
import numpy.typing as npt
import pandas as pd

from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.types import Label

Rows = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)


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
    return (boxes[:, :2] + boxes[:, 2:]) / 2
