"""Types of the keys of the configurations, by which Hydra checks values; their defaults are in `configs`."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class CropKeys:
    """Keys of the crop settings; see `unmask.faces.spec.CropSpec`."""

    margin: float = MISSING
    crop_size: int = MISSING
    aligned: bool = MISSING
    num_frames: int = MISSING
    format: str = MISSING
    chroma: str = MISSING
    jpeg_quality: int = MISSING
    min_face: float = MISSING
    min_sharpness: float = MISSING
    min_confidence: float = MISSING


@dataclass
class FaceKeys:
    """Keys of the faces that give crops; see `unmask.faces.spec.CropSpec`."""

    keep: str = MISSING
    boxes: str = MISSING


@dataclass
class SplitKeys:
    """Keys of the splits; see `unmask.data.splits.SplitOptions`."""

    train: float = MISSING
    val: float = MISSING
    test: float = MISSING
    hold_out: list[str] = field(default_factory=list)
    folds: int | None = MISSING
    fold: int = MISSING
    protocol: str | None = MISSING


@dataclass
class PreparedKeys:
    """Keys of a face dataset that `prepare.py` reads."""

    root: str | None = MISSING


@dataclass
class MediaLimitKeys:
    """Decoding limits of a file."""

    max_pixels: int = MISSING


@dataclass
class PrepareKeys:
    """Root keys of `prepare.yaml`."""

    task: str = MISSING
    source: Any = MISSING
    detector: Any = MISSING
    runner: Any = MISSING
    paths: Any = MISSING
    output: str = MISSING
    shard: str | None = MISSING
    shards: list[str] = field(default_factory=list)
    dataset: PreparedKeys = field(default_factory=PreparedKeys)
    crop: CropKeys = field(default_factory=CropKeys)
    faces: FaceKeys = field(default_factory=FaceKeys)
    split: SplitKeys = field(default_factory=SplitKeys)
    seed: int = MISSING
    num_workers: int | None = MISSING
    limit: int | None = MISSING
    duplicates: str = MISSING
    near_duplicates: str = MISSING
    trusted_modules: list[str] = field(default_factory=list)
    limits: MediaLimitKeys = field(default_factory=MediaLimitKeys)


@dataclass
class TrackingKeys:
    """Keys of what MLflow stores for a run; see `unmask.tracking.logger.MLflowLogger`."""

    checkpoints: str = MISSING


@dataclass
class TrainKeys:
    """Root keys of `train.yaml`."""

    task: str = MISSING
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
    seed: int = MISSING
    deterministic: bool = MISSING
    compile: bool = MISSING
    tracking: TrackingKeys = field(default_factory=TrackingKeys)
    objective: str = MISSING
    metrics: Any = MISSING
    threshold_criterion: str = MISSING
    calibration: str = MISSING
    uncertain_error: float | None = MISSING
    aggregation: str = MISSING
    experiment_name: str = MISSING
    run_name: str | None = MISSING
    resume: str | None = MISSING
    resume_sweep: str | None = MISSING
    trusted_modules: list[str] = field(default_factory=list)
    checkpoint_minutes: float | None = MISSING
    reproduce: str | None = MISSING
    register: str | None = MISSING
    send_dir: str | None = MISSING


@dataclass
class RobustnessKeys:
    """Keys of `task=robustness`; see `unmask.evaluation.robustness.RobustnessOptions`."""

    families: list[str] | None = MISSING
    levels: list[int] = MISSING
    limit: int | None = MISSING
    apply: str = MISSING
    detect: str = MISSING
    scores_dir: str = MISSING


@dataclass
class BootstrapKeys:
    """Keys of the confidence intervals; see `unmask.metrics.intervals.BootstrapOptions`."""

    draws: int = MISSING
    seed: int = MISSING
    level: float = MISSING


@dataclass
class DecisionKeys:
    """Keys of the decision about score tables; see `unmask.evaluation.detectors.DecisionSource`."""

    threshold: float | None = MISSING
    validation_scores: list[str] = field(default_factory=list)
    criterion: str = MISSING
    aggregation: str = MISSING


@dataclass
class EvaluateKeys:
    """Root keys of `evaluate.yaml`."""

    task: str = MISSING
    dataset: Any = MISSING
    paths: Any = MISSING
    checkpoint: Any = MISSING
    scores: list[str] = field(default_factory=list)
    columns: Any = MISSING
    scores_transform: str = MISSING
    missing_scores: str = MISSING
    decision: DecisionKeys = field(default_factory=DecisionKeys)
    split: str = MISSING
    device: str = MISSING
    batch_size: int = MISSING
    num_workers: int = MISSING
    allow_spec_mismatch: bool = MISSING
    min_coverage: float = MISSING
    ensemble: str | None = MISSING
    bootstrap: BootstrapKeys = field(default_factory=BootstrapKeys)
    sections: Any = MISSING
    card: bool = MISSING
    trusted_modules: list[str] = field(default_factory=list)
    seed: int = MISSING
    detector_weights: str | None = MISSING
    robustness: RobustnessKeys = field(default_factory=RobustnessKeys)


@dataclass
class LimitKeys(MediaLimitKeys):
    """Keys of the limits for a file; see `unmask.inference.limits.Limits`."""

    max_seconds: float | None = MISSING
    max_frames: int = MISSING
    max_search: int = MISSING
    max_faces: int = MISSING
    max_scans: int = MISSING
    max_parts: int = MISSING


@dataclass
class DecidingKeys:
    """Keys for the deciding face and suspicious stretches; see `unmask.inference.deciding.Deciding`."""

    face: str = MISSING
    min_share: float = MISSING
    suspicious_share: float | None = MISSING
    suspicious_frames: int | None = MISSING
    suspicious_seconds: float = MISSING


@dataclass
class PredictorKeys:
    """Keys shared by all commands that predict; see `unmask.inference.predictor.PredictorSettings`."""

    checkpoint: str = MISSING
    threshold: float | None = MISSING
    margin: float | None = MISSING
    num_frames: int | None = MISSING
    every_n: int | None = MISSING
    device: str = MISSING
    batch_size: int = MISSING
    detector_weights: str | None = MISSING
    trusted_modules: list[str] = field(default_factory=list)
    limits: LimitKeys = field(default_factory=LimitKeys)
    deciding: DecidingKeys = field(default_factory=DecidingKeys)


@dataclass
class PredictKeys(PredictorKeys):
    """Root keys of `predict.yaml`."""

    paths: Any = MISSING
    inputs: list[str] = field(default_factory=list)
    save: Any = field(default_factory=list)  # list of names, or a comma-separated string


@dataclass
class ServiceLimitKeys:
    """Keys of the limits for clients; see `unmask.web.api.settings.ServiceLimits`."""

    image_bytes: int = MISSING
    video_bytes: int = MISSING
    files: int = MISSING
    images_at_once: int = MISSING
    jobs: int = MISSING
    image_seconds: float = MISSING
    job_seconds: float = MISSING
    upload_seconds: float = MISSING
    idle_seconds: float = MISSING
    keep_hours: float = MISSING


@dataclass
class ServeKeys(PredictorKeys):
    """Root keys of `serve.yaml`."""

    paths: Any = MISSING
    task: str = MISSING
    host: str = MISSING
    port: int = MISSING
    folder: str = MISSING
    image_workers: int | None = MISSING
    video_workers: int = MISSING
    connections: int = MISSING
    api_keys: list[str] = field(default_factory=list)
    cors_origins: list[str] = field(default_factory=list)
    root_path: str = MISSING
    hosts: list[str] = field(default_factory=list)
    forwarded_allow_ips: list[str] | None = MISSING
    service: ServiceLimitKeys = field(default_factory=ServiceLimitKeys)
