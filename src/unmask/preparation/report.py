"""Write `report.html` of a face dataset: counts, crops of each method, and what differs between real and fake."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unmask.data.tables import FaceDataset
from unmask.page import draw_thumbnail, embed_jpeg, render_page
from unmask.paths import write_bytes
from unmask.preparation.cues import LIMIT, Cue, describe_warning, measure_cues, warn_of_cues
from unmask.types import SPLITS, Label, Outcome

REPORT_FILE = "report.html"

NUM_SHOWN = 8
"""Maximum number of crops shown per method."""

SIDE = 96
"""Thumbnail size in pixels."""

MAX_BYTES = 600_000
"""Maximum size of all thumbnails together in bytes."""

_MAX_SHOWN = 160
_MOST_UNUSABLE = 20


@dataclass(frozen=True)
class Explored:
    """Result of `write_report`.

    Args:
        report: The page.
        cues: Properties of the videos, the one that tells real from fake best first.
    """

    report: Path
    cues: tuple[Cue, ...]


def write_report(dataset: FaceDataset) -> Explored:
    """Write the page into the folder of a face dataset, and log a warning for each property that differs too much.

    Args:
        dataset: Face dataset.

    Raises:
        OutputError: The disk is full, or the folder is not writable.
    """
    cues = measure_cues(dataset)
    warn_of_cues(cues)
    page = dataset.root / REPORT_FILE
    write_bytes(page, render_report(dataset, cues).encode())
    return Explored(page, tuple(cues))


def render_report(dataset: FaceDataset, cues: list[Cue]) -> str:
    """Render the HTML page; all text from data is escaped.

    Args:
        dataset: Face dataset.
        cues: Result of `measure_cues`.
    """
    videos = dataset.videos
    unusable = videos[videos["outcome"] != Outcome.OK]
    return render_page(
        "unmask.preparation",
        "dataset.html.jinja",
        name=dataset.name,
        unit="video" if dataset.has_videos else "image",
        num={label.name.lower(): int((videos["label"] == label).sum()) for label in Label},
        num_crops=len(dataset.faces),
        methods=count_by_method(dataset).to_dict("records"),
        splits=_count_splits(dataset),
        outcomes=_count_outcomes(videos),
        splits_of_all=SPLITS,
        cues=cues,
        warnings=[describe_warning(cue) for cue in cues if cue.is_warning],
        limit=LIMIT,
        shelves=list(_fill_shelves(dataset)),
        unusable=unusable.head(_MOST_UNUSABLE).to_dict("records"),
        num_more_unusable=max(len(unusable) - _MOST_UNUSABLE, 0),
        provenance=_describe(dataset),
    )


def count_by_method(dataset: FaceDataset) -> pd.DataFrame:
    """Count the videos and crops of each method, reals first.

    Args:
        dataset: Face dataset.

    Returns:
        A row per method with `method`, `class`, `videos`, `crops`, the crops of each split, and `without crops`, the
        number of videos that gave none.
    """
    rows = []
    for (value, method), videos in dataset.videos.groupby(["label", "method"], sort=False):
        label = Label(int(str(value)))
        faces = dataset.faces[(dataset.faces["method"] == method) & (dataset.faces["label"] == label)]
        rows.append(
            {"method": str(method), "class": label.name.lower(), "videos": len(videos), "crops": len(faces)}
            | {split: int((faces["split"] == split).sum()) for split in SPLITS}
            | {"without crops": int((videos["outcome"] != Outcome.OK).sum())}
        )
    rows.sort(key=lambda row: row["class"] == Label.FAKE.name.lower())
    return pd.DataFrame(rows, columns=["method", "class", "videos", "crops", *SPLITS, "without crops"])


def choose_crops(dataset: FaceDataset, *, most: int = NUM_SHOWN) -> dict[tuple[Label, str], list[str]]:
    """Choose the middle crop of videos that are evenly spaced over those of each class and method.

    Args:
        dataset: Face dataset.
        most: Maximum number of crops per method.

    Returns:
        Paths relative to the root of the dataset, or absolute for images indexed in place.
    """
    chosen = {}
    for (label, method), faces in dataset.faces.groupby(["label", "method"], sort=False):
        videos = [rows["crop"].iloc[len(rows) // 2] for _, rows in faces.groupby("video_id", sort=False)]
        places = np.unique(np.linspace(0, len(videos) - 1, min(len(videos), most)).astype(int))
        chosen[Label(int(str(label))), str(method)] = [str(videos[place]) for place in places]
    return dict(sorted(chosen.items(), key=lambda entry: entry[0][0]))


def _fill_shelves(dataset: FaceDataset) -> Iterator[dict[str, Any]]:
    """Yield the thumbnails of each method, up to `MAX_BYTES` in total."""
    num_methods = max(dataset.faces.groupby(["label", "method"]).ngroups, 1)
    left = MAX_BYTES
    for (label, method), crops in choose_crops(dataset, most=max(min(NUM_SHOWN, _MAX_SHOWN // num_methods), 1)).items():
        shown = []
        for crop in crops:
            image = draw_thumbnail(dataset.root / crop, side=SIDE)
            if image and len(image) <= left:
                left -= len(image)
                shown.append({"crop": crop, "image": embed_jpeg(image)})
        yield {"method": method, "class": label.name.lower(), "crops": shown, "num_left_out": len(crops) - len(shown)}


def _count_splits(dataset: FaceDataset) -> list[dict[str, Any]]:
    rows = []
    for split in SPLITS:
        row: dict[str, Any] = {"split": split}
        for name, table in (("videos", dataset.videos), ("crops", dataset.faces)):
            ours = table[table["split"] == split]
            row |= {f"{label.name.lower()} {name}": int((ours["label"] == label).sum()) for label in Label}
        rows.append(row)
    return rows


def _count_outcomes(videos: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"outcome": str(outcome)} | {label.name.lower(): int((rows["label"] == label).sum()) for label in Label}
        for outcome, rows in videos.groupby("outcome", sort=True)
    ]


def _describe(dataset: FaceDataset) -> dict[str, str]:
    """Return what the dataset was made of and how, in display order."""
    sources = ", ".join(f"{source.name} ({source.forgeries})" for source in dataset.sources)
    preprocessing = {key: str(value) for key, value in dataset.spec.to_dict().items() if value not in ("", {})}
    versions = {f"{package} version": str(value) for package, value in dataset.info.get("versions", {}).items()}
    return {
        "folder": str(dataset.root),
        "source": sources or dataset.name,
        "preprocessing hash": dataset.spec.hash,
        **preprocessing,
        "seed of the split": str(dataset.info.get("seed", "unknown")),
        **versions,
    }
