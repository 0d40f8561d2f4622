"""The command that trains a detector."""

import atexit
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from unmask.cli.checkpoints import find_store, restore_resumed
from unmask.cli.shell import fail, run_command
from unmask.cli.sweep import closing_sweep, needs_own_process, restore_sweep, run_in_own_process, take_up
from unmask.cli.tasks import TASKS, print_unsent
from unmask.config import check_complete, run_dir
from unmask.errors import ConfigError, Interrupted
from unmask.paths import show_command
from unmask.training.devices import is_first_process
from unmask.training.interruption import ending_on_sigterm

if TYPE_CHECKING:
    from unmask.training.record import TrainResult
    from unmask.training.reproduce import PastRun

_KEPT = "Checkpoints that are written are kept. Write elsewhere with UNMASK_HOME=... and continue from one: resume=..."


def leave_folder_to_first() -> None:
    """Let the first process alone have a run folder; what another one writes goes with it.

    Each would name its folder after the time at which it started. Processes that Lightning starts get the folder
    of the first one, and a folder on the command line always counts.
    """
    if is_first_process() or any(argument.startswith("hydra.run.dir=") for argument in sys.argv):
        return
    folder = tempfile.mkdtemp(prefix="unmask-process-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sys.argv += [f"hydra.run.dir={folder}", "hydra.output_subdir=null"]


def main() -> None:
    """Run `python train.py dataset.root=...`."""
    leave_folder_to_first()
    try:
        sys.argv[1:] = restore_sweep(sys.argv[1:])
    except ConfigError as error:
        fail(str(error))
    with ending_on_sigterm(), closing_sweep():
        run_command(run, config_name="train", check=check, kept=_KEPT)


def check(cfg: DictConfig) -> None:
    """Raise where a key needs a value; the run that is reproduced or resumed has them all."""
    if cfg.reproduce is None and cfg.resume is None and cfg.task != "send":
        check_complete(cfg)


def run(cfg: DictConfig) -> float | None:
    """Do the task, print where everything is, and return the objective for a sweep."""
    if cfg.task in TASKS:
        TASKS[cfg.task](cfg)
        return None
    if cfg.task != "train":
        raise ConfigError(f"No task '{cfg.task}' (task). Choose one of: train, {', '.join(TASKS)}")
    if cfg.resume_sweep is not None:
        raise ConfigError(f"resume_sweep={cfg.resume_sweep} works on the command line alone.")
    past = take_up(run_dir())
    if past.is_done:
        return past.objective
    if needs_own_process(cfg):
        return run_in_own_process(past.checkpoint)
    return _train(cfg, past.checkpoint)


def _train(cfg: DictConfig, checkpoint: Path | None) -> float:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from unmask.training.run import train

    past, overrides = None, list(HydraConfig.get().overrides.task)
    if cfg.resume is not None:
        cfg, overrides = restore_resumed(cfg, overrides, folder=run_dir())
    if cfg.reproduce is not None:
        cfg, past = _restore(cfg, overrides)
    if checkpoint is not None:
        cfg.resume = str(checkpoint)
    check_complete(cfg)
    try:
        result = train(cfg, folder=run_dir(), overrides=overrides)
        if is_first_process():
            _print_result(cfg, result)
            _print_past(result, past)
    except Interrupted:
        last = run_dir() / "checkpoints" / "last.ckpt"
        if last.is_file():  # by its path: resume=last does not look into a run folder of one's own
            print(f"Continue with: {show_command('train.py', f'resume={last}')}", file=sys.stderr)
        raise
    finally:
        if HydraConfig.get().mode == RunMode.RUN:  # a sweep says it of all its jobs, at its end
            print_unsent(run_dir())
    return result.objective


def _restore(cfg: DictConfig, overrides: list[str]) -> "tuple[DictConfig, PastRun]":
    from unmask.training.reproduce import find_run, list_differences, restore_config

    past = find_run(cfg.reproduce, find_store(cfg))
    restored = restore_config(cfg, past, overrides)
    check_complete(restored)
    differences = list_differences(past, restored)
    print(f"Composed as run {past.run_id}. Since then:" if differences else f"Composed as run {past.run_id}.")
    for line in differences or ("nothing that is recorded has changed",):
        print(f"  {line}")
    return restored, past


def _print_result(cfg: DictConfig, result: "TrainResult") -> None:
    print(f"{result.objective_key} {result.objective:.4f} in epoch {result.best_epoch + 1}")
    print(f"Checkpoint  {result.best_checkpoint}")
    if result.run_id is not None:
        print(f"MLflow run  {result.run_id} in {result.tracking_uri}")
        opened = "" if str(result.run_page).startswith(str(result.tracking_uri)) else ", after: make ui"
        print(f"Its page    {result.run_page}{opened}")
    evaluate = ["evaluate.py", f"checkpoint={result.best_checkpoint}", f"dataset.root={cfg.dataset.root}"]
    if cfg.dataset.get("folds") is not None:
        evaluate += [f"dataset.folds={cfg.dataset.folds}", f"dataset.fold={cfg.dataset.fold}"]
    print(f"Next        {show_command(*evaluate)}")


def _print_past(result: "TrainResult", past: "PastRun | None") -> None:
    if past is not None:
        then = past.metrics.get(f"best/{result.objective_key}")
        told = "not recorded" if then is None else f"{then:.4f}"
        print(f"Compare     {result.objective_key} of run {past.run_id} was {told}")


if __name__ == "__main__":
    main()
