"""Which code a run was made with."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from unmask.config import config_dir


@dataclass(frozen=True)
class CodeState:
    """A commit, and whether files differed from it.

    Args:
        commit: Hash; "" outside a git checkout.
        is_dirty: Whether tracked files were changed.
    """

    commit: str
    is_dirty: bool


def find_code_state() -> CodeState:
    """Ask git about the checkout that the configs lie in."""
    root = config_dir().parent
    commit = _git(root, "rev-parse", "HEAD")
    return CodeState(commit, bool(commit and _git(root, "status", "--porcelain", "--untracked-files=no")))


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
