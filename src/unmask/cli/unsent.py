"""What is said at the end of a command whose store did not take all of it."""

import sys
from pathlib import Path

from unmask.paths import show_command


def print_unsent(folder: Path) -> None:
    """Name the command that sends what was kept below a folder, if anything was.

    Args:
        folder: Of a run or a sweep.
    """
    from unmask.training.sweep import is_unsent
    from unmask.training.unsent import list_unsent

    if is_unsent(folder) or list_unsent(folder):
        command = show_command("train.py", "task=send", f"send_dir={folder.resolve()}")
        print(
            f"MLflow did not answer at the end, so what it lacks is kept in '{folder}'. "
            f"When it is back, send that with:\n  {command}",
            file=sys.stderr,
        )
