"""The commands as functions: `unmask.prepare`, `unmask.train`, `unmask.evaluate` and `unmask.predict`.

Each composes the configuration as its command does, works in a run folder of its own, and returns the result. Errors
are raised; nothing is read from `sys.argv`, and no process ends.
"""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from unmask.cli.arguments import quote_arguments, read_call
from unmask.cli.help import explain_config_error
from unmask.config import check_complete, config_dir, register_schemas
from unmask.errors import ConfigError

if TYPE_CHECKING:
    from unmask.data.prepare import PrepareResult
    from unmask.evaluation.run import Evaluation
    from unmask.inference.results import Prediction
    from unmask.training.record import TrainResult

_LOCK = threading.RLock()
"""Hydra keeps its state in the process: one call at a time."""


@dataclass(frozen=True)
class _Job:
    """A composed command.

    Args:
        cfg: Configuration.
        overrides: What it was composed of.
        folder: Run folder; it exists.
    """

    cfg: DictConfig
    overrides: list[str]
    folder: Path


def prepare(overrides: Sequence[str] = (), *, folder: str | Path | None = None) -> "PrepareResult":
    """Turn a source into a face dataset.

    Args:
        overrides: As on the command line, such as `["source=ffpp", "source.root=/data", "output=data/faces"]`.
        folder: Run folder; None for a new one, named after the time.

    Raises:
        UnmaskError: Anything that the user can fix.
    """
    with _composing("prepare", overrides, folder) as job:
        from unmask.cli.prepare import prepare_dataset

        check_complete(job.cfg)
        return prepare_dataset(job.cfg)


def train(overrides: Sequence[str] = (), *, folder: str | Path | None = None) -> "TrainResult":
    """Train a detector.

    Args:
        overrides: As on the command line, such as `["dataset.root=data/faces", "optimizer=sgd"]`; `resume=` works too.
        folder: Run folder; None for a new one, named after the time.

    Raises:
        UnmaskError: Anything that the user can fix.
    """
    with _composing("train", overrides, folder) as job:
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
        overrides: As on the command line, such as `["checkpoint=best.ckpt", "dataset.root=data/faces"]`.
        folder: Run folder; None for a new one, named after the time.

    Raises:
        UnmaskError: Anything that the user can fix.
    """
    with _composing("evaluate", overrides, folder) as job:
        from unmask.cli.evaluate import evaluate_dataset

        check_complete(job.cfg)
        return evaluate_dataset(job.cfg)


def predict(
    *paths: str | Path, checkpoint: str | Path, overrides: Sequence[str] = (), folder: str | Path | None = None
) -> "list[Prediction]":
    """Judge images and videos; an unreadable one has an `error` in place of a verdict.

    Args:
        paths: Files, folders and patterns.
        checkpoint: Bundle or checkpoint, or an address in MLflow.
        overrides: As on the command line, such as `["num_frames=64", "save=[heatmaps]"]`.
        folder: Run folder; None for a new one, named after the time.

    Raises:
        UnmaskError: Anything that the user can fix.
    """
    with _composing("predict", [f"checkpoint={checkpoint}", *overrides], folder) as job:
        from unmask.cli.predict import predict_files

        check_complete(job.cfg)
        return predict_files(job.cfg, paths=[str(path) for path in paths]).predictions


@contextmanager
def _composing(name: str, overrides: Sequence[str], folder: str | Path | None) -> Iterator[_Job]:
    """Compose a command, and leave Hydra as it was: the caller may be a Hydra program itself."""
    given = [str(text) for text in overrides]
    flags = [text for text in given if text.startswith("-")]
    if flags:
        raise ConfigError(f"'{flags[0]}' is a flag. unmask.{name} takes overrides (key=value); for flags: {name}.py")
    with _LOCK:
        before = (GlobalHydra.instance().hydra, HydraConfig.instance().cfg)
        GlobalHydra.instance().clear()
        try:
            register_schemas()
            quoted = quote_arguments(given, config_name=name)
            with initialize_config_dir(str(config_dir()), version_base="1.3"):
                yield _compose(name, quoted, None if folder is None else Path(folder))
        finally:
            # Their instances by now: what was initialized here took others with it.
            GlobalHydra.instance().hydra, HydraConfig.instance().cfg = before


def _compose(name: str, overrides: list[str], folder: Path | None) -> _Job:
    try:
        cfg = compose(name, overrides=overrides, return_hydra_config=True)
        folder = Path(cfg.hydra.run.dir) if folder is None else folder
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain_config_error(error, call=read_call(overrides, config_name=name))) from error
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder.absolute())
        cfg.hydra.mode = "RUN"
        HydraConfig.instance().set_config(copy.deepcopy(cfg))
        del cfg["hydra"]
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra" / "overrides.yaml")
    return _Job(cfg, overrides, folder.absolute())
