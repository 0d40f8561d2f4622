"""Paths as people have them: which keys are paths, what `~` in them means, and commands that name them."""

import hashlib
import os
import shlex
from pathlib import Path

PATH_WORDS = frozenset(
    {
        "root", "dir", "subdir", "folder", "file", "path", "inputs", "output", "table", "csv", "db",
        "checkpoint", "resume", "weights", "splits",
    }
)  # fmt: skip
"""A key whose last word (`source.root`, `paths.output_dir`, `detector_weights`) is one of these names a file or folder.

A rule of names rather than a list of keys: it holds for the parts of a user's own package too.
"""


def is_path_key(key: str) -> bool:
    """Tell whether the value of a key is a path, by the last word of its name.

    Args:
        key: Dotted, such as `source.root`.
    """
    return key.rpartition(".")[2].rpartition("_")[2] in PATH_WORDS


def expand_home(path: str) -> str:
    """Return a path with a leading `~` or `~user` replaced by the home folder.

    Args:
        path: Also one in the address of a sqlite file or `file:`, such as `sqlite:///~/mlflow.db`.
    """
    for scheme in ("sqlite:///", "file://"):
        if path.startswith(f"{scheme}~"):
            return scheme + os.path.expanduser(path.removeprefix(scheme))
    return os.path.expanduser(path)


def home_folder() -> Path:
    """Return the folder that everything is written under: the environment's `UNMASK_HOME`, or the working folder."""
    return Path(expand_home(os.environ.get("UNMASK_HOME") or "."))


CONSOLE_VARIABLE = "UNMASK_CONSOLE"
"""Set where the console script `unmask` runs, so that commands are shown as they were typed."""


def show_command(*arguments: object) -> str:
    """Return a command as a shell takes it when it is pasted, whatever its paths are called.

    Args:
        arguments: The program and each of its arguments, such as `"train.py", f"dataset.root={root}"`.
    """
    program, *others = map(str, arguments)
    if CONSOLE_VARIABLE in os.environ and program.endswith(".py"):
        return shlex.join(["unmask", Path(program).stem, *others])
    return shlex.join(["python", program, *others])


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
