"""Record the provenance of a run: git commit, dataset digest, package versions and hardware."""

import hashlib
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pandas as pd

from unmask.config import config_dir


@dataclass(frozen=True)
class CodeState:
    """Git commit and uncommitted changes.

    Args:
        commit: Commit hash, or "" outside a git checkout.
        is_dirty: Whether tracked files have changed.
        diff: Diff of tracked files against the commit, or "" if clean.
        untracked: Files that git neither tracks nor ignores; the diff omits them.
    """

    commit: str
    is_dirty: bool
    diff: str = ""
    untracked: tuple[str, ...] = ()


def find_code_state() -> CodeState:
    """Return the git state of the checkout that holds the configs."""
    root = config_dir().parent
    commit = _git(root, "rev-parse", "HEAD")
    is_dirty = bool(commit and _git(root, "status", "--porcelain", "--untracked-files=no"))
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "src", "configs") if commit else ""
    diff = _git(root, "diff", "HEAD") + "\n" if is_dirty else ""
    return CodeState(commit, is_dirty, diff, tuple(untracked.splitlines()))


def describe_environment() -> dict[str, Any]:
    """Return interpreter, package versions and hardware as plain values for JSON."""
    import torch

    names = {dist.metadata["Name"].lower(): dist.version for dist in distributions() if dist.metadata["Name"]}
    has_gpu = torch.cuda.is_available()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor_name(),
        "num_cores": os.cpu_count(),
        "num_threads": torch.get_num_threads(),  # rounding of sums depends on it
        "memory_gigabytes": _memory_gigabytes(),
        "cuda": torch.version.cuda if has_gpu else None,
        "cudnn": torch.backends.cudnn.version() if has_gpu else None,  # type: ignore[no-untyped-call]
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if has_gpu else [],
        "packages": dict(sorted(names.items())),
    }


def _memory_gigabytes() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):  # not available on every system
        return None


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


def digest_table(table: pd.DataFrame) -> str:
    """Return a digest of 16 hex digits over the crops, videos, labels and splits of a table."""
    rows = table[["crop", "video_id", "label", "split"]]
    return hashlib.sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).hexdigest()[:16]


def count_crops(table: pd.DataFrame) -> dict[str, Any]:
    """Count crops, videos and crops per method, as plain values."""
    return {
        "num_crops": len(table),
        "num_videos": int(table["video_id"].nunique()),
        "by_method": {str(name): int(count) for name, count in table["method"].value_counts().items()},
    }
