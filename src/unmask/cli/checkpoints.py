"""The checkpoint that a command is given: a path, an MLflow address, or a run to resume."""

import re
from pathlib import Path

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from unmask.errors import ConfigError
from unmask.models.checkpoint import LAST
from unmask.tracking.addresses import is_address
from unmask.trust import check_overrides


def find_checkpoint(
    checkpoint: str, paths: DictConfig, *, takes_bundle: bool = False, tracking_uri: str | None = None
) -> str:
    """Return the path of a checkpoint that is named by its path, or by `runs:/...` or `models:/...`.

    Args:
        checkpoint: Checkpoint as the user named it.
        paths: Node `paths` of the command: the store, and the folder for files from a server.
        takes_bundle: Whether the command prefers the bundle of a run.
        tracking_uri: URI of the MLflow store; None takes the environment's, or sqlite.
    """
    from unmask.tracking.addresses import fetch_checkpoint, fetch_model, find_uri, is_address

    if not is_address(checkpoint):
        return checkpoint

    fetch = fetch_model if takes_bundle else fetch_checkpoint
    uri = tracking_uri or find_uri(paths.tracking_db)
    return str(fetch(checkpoint, uri=uri, folder=Path(paths.output_dir) / "downloads"))


_OVERRIDES = Path(".hydra") / "overrides.yaml"
_NOT_AGAIN = ("resume", "task", "trusted_modules")


def restore_resumed(cfg: DictConfig, overrides: list[str], *, folder: Path) -> tuple[DictConfig, list[str]]:
    """Return the configuration of the run that is resumed, with what the present command line changes.

    Args:
        cfg: The present one.
        overrides: Overrides of the present command line.
        folder: Present run folder; keeps the overrides of both runs, so that this one can be resumed in turn.

    Returns:
        The configuration, with the path of the checkpoint as `resume`, and the overrides it is composed of.
    """
    path = _find(cfg, folder)
    written = path.parents[1] / _OVERRIDES if len(path.parents) > 1 else _OVERRIDES
    if written.is_file():
        past = [str(text) for text in OmegaConf.load(written)]
        if not _is_own(path, cfg.paths):
            _check_past(past, overrides, file=written, trusted_modules=list(cfg.trusted_modules))
        overrides = merge_overrides(past, overrides)
        cfg = compose("train", overrides=overrides)
        if (folder / _OVERRIDES).is_file():
            OmegaConf.save(OmegaConf.create(overrides), folder / _OVERRIDES)
            OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    cfg.resume = str(path)
    return cfg, overrides


def _is_own(path: Path, paths: DictConfig) -> bool:
    """Tell whether a checkpoint lies where the user's own runs are written."""
    places = [Path(place).resolve() for place in (paths.output_dir, paths.multirun_dir)]
    is_fetched = path.resolve().is_relative_to(places[0] / "downloads")
    return not is_fetched and any(path.resolve().is_relative_to(place) for place in places)


def _check_past(past: list[str], present: list[str], *, file: Path, trusted_modules: list[str]) -> None:
    """Raise where overrides from a folder that may be a stranger's would run code; those given again do not count."""
    kept = merge_overrides(past, present)[: -len(present) or None]
    parsed = OverridesParser.create().parse_overrides(kept)
    check_overrides(
        [(each.get_key_element(), each.value()) for each in parsed], file=file, trusted_modules=trusted_modules
    )


def _find(cfg: DictConfig, folder: Path) -> Path:
    if cfg.resume != "last":
        # The best checkpoint, which a run's address means elsewhere, cannot be resumed from.
        address = f"{cfg.resume}/checkpoints/{LAST}" if re.fullmatch(r"runs:/[^/]+", cfg.resume) else cfg.resume
        uri = find_store(cfg) if is_address(address) else None
        return Path(find_checkpoint(address, cfg.paths, tracking_uri=uri))
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from unmask.training.resume import find_last

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ConfigError("resume=last is one training, and -m starts several. Leave out -m, or name each: resume=a,b")
    return find_last([Path(cfg.paths.output_dir), Path(cfg.paths.multirun_dir)])


def find_store(cfg: DictConfig) -> str | None:
    """Return the store of the MLflow logger; None without one."""
    from unmask.training.parts import build_mlflow

    mlflow = build_mlflow(cfg.logger)
    return None if mlflow is None else mlflow.store.uri


def merge_overrides(past: list[str], present: list[str]) -> list[str]:
    """Return the overrides of a run, less those that the present ones replace, and then the present ones.

    One of a group, such as `optimizer=sgd`, replaces the keys of that group too.
    """
    replaced = tuple(_key(text) for text in present)
    kept = [
        text
        for text in past
        if _key(text) not in _NOT_AGAIN and not any(f"{_key(text)}.".startswith(f"{key}.") for key in replaced)
    ]
    return kept + present


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
