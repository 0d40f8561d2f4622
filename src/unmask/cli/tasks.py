"""The tasks of `train.py` beside training: preview data, search for a setting, send messages kept for a store."""

import json
import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from unmask.config import run_dir
from unmask.errors import ConfigError
from unmask.paths import show_command, write_bytes


def preview(cfg: DictConfig) -> None:
    """Write a contact sheet per class of what the network would see, and print its path."""
    from unmask.data.preview import write_previews
    from unmask.faces.spec import InputSpec
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


def tune(cfg: DictConfig) -> None:
    """Search for the setting that the task names, and print its value, its plot and the next command."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when Lightning is imported; a bar would fill a log file
    from unmask.training import tuning

    tuned = getattr(tuning, cfg.task)(cfg, folder=run_dir())
    value = str(tuned.value) if isinstance(tuned.value, int) else f"{tuned.value:.2g}"
    print(f"Found  {tuned.key}={value}")
    print(f"Plot   {tuned.plot}")
    print(f"Next   {show_command('train.py', f'dataset.root={cfg.dataset.root}', f'{tuned.key}={value}')}")


def send(cfg: DictConfig) -> None:
    """Send the messages that runs and sweeps kept while their store was down."""
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


def print_unsent(folder: Path) -> None:
    """Print the command that sends the messages kept below a folder, if any.

    Args:
        folder: Folder of a run or a sweep.
    """
    from unmask.tracking.unsent import list_unsent
    from unmask.training.sweep import is_unsent

    if is_unsent(folder) or list_unsent(folder):
        command = show_command("train.py", "task=send", f"send_dir={folder.resolve()}")
        print(
            f"MLflow did not answer at the end, so what it missed is kept in '{folder}'. "
            f"Send it when MLflow is back:\n  {command}",
            file=sys.stderr,
        )


TASKS = {"preview": preview, "find_lr": tune, "find_batch_size": tune, "send": send}
