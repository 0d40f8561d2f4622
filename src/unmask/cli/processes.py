"""Commands among processes and stores: run folders of several processes, and messages kept for a store."""

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

from unmask.paths import show_command
from unmask.training.devices import is_first_process


def leave_folder_to_first() -> None:
    """Let the first process alone have a run folder; what another one writes goes with it.

    Each would name its folder after the time at which it started. Processes that Lightning starts are told the folder
    of the first one, and one that is told a folder on its command line takes that.
    """
    if is_first_process() or any(argument.startswith("hydra.run.dir=") for argument in sys.argv):
        return
    folder = tempfile.mkdtemp(prefix="unmask-process-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sys.argv += [f"hydra.run.dir={folder}", "hydra.output_subdir=null"]


def print_unsent(folder: Path) -> None:
    """Print the command that sends the messages kept below a folder, if there are any.

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
