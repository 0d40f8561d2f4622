"""Which code, with which packages, on which machine a run was made."""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from unmask.config import config_dir


@dataclass(frozen=True)
class CodeState:
    """A commit, and whether files differed from it.

    Args:
        commit: Hash; "" outside a git checkout.
        is_dirty: Whether tracked files were changed.
        diff: Of tracked files, against the commit; "" where clean.
    """

    commit: str
    is_dirty: bool
    diff: str = ""


def find_code_state() -> CodeState:
    """Ask git about the checkout that the configs lie in."""
    root = config_dir().parent
    commit = _git(root, "rev-parse", "HEAD")
    is_dirty = bool(commit and _git(root, "status", "--porcelain", "--untracked-files=no"))
    return CodeState(commit, is_dirty, _git(root, "diff", "HEAD") + "\n" if is_dirty else "")


def describe_environment() -> dict[str, Any]:
    """Return interpreter, packages with their versions, and hardware, as plain values."""
    import torch

    names = {dist.metadata["Name"].lower(): dist.version for dist in distributions() if dist.metadata["Name"]}
    has_gpu = torch.cuda.is_available()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor_name(),
        "num_cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if has_gpu else [],
        "packages": dict(sorted(names.items())),
    }


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip()
