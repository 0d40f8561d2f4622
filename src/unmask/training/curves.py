"""Draw the curves of a training into its run folder, with or without a logger."""

import csv
import io
import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from unmask.errors import OutputError
from unmask.metrics.plots import draw_training_sheet
from unmask.models.checkpoint import CURVES
from unmask.paths import write_bytes

logger = logging.getLogger(__name__)

_SHEET = "curves.png"
_FIRST = ("epoch", "step")
_SECONDS = 5.0
"""Shortest time between two drawings, which take half a second each."""


class EpochCurves(L.Callback):
    """Write `curves.csv` and `curves.png` after every epoch, so that a killed training has them too.

    Of epochs that are shorter than a few seconds, not every one draws the image anew; the last one does.

    The table has one row per epoch: its number from 1, the optimizer steps so far, the learning rate of its last step,
    and its metrics. A checkpoint holds the rows, so that a resumed training continues the curves in any folder.

    Args:
        monitor: Metric key; the image marks the epoch where it is highest.
    """

    def __init__(self, *, monitor: str) -> None:
        self.monitor = monitor
        self.rows: list[dict[str, float]] = []
        self._rates: dict[str, float] = {}
        self._drawn_at = -np.inf
        self._is_drawn = True

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, as plain values."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the curves of the checkpoint."""
        self.rows = list(state_dict["rows"])

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the learning rate of the step: at the end of an epoch, a schedule has already set the next one."""
        groups = trainer.optimizers[0].param_groups
        names = ["lr"] if len(groups) == 1 else [f"lr/{group.get('name', at)}" for at, group in enumerate(groups)]
        self._rates = {name: float(group["lr"]) for name, group in zip(names, groups, strict=True)}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch and write the files; a training does not stop because they cannot be written."""
        number = trainer.current_epoch + 1
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name != "train/step_loss"}
        place = {"epoch": number, "step": trainer.global_step}
        self.rows = [row for row in self.rows if row["epoch"] < number] + [{**place, **self._rates, **figures}]
        if trainer.is_global_zero:
            self._is_drawn = False
            self._write(Path(trainer.default_root_dir), draws=time.monotonic() - self._drawn_at > _SECONDS)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Draw the last epochs, however the training ends."""
        if not self._is_drawn:
            self._write(Path(trainer.default_root_dir), draws=True)

    def _write(self, folder: Path, *, draws: bool) -> None:
        names = [*_FIRST, *sorted({name for row in self.rows for name in row} - set(_FIRST))]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        try:
            write_bytes(folder / CURVES, text.getvalue().encode())
            if draws:
                columns = {name: [row.get(name, np.nan) for row in self.rows] for name in names}
                sheet = draw_training_sheet(columns, marked=self._find_best(), name="best epoch")
                write_bytes(folder / _SHEET, sheet)
                self._drawn_at, self._is_drawn = time.monotonic(), True
        except OutputError as error:
            logger.warning("The training curves are not up to date. %s", error)

    def _find_best(self) -> int | None:
        """Return the number of the epoch that the best checkpoint is from, or None if no epoch has the metric."""
        known = [row for row in self.rows if np.isfinite(row.get(self.monitor, np.nan))]
        return int(max(known, key=lambda row: row[self.monitor])["epoch"]) if known else None
