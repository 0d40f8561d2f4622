"""A logger: JSON, one line per call."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only


class JsonLines(Logger):
    """Append metrics to `<folder>/metrics.jsonl`.

    Args:
        folder: Folder of the file; it is created.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.file = Path(folder) / "metrics.jsonl"

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "jsonl"

    @property
    def version(self) -> str:
        """Version of the run."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Ignore hyperparameters: they are in the run's folder."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            file.write(json.dumps({"step": step, **{key: float(value) for key, value in metrics.items()}}) + "\n")
