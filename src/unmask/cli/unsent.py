"""The last lines of a command whose store missed messages."""

import sys
from pathlib import Path

from unmask.paths import show_command


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
