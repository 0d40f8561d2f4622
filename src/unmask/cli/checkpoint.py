"""Where a command is given a checkpoint: a path, or an address in MLflow."""

from pathlib import Path

from omegaconf import DictConfig


def find_checkpoint(checkpoint: str, paths: DictConfig) -> str:
    """Return the path of a checkpoint that is named by its path, or by `runs:/...` or `models:/...`.

    Args:
        checkpoint: As given.
        paths: Of the command; says where the store is, and where a file from a server is put.
    """
    if not checkpoint.startswith(("runs:/", "models:/")):
        return checkpoint  # without an import that takes seconds
    from unmask.training.tracking_fetch import fetch_checkpoint, find_uri

    folder = Path(paths.output_dir) / "downloads"
    return str(fetch_checkpoint(checkpoint, uri=find_uri(paths.tracking_db), folder=folder))
