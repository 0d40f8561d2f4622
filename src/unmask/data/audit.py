"""Look for leaks: at the end of prepare, and again before every training."""

import pandas as pd

from unmask.data.splits import check_groups
from unmask.data.tables import FaceDataset
from unmask.errors import LeakageError, list_problems


def audit_splits(dataset: FaceDataset) -> None:
    """Raise where a group, an identity or a video stands in more than one split, or a crop not in that of its video.

    Raises:
        LeakageError: Names what crosses, and where.
    """
    videos = dataset.videos
    check_groups(videos["video_id"].tolist(), videos["group"].tolist(), videos["split"].tolist())
    _check_column(videos.explode("identities").dropna(subset=["identities"]), "identities", dataset)
    columns = ["video_id", "split"]
    _check_column(pd.concat([videos[columns], dataset.faces[columns]]), "video_id", dataset)
    _check_column(dataset.faces, "crop", dataset)


def _check_column(table: pd.DataFrame, column: str, dataset: FaceDataset) -> None:
    splits = table.groupby(column)["split"].unique()
    crossing = splits[splits.map(len) > 1]
    if len(crossing):
        rows = (f"{value}: {', '.join(sorted(names))}" for value, names in crossing.items())
        raise LeakageError(
            f"{len(crossing)} values of '{column}' in '{dataset.root}' stand in more than one split:\n"
            f"{list_problems(rows)}\nRun prepare.py again; a table that was edited by hand must keep them together."
        )
