"""The command that trains a detector."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from unmask.cli.checkpoints import find_store, restore_resumed
from unmask.cli.processes import leave_folder_to_first, print_unsent
from unmask.cli.shell import fail, run_command
from unmask.cli.sweep import closing_sweep, needs_own_process, restore_sweep, run_in_own_process, take_up
from unmask.config import check_complete, run_dir
from unmask.errors import ConfigError, Interrupted
from unmask.paths import show_command
from unmask.training.devices import is_first_process
from unmask.training.interruption import ending_on_sigterm

if TYPE_CHECKING:
    from unmask.training.record import TrainResult
    from unmask.training.reproduce import PastRun

TASKS = ("train", "preview", "find_lr", "find_batch_size", "send")
_KEPT = "Checkpoints that are written are kept. Write elsewhere with UNMASK_HOME=... and continue from one: resume=..."


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
    if cfg.task == "send":
        _send(cfg)
        return None
    if cfg.task == "preview":
        preview(cfg)
        return None
    if cfg.task in ("find_lr", "find_batch_size"):
        _tune(cfg)
        return None
    if cfg.task != "train":
        raise ConfigError(f"No task '{cfg.task}' (task). Choose one of: {', '.join(TASKS)}")
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
    evaluate = ("evaluate.py", f"checkpoint={result.best_checkpoint}", f"dataset.root={cfg.dataset.root}")
    print(f"Next        {show_command(*evaluate)}")


def _print_past(result: "TrainResult", past: "PastRun | None") -> None:
    if past is not None:
        then = past.metrics.get(f"best/{result.objective_key}")
        told = "not recorded" if then is None else f"{then:.4f}"
        print(f"Compare     {result.objective_key} of run {past.run_id} was {told}")


def _tune(cfg: DictConfig) -> None:
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when Lightning is imported; a bar would fill a log file
    from unmask.training import tuning

    tuned = getattr(tuning, cfg.task)(cfg, folder=run_dir())
    value = str(tuned.value) if isinstance(tuned.value, int) else f"{tuned.value:.2g}"
    print(f"Found  {tuned.key}={value}")
    print(f"Plot   {tuned.plot}")
    print(f"Next   {show_command('train.py', f'dataset.root={cfg.dataset.root}', f'{tuned.key}={value}')}")


def _send(cfg: DictConfig) -> None:
    """Send what runs and sweeps could not send while their store was away."""
    from unmask.tracking.unsent import send_unsent
    from unmask.training.sweep import send_sweeps

    folders = [Path(cfg.paths.output_dir), Path(cfg.paths.multirun_dir)]
    if cfg.send_dir is not None:
        folders = [Path(cfg.send_dir)]
        if not folders[0].is_dir():
            raise ConfigError(f"No such folder: send_dir='{cfg.send_dir}'. Name that of a run or of a sweep.")
    sent, waiting = send_unsent(folders)
    print(f"{sent} runs sent, {waiting} still wait for their store.")
    sent_sweeps, waiting_sweeps = send_sweeps(folders)
    if sent_sweeps or waiting_sweeps:
        print(f"{sent_sweeps} sweeps closed, {waiting_sweeps} still wait for their store.")
    waiting += waiting_sweeps
    if waiting:
        sys.exit(1)


def preview(cfg: DictConfig) -> None:
    """Write a contact sheet per class of what the network would see, and say where."""
    from unmask.config import run_dir
    from unmask.data.preview import write_previews
    from unmask.faces.spec import InputSpec
    from unmask.paths import write_bytes
    from unmask.training.parts import build_node

    data = build_node(
        cfg.dataset,
        input_spec=InputSpec(size=cfg.model.input_size),
        augmentation=build_node(cfg.augmentation),
        seed=cfg.seed,
    )
    data.setup()
    paths = write_previews(data, run_dir())
    text = json.dumps({name: str(path) for name, path in paths.items()}) + "\n"
    write_bytes(run_dir() / "result.json", text.encode())
    for name, path in paths.items():
        print(f"{name.capitalize()}  {path}")


if __name__ == "__main__":
    main()
