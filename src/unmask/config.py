"""Where the configuration lies, and which root keys each command has."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from unmask.errors import ConfigError


def config_dir() -> Path:
    """Return the folder of the configs: inside the installed package, or at the top of a checkout."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"


@dataclass
class CropKeys:
    """How faces become crops; see `unmask.faces.spec.CropSpec`."""

    margin: float = 1.3
    crop_size: int = 256
    aligned: bool = False
    num_frames: int = 32
    jpeg_quality: int = 95


@dataclass
class SplitKeys:
    """How videos are split where the source has no splits of its own."""

    train: float = 0.7
    val: float = 0.15
    test: float = 0.15


@dataclass
class PrepareKeys:
    """Root keys of `prepare.yaml`."""

    source: Any = MISSING
    detector: Any = MISSING
    paths: Any = MISSING
    output: str = MISSING
    crop: CropKeys = field(default_factory=CropKeys)
    split: SplitKeys = field(default_factory=SplitKeys)
    seed: int = 0
    num_workers: int | None = None
    limit: int | None = None


@dataclass
class TrainKeys:
    """Root keys of `train.yaml`."""

    task: str = "train"
    dataset: Any = MISSING
    augmentation: Any = MISSING
    model: Any = MISSING
    loss: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    precision: Any = MISSING
    trainer: Any = MISSING
    callbacks: Any = MISSING
    logger: Any = MISSING
    paths: Any = MISSING
    seed: int = 0
    deterministic: bool = False
    compile: bool = False
    objective: str = MISSING
    threshold_criterion: str = MISSING
    aggregation: str = MISSING
    experiment_name: str = MISSING
    run_name: str | None = None
    resume: str | None = None
    checkpoint_minutes: float | None = 15
    reproduce: str | None = None
    register: str | None = None


@dataclass
class EvaluateKeys:
    """Root keys of `evaluate.yaml`."""

    dataset: Any = MISSING
    paths: Any = MISSING
    checkpoint: str = MISSING
    split: str = "test"
    device: str = "auto"
    batch_size: int = 64
    num_workers: int = 0
    allow_spec_mismatch: bool = False
    seed: int = 0


@dataclass
class LimitKeys:
    """How much of one file is looked at; see `unmask.inference.limits.Limits`."""

    max_pixels: int = 100_000_000
    max_seconds: float | None = None
    max_frames: int = 10_000
    max_search: int = 500
    max_faces: int = 64


@dataclass
class DecidingKeys:
    """Which face decides, and what a suspicious stretch does; see `unmask.inference.deciding.Deciding`."""

    face: str = "most_fake"
    min_share: float = 0.1
    suspicious_share: float | None = 0.5
    suspicious_frames: int | None = 4
    suspicious_seconds: float = 1.0


@dataclass
class PredictorKeys:
    """Keys of all that predicts; see `unmask.inference.settings.PredictorSettings`."""

    checkpoint: str = MISSING
    threshold: float | None = None
    margin: float = 0.05
    num_frames: int | None = None
    every_n: int | None = None
    device: str = "auto"
    batch_size: int = 32
    detector_weights: str | None = None
    limits: LimitKeys = field(default_factory=LimitKeys)
    deciding: DecidingKeys = field(default_factory=DecidingKeys)


@dataclass
class PredictKeys(PredictorKeys):
    """Root keys of `predict.yaml`."""

    paths: Any = MISSING
    inputs: list[str] = field(default_factory=list)
    save: Any = field(default_factory=list)  # names, as a list or as text


@dataclass
class ServiceLimitKeys:
    """What clients can ask for; see `unmask.web.api.settings.ServiceLimits`."""

    image_bytes: int = 20_000_000
    video_bytes: int = 500_000_000
    files: int = 16
    images_at_once: int = 32
    jobs: int = 8
    image_seconds: float = 60
    job_seconds: float = 1800
    upload_seconds: float = 600
    idle_seconds: float = 15
    keep_hours: float = 24


@dataclass
class ServeKeys(PredictorKeys):
    """Root keys of `serve.yaml`."""

    paths: Any = MISSING
    task: str = "serve"
    host: str = "127.0.0.1"
    port: int = 8000
    folder: str = MISSING
    image_workers: int | None = None
    video_workers: int = 1
    connections: int = 500
    api_keys: list[str] = field(default_factory=list)
    cors_origins: list[str] = field(default_factory=list)
    service: ServiceLimitKeys = field(default_factory=ServiceLimitKeys)


def register_schemas() -> None:
    """Tell Hydra the root keys of each command and their types, so that a misspelt one stops the run."""
    store = ConfigStore.instance()
    for name, keys in (
        ("prepare", PrepareKeys),
        ("train", TrainKeys),
        ("evaluate", EvaluateKeys),
        ("predict", PredictKeys),
        ("serve", ServeKeys),
    ):
        store.store(name=f"{name}_keys", node=keys)


def read_defaults(name: str) -> DictConfig:
    """Compose a command's configuration outside of the command, for a program that takes its settings over.

    Args:
        name: Of a file in `configs`, without its suffix.
    """
    from hydra import compose, initialize_config_dir

    register_schemas()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(name)


def check_complete(cfg: DictConfig) -> None:
    """Raise a ConfigError that names every key that still needs a value."""
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        example = " ".join(f"{key}=..." for key in missing)
        raise ConfigError(f"No value for: {', '.join(missing)}. Give it on the command line: {example}")


def run_dir() -> Path:
    """Return the folder of the running Hydra job."""
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def find_choices() -> dict[str, str]:
    """Return the option that was chosen of each config group of the running Hydra job; nothing outside of one."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return {}
    choices = HydraConfig.get().runtime.choices
    return {str(group): str(option) for group, option in choices.items() if "/" not in str(group) and option}


def to_plain(node: Any) -> Any:
    """Return a node as plain dicts, lists and values, with interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
