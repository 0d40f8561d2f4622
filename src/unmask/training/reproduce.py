"""Reproduce a run: compose its configuration, and list what has changed since."""

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from unmask.config import read_value
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError, TrackingError, UnmaskError
from unmask.tracking.provenance import describe_environment, digest_table, find_code_state
from unmask.tracking.store import first_line, make_client

logger = logging.getLogger(__name__)

_OF_NOW = ("paths", "logger", "tracking", "reproduce", "resume", "task", "run_name", "register")
"""Root keys of the new run itself: where it writes, and its name."""
_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "albumentations", "opencv-python-headless", "numpy")


@dataclass(frozen=True)
class PastRun:
    """An earlier run.

    Args:
        run_id: MLflow run ID.
        config: Its configuration, without interpolations.
        commit: Commit of its code.
        digests: Digest of each split of its dataset.
        environment: See `unmask.tracking.provenance.describe_environment`.
        metrics: Last value of each metric.
    """

    run_id: str
    config: DictConfig
    commit: str
    digests: dict[str, str]
    environment: dict[str, Any]
    metrics: dict[str, float]


def find_run(run_id: str, uri: str | None) -> PastRun:
    """Read a run from the store.

    Args:
        run_id: MLflow run ID.
        uri: Address of the store; None without the MLflow logger.

    Raises:
        ConfigError: No store.
        TrackingError: Unknown run, or one without a configuration.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if uri is None:
        raise ConfigError(f"reproduce={run_id} reads a run from MLflow. Choose logger=mlflow.")
    client = make_client(uri)
    try:
        run = client.get_run(run_id)
        with tempfile.TemporaryDirectory() as temporary:
            config = OmegaConf.load(client.download_artifacts(run_id, "config.yaml", temporary))
            text = Path(client.download_artifacts(run_id, "environment.json", temporary)).read_text()
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise TrackingError(
            f"reproduce='{run_id}' is not a training run in the MLflow store '{uri}': {first_line(error)} Copy the ID "
            f"of a run of train.py from the UI (make ui), or name another store with MLFLOW_TRACKING_URI=..."
        ) from error
    assert isinstance(config, DictConfig)
    digests = {entry.tags[0].value: entry.dataset.digest for entry in run.inputs.dataset_inputs}
    commit = run.data.tags.get("mlflow.source.git.commit", "")
    return PastRun(run_id, config, commit, digests, json.loads(text), dict(run.data.metrics))


def restore_config(cfg: DictConfig, past: PastRun, overrides: list[str]) -> DictConfig:
    """Return the configuration of an earlier run, changed by the present command line.

    Args:
        cfg: Present configuration, which says where to write.
        past: Earlier run.
        overrides: Overrides of the present command line; `key=value` only.

    Raises:
        ConfigError: Override of a group, or a key that the run did not have.
    """
    restored = past.config.copy()
    with open_dict(restored):
        for key in cfg:
            if key in _OF_NOW or key not in restored:
                restored[key] = cfg._get_node(key)
        for key in [key for key in restored if key not in cfg]:
            logger.warning("The run has a key '%s' that this version does not have; it is left out.", key)
            restored.pop(key)
    for override in overrides:
        key = override.partition("=")[0]
        root = key.split(".")[0]
        if root in _OF_NOW:
            continue
        if OmegaConf.is_dict(OmegaConf.select(restored, key)) or key.startswith(("+", "~")):
            raise ConfigError(
                f"reproduce={past.run_id} keeps the groups of that run, so it cannot be combined with '{override}'. "
                f"Change single keys, such as trainer.max_epochs=20, or leave out reproduce."
            )
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(restored, parent) if parent else restored
        if not OmegaConf.is_dict(node) or leaf not in node:
            raise ConfigError(f"No key '{key}' (in '{override}') in the configuration of run {past.run_id}.")
        OmegaConf.update(restored, key, read_value(override))
    return restored


def list_differences(past: PastRun, cfg: DictConfig) -> list[str]:
    """List what differs between an earlier run and one of today: code, data, packages, hardware.

    Args:
        past: Earlier run.
        cfg: Configuration restored from it.
    """
    found = []
    code = find_code_state()
    if code.commit != past.commit:
        found.append(f"commit {past.commit[:10] or 'unknown'} then, {code.commit[:10] or 'unknown'} now")
    if code.is_dirty:
        found.append("files differ from the commit now (git diff shows how)")
    found += [f"'{name}' was not in git then" for name in past.environment.get("untracked", ())]
    found += _compare_data(past, cfg)
    now = describe_environment()
    for key in ("python", "processor", "num_threads", "gpus", "cuda", "cudnn"):
        if key in past.environment and now[key] != past.environment.get(key):
            found.append(f"{key} {past.environment.get(key)} then, {now[key]} now")
    then = past.environment.get("packages", {})
    for name in _PACKAGES:
        if then.get(name) != now["packages"].get(name):
            found.append(f"{name} {then.get(name)} then, {now['packages'].get(name)} now")
    return found


def _compare_data(past: PastRun, cfg: DictConfig) -> list[str]:
    try:
        dataset = FaceDataset.from_config(cfg.dataset)
    except UnmaskError:
        return []  # the training reports it
    digests = {split: digest_table(dataset.faces_of(split)) for split in past.digests}
    return [
        f"{split} crops of '{cfg.dataset.root}': digest {digest} then, {digests[split]} now"
        for split, digest in past.digests.items()
        if digest != digests[split]
    ]
