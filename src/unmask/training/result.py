"""What a training gave."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainResult:
    """What a training gave; `result.json` holds the same.

    Args:
        run_id: Of MLflow, or None untracked.
        tracking_uri: Of the store, or None.
        run_page: Address of the run in MLflow's UI, which `make ui` starts where the store is not a server; or None.
        best_checkpoint: Path.
        last_checkpoint: Path.
        bundle: Folder of the best network as ONNX and its spec, or None where it cannot be exported.
        objective_key: Metric key that was maximised.
        objective: Its best value.
        best_epoch: When that was, from 0.
        metrics: Figures of that epoch.
        decision: Threshold, aggregation and criterion of the best checkpoint.
    """

    run_id: str | None
    tracking_uri: str | None
    run_page: str | None
    best_checkpoint: str
    last_checkpoint: str
    bundle: str | None
    objective_key: str
    objective: float
    best_epoch: int
    metrics: dict[str, float]
    decision: dict[str, Any]
