"""How long all metrics of a million frame scores take, with confidence intervals, and how much memory.

    OMP_NUM_THREADS=2 taskset -c 0,1 python benchmarks/intervals.py

The scores are seeded: 30,000 videos of 24,000 groups, one real in five, four methods, 33 or 34 frames each. Beside the
time of `figures_of` stands that of the same intervals of one metric, ROC-AUC per video, by resampling rows and calling
scikit-learn, scaled up from a few draws.
"""

import resource
import time

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from unmask.decision import Decision
from unmask.metrics.intervals import BootstrapOptions
from unmask.metrics.scores import aggregate_videos, figures_of

NUM_FRAMES, NUM_VIDEOS, NUM_GROUPS = 1_000_000, 30_000, 24_000
BAR_SECONDS, BAR_GIGABYTES, FEW = 60, 2, 20
METHODS = np.array(["original", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"])


def main() -> None:
    """Print seconds and memory."""
    frames, groups = draw_scores()
    start, options = time.perf_counter(), BootstrapOptions()
    figures = figures_of(frames, decision=Decision(), groups=groups, bootstrap=options)
    seconds = time.perf_counter() - start
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for level in ("video", "frame"):
        interval = figures[level]["intervals"]["auroc"]
        print(f"ROC-AUC per {level} {interval['value']:.4f}, {interval['low']:.4f} to {interval['high']:.4f}")
    print(f"{NUM_FRAMES:,} frames, {NUM_VIDEOS:,} videos, {options.draws:,} draws:", end=" ")
    print(f"{seconds:.1f} s (bar: {BAR_SECONDS}), {gigabytes:.2f} GB (bar: {BAR_GIGABYTES})")
    direct = resample_directly(aggregate_videos(frames, decision=Decision())) / FEW * options.draws
    print(f"ROC-AUC per video alone with scikit-learn, draw by draw: {direct:.1f} s")


def draw_scores() -> tuple[pd.DataFrame, dict[str, int]]:
    """Return a table of frame scores, and the group of each video."""
    rng = np.random.default_rng(0)
    kinds, groups = rng.integers(len(METHODS), size=NUM_VIDEOS), rng.integers(NUM_GROUPS, size=NUM_VIDEOS)
    videos = np.arange(NUM_FRAMES) % NUM_VIDEOS
    shift = rng.normal(2.0 * (kinds > 0) - 1.0) + rng.normal(size=NUM_GROUPS)[groups]
    names = np.array([f"drawn/{METHODS[kind]}/{number:05d}" for number, kind in enumerate(kinds)])
    frames = pd.DataFrame(
        {
            "video_id": names[videos],
            "label": (kinds > 0).astype(int)[videos],
            "method": METHODS[kinds][videos],
            "score": 1 / (1 + np.exp(-rng.normal(shift[videos]))),
        }
    )
    return frames, dict(zip(names.tolist(), groups.tolist(), strict=True))


def resample_directly(videos: pd.DataFrame) -> float:
    """Return the seconds of a few draws of rows."""
    labels, scores, rng = videos["label"].to_numpy(), videos["score"].to_numpy(), np.random.default_rng(0)
    start = time.perf_counter()
    for _ in range(FEW):
        rows = rng.integers(len(labels), size=len(labels))
        roc_auc_score(labels[rows], scores[rows])
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
