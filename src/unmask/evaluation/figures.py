"""All figures of a score table, and what they do not show."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from unmask.decision import Decision
from unmask.evaluation.breakdown import apply_policies, break_down, find_worst_slices, split_by_seen
from unmask.metrics.intervals import BootstrapOptions
from unmask.metrics.scores import coverage_of, figures_of, measure

_FEW = 50
"""Number of videos per class below which the report says that small differences are within chance."""


def compute_figures(
    frames: pd.DataFrame,
    videos: pd.DataFrame,
    *,
    decision: Decision,
    trained_methods: Sequence[str] = (),
    bootstrap: BootstrapOptions | None = None,
) -> dict[str, Any]:
    """Compute all figures of a score table.

    Args:
        frames: One row per crop.
        videos: One row per video of the split; the score is NaN for unscored videos.
        decision: Threshold and aggregation.
        trained_methods: Forgery methods that the training saw; empty if unknown.
        bootstrap: Settings of the confidence intervals; None for the defaults.
    """
    scored = videos[videos["score"].notna()]
    bootstrap = bootstrap or BootstrapOptions()
    groups = dict(zip(videos["video_id"], videos["group"], strict=True))
    return figures_of(frames, decision=decision, groups=groups, bootstrap=bootstrap) | {
        "coverage": coverage_of(videos) | {"policies": apply_policies(videos, decision=decision)},
        "by_seen": {
            name: measure(rows, decision, groups, bootstrap)
            for name, rows in split_by_seen(scored, trained_methods).items()
        },
        "breakdown": break_down(scored, decision=decision),
        "worst_slices": find_worst_slices(scored, decision=decision),
    }


def read_trained_methods(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the forgery methods that a checkpoint records of its training; empty if it records none."""
    known = provenance.get("methods")
    return tuple(map(str, known)) if isinstance(known, list | tuple) else ()


def describe_limits(figures: Mapping[str, Any], *, unit: str) -> tuple[str, ...]:
    """Return sentences on what the figures do not show."""
    video, coverage = figures["video"], figures["coverage"]
    limits = [
        f"These figures hold for the {video['num']} {unit}s of this split and for media like them: other forgery "
        f"methods, cameras, compressions and people can give other figures.",
        "A score is not a probability that a medium is forged; how many of the files called fake are fake depends on "
        "how common fakes are among them.",
    ]
    if min(video["num_real"], video["num_fake"]) < _FEW:
        limits.append(
            f"With {video['num_real']} real and {video['num_fake']} fake {unit}s, differences of a few percent are "
            f"within chance."
        )
    left = coverage["num_videos"] - coverage["num_scored"]
    if left:
        limits.append(f"{left} of {coverage['num_videos']} {unit}s could not be scored and are in no figure.")
    return tuple(limits)
