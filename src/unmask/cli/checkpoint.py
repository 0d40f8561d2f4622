"""Where a command is given a checkpoint: a path, or an address in MLflow."""

from pathlib import Path

from omegaconf import DictConfig


def find_checkpoint(
    checkpoint: str, paths: DictConfig, *, takes_bundle: bool = False, tracking_uri: str | None = None
) -> str:
    """Return the path of a checkpoint that is named by its path, or by `runs:/...` or `models:/...`.

    Args:
        checkpoint: As given.
        paths: Of the command; says where the store is, and where a file from a server is put.
        takes_bundle: Whether the run's bundle is as good, and better.
        tracking_uri: Of the store, where the command has a setting for it; None is the environment's, or sqlite.
    """
    from unmask.tracking.addresses import fetch_checkpoint, fetch_model, find_uri, is_address

    if not is_address(checkpoint):
        return checkpoint

    fetch = fetch_model if takes_bundle else fetch_checkpoint
    uri = tracking_uri or find_uri(paths.tracking_db)
    return str(fetch(checkpoint, uri=uri, folder=Path(paths.output_dir) / "downloads"))
