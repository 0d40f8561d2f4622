"""Measure what differs between real and fake videos besides the forgery: a network could learn that instead."""

import io
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image as PilImage
from sklearn.metrics import roc_auc_score

from unmask.data.tables import FaceDataset
from unmask.types import Label, MediaKind, Outcome

LIMIT = 0.7
"""ROC-AUC of a single property above which a warning is due."""

MAX_FILES = 1000
"""Maximum number of source files examined per method; more do not change an ROC-AUC noticeably."""

_CODECS_SHOWN = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cue:
    """How well one property of a video, such as its width, tells real from fake.

    Args:
        name: Name of the property, with its unit.
        real: Median of the real videos, or the most frequent values with their shares.
        fake: The same of the fake videos.
        auc: ROC-AUC of the property alone, in either direction, so at least 0.5.
        method: Forgery method that the property tells from real best.
        method_auc: ROC-AUC of the property for the fakes of that method against all reals.
        chance: ROC-AUC that a property of so many videos exceeds by chance in one of 20 datasets.
        method_chance: The same with the fakes of that method alone.
        num_known: Number of videos with a known value.
    """

    name: str
    real: str
    fake: str
    auc: float
    method: str
    method_auc: float
    chance: float
    method_chance: float
    num_known: int

    @property
    def tells(self) -> bool:
        """Whether the property tells anything at all."""
        return max(self.auc, self.method_auc) > 0.5

    @property
    def is_warning(self) -> bool:
        """Whether the property tells real from fake too well: all fakes, or those of one method beyond chance."""
        return self.auc > LIMIT or self.method_auc > max(LIMIT, self.method_chance)


def measure_cues(dataset: FaceDataset) -> list[Cue]:
    """Measure how well each property of the usable videos tells real from fake, the best first.

    Properties that are unknown for a class, such as the frame rate of images, are left out. The result is empty if
    the dataset has only one class.

    Args:
        dataset: Face dataset; where its source files are gone, their size and JPEG quality are unknown.
    """
    videos = _describe_videos(dataset)
    names = [name for name in videos.columns if name not in ("label", "method")]
    cues = [cue for name in names if (cue := _measure(videos, name)) is not None]
    return sorted(cues, key=lambda cue: -max(cue.auc, cue.method_auc))


def warn_of_cues(cues: Sequence[Cue]) -> None:
    """Log a warning for each property that tells real from fake too well."""
    for cue in cues:
        if cue.is_warning:
            logger.warning("%s", describe_warning(cue))


def describe_warning(cue: Cue) -> str:
    """Return the sentence that warns about a property."""
    worse = f", {cue.method_auc:.2f} for {cue.method}" if cue.method_auc > cue.auc else ""
    few = f" With so few videos, chance alone reaches {cue.chance:.2f}." if cue.chance > LIMIT else ""
    return (
        f"Real and fake differ in {cue.name} (real {cue.real}, fake {cue.fake}; ROC-AUC {cue.auc:.2f}{worse}): "
        f"a network can learn this instead of the forgery.{few}"
    )


def _describe_videos(dataset: FaceDataset) -> pd.DataFrame:
    """Return a row per usable video with its label, method and properties; unknown values are NaN or None."""
    usable = dataset.videos[dataset.videos["outcome"] == Outcome.OK]
    table = usable[["label", "method"]].assign(codec=usable["codec"].where(usable["codec"] != ""))
    for column, name in (("width", "width (px)"), ("height", "height (px)"), ("fps", "frame rate (1/s)")):
        values = pd.to_numeric(usable[column], errors="coerce")
        table[name] = values.where(values > 0)
    for column, name in (("frames", "frames examined"), ("faces", "crops")):
        table[name] = pd.to_numeric(usable[column], errors="coerce")
    boxes = dataset.faces[["video_id", "box"]].dropna()
    sides = boxes["box"].map(lambda box: max(box[2] - box[0], box[3] - box[1])).groupby(boxes["video_id"]).median()
    table["face size (px)"] = usable["video_id"].map(sides).astype(float)
    files = _measure_files(usable)
    return table.join(files)


def _measure_files(usable: pd.DataFrame) -> pd.DataFrame:
    """Return file size and JPEG quality of the source files, at most `MAX_FILES` per method, evenly spaced."""
    rows = [
        index
        for _, group in usable.groupby(["label", "method"], sort=False)
        for index in group.index[np.unique(np.linspace(0, len(group) - 1, min(len(group), MAX_FILES)).astype(int))]
    ]
    examined = usable.loc[rows]
    places = zip(rows, examined["path"], examined["kind"], strict=True)
    measured = {index: _measure_file(Path(str(path)), str(kind)) for index, path, kind in places}
    columns = ["file size (kB)", "JPEG quality"]
    return pd.DataFrame.from_dict(measured, orient="index", columns=columns, dtype=float).reindex(usable.index)


def _measure_file(path: Path, kind: str) -> tuple[float, float]:
    """Return the size in kB and the JPEG quality of a source file or folder of frames; NaN if unknown."""
    try:
        files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files) / 1000
    except OSError:
        return math.nan, math.nan
    if kind == MediaKind.VIDEO or not files:
        return size, math.nan
    return size, estimate_jpeg_quality(files[0])


def estimate_jpeg_quality(path: Path) -> float:
    """Return the quality, 1 to 100, that a JPEG was saved with, estimated from its luminance quantization table.

    Args:
        path: Image file.

    Returns:
        NaN if the file is not a JPEG or cannot be read.
    """
    try:
        with PilImage.open(path) as image:
            tables: dict[int, Sequence[int]] = getattr(image, "quantization", {})
    except (OSError, ValueError, SyntaxError, PilImage.DecompressionBombError):
        return math.nan
    if 0 not in tables:
        return math.nan
    total = sum(tables[0])
    sums = _sum_tables()
    return float(min(sums, key=lambda quality: abs(sums[quality] - total)))


@cache
def _sum_tables() -> dict[int, int]:
    """Return the sum of the luminance quantization table of each quality, as libjpeg writes it."""
    sums = {}
    for quality in range(1, 101):
        file = io.BytesIO()
        PilImage.new("RGB", (1, 1)).save(file, "JPEG", quality=quality)
        with PilImage.open(file) as image:
            tables: dict[int, Sequence[int]] = getattr(image, "quantization", {})
        sums[quality] = sum(tables[0])
    return sums


def _measure(videos: pd.DataFrame, name: str) -> Cue | None:
    known = videos[videos[name].notna()]
    real, fakes = known[known["label"] == Label.REAL], known[known["label"] == Label.FAKE]
    if real.empty or fakes.empty:
        return None
    by_method = {
        str(method): _tell_apart(real[name], rows[name]) for method, rows in fakes.groupby("method", sort=True)
    }
    method = max(by_method, key=lambda each: by_method[each])
    return Cue(
        name=name,
        real=_summarize(real[name]),
        fake=_summarize(fakes[name]),
        auc=_tell_apart(real[name], fakes[name]),
        method=method,
        method_auc=by_method[method],
        chance=_bound_chance(len(real), len(fakes)),
        method_chance=_bound_chance(len(real), int((fakes["method"] == method).sum())),
        num_known=len(known),
    )


def _bound_chance(num_real: int, num_fake: int) -> float:
    """Return the ROC-AUC at 1.96 standard deviations of the Mann-Whitney statistic of equal classes."""
    return min(0.5 + 1.96 * math.sqrt((num_real + num_fake + 1) / (12 * num_real * num_fake)), 1.0)


def _tell_apart(real: "pd.Series[Any]", fake: "pd.Series[Any]") -> float:
    """Return the ROC-AUC of a property in the better direction; for names, of the one name that tells most."""
    values = pd.concat([real, fake])
    labels = np.repeat([int(Label.REAL), int(Label.FAKE)], [len(real), len(fake)])
    if pd.api.types.is_numeric_dtype(values):
        columns = [values.to_numpy(float)]
    else:
        columns = [(values == each).to_numpy(float) for each in values.unique()]  # one-hot, so free of the labels
    areas = [float(roc_auc_score(labels, column)) for column in columns]
    return max(max(area, 1 - area) for area in areas)


def _summarize(values: "pd.Series[Any]") -> str:
    if pd.api.types.is_numeric_dtype(values):
        return f"{values.median():.4g}"
    shares = values.value_counts(normalize=True)
    shown = [f"{value} {share:.0%}" for value, share in shares.head(_CODECS_SHOWN).items()]
    return ", ".join(shown) + (f" and {len(shares) - _CODECS_SHOWN} more" if len(shares) > _CODECS_SHOWN else "")
