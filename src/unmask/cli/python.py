"""The commands as functions: `unmask.prepare`, `train`, `evaluate`, `evaluate_scores` and `predict`.

Each composes the configuration as its command does, works in a run folder of its own, and returns the result. Errors
are raised; nothing is read from `sys.argv`, and no process ends.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.cli.shell import composing
from unmask.config import check_complete
from unmask.errors import ConfigError

if TYPE_CHECKING:
    from unmask.evaluation.run import Evaluation
    from unmask.inference.results import Prediction
    from unmask.preparation.shards import Prepared
    from unmask.training.record import TrainResult


def prepare(overrides: Sequence[str] = (), *, folder: str | Path | None = None) -> "Prepared":
    """Turn a source, or a shard of it, into a face dataset, or merge shards (`task=merge`).

    Args:
        overrides: Overrides of the command line, such as `["source=ffpp", "source.root=/data", "output=data/faces"]`.
        folder: Run folder; None for a new one, named after the time.

    Raises:
        UnmaskError: Anything that the user can fix.
    """
    with composing("prepare", overrides, folder) as job:
        from unmask.cli.prepare import prepare_dataset

        check_complete(job.cfg)
        return prepare_dataset(job.cfg)


def train(overrides: Sequence[str] = (), *, folder: str | Path | None = None) -> "TrainResult":
    """Train a detector.

    Args:
        overrides: Overrides of the command line, such as `["dataset.root=data/faces", "optimizer=sgd"]` or `resume=`.
        folder: Run folder; None for a new one, named after the time.

    Raises:
        UnmaskError: Anything that the user can fix.
    """
    with composing("train", overrides, folder) as job:
        from unmask.cli.checkpoints import restore_resumed
        from unmask.training.run import train

        cfg, given = job.cfg, job.overrides
        if cfg.task != "train" or cfg.reproduce is not None:
            raise ConfigError("unmask.train trains, and resumes with resume=. Use train.py for task= and reproduce=.")
        if cfg.resume is not None:
            cfg, given = restore_resumed(cfg, given, folder=job.folder)
        check_complete(cfg)
        return train(cfg, folder=job.folder, overrides=given)


def evaluate(overrides: Sequence[str] = (), *, folder: str | Path | None = None) -> "Evaluation":
    """Score a split of a face dataset with a checkpoint.

    Args:
        overrides: Overrides of the command line, such as `["checkpoint=best.ckpt", "dataset.root=data/faces"]`.
        folder: Run folder; None for a new one, named after the time.

    Raises:
        UnmaskError: Anything that the user can fix.
    """
    with composing("evaluate", overrides, folder) as job:
        from unmask.cli.evaluating.tasks import check, evaluate_dataset

        if job.cfg.task != "evaluate":
            raise ConfigError("unmask.evaluate scores a dataset as it is. Use evaluate.py for task=robustness.")
        if job.cfg.scores:
            raise ConfigError("unmask.evaluate takes a checkpoint. Use unmask.evaluate_scores for score tables.")
        check(job.cfg)
        return evaluate_dataset(job.cfg)


def evaluate_scores(overrides: Sequence[str], *, folder: str | Path | None = None) -> "list[Evaluation]":
    """Evaluate any detectors by tables of their scores: one result for each detector and dataset.

    Args:
        overrides: Overrides of the command line, such as `["scores=[theirs.csv]", "decision.threshold=0.5"]`.
        folder: Run folder; None for a new one, named after the time.

    Raises:
        UnmaskError: Anything that the user can fix.
    """
    with composing("evaluate", overrides, folder) as job:
        from unmask.cli.evaluating.tasks import check, evaluate_tables

        if not job.cfg.scores:
            raise ConfigError("No score table. Name at least one: scores=[theirs.csv]")
        check(job.cfg)
        return evaluate_tables(job.cfg)


def predict(
    *paths: str | Path, checkpoint: str | Path, overrides: Sequence[str] = (), folder: str | Path | None = None
) -> "list[Prediction]":
    """Judge images and videos; an unreadable one has an `error` in place of a verdict.

    Args:
        paths: Files, folders and patterns.
        checkpoint: Bundle or checkpoint, or an address in MLflow.
        overrides: Overrides of the command line, such as `["num_frames=64", "save=[heatmaps]"]`.
        folder: Run folder; None for a new one, named after the time.

    Raises:
        UnmaskError: Anything that the user can fix.
    """
    with composing("predict", [f"checkpoint={checkpoint}", *overrides], folder) as job:
        from unmask.cli.predict import predict_files

        check_complete(job.cfg)
        return predict_files(job.cfg, paths=[str(path) for path in paths]).predictions
