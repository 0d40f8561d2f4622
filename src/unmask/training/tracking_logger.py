"""Curves: Lightning's logger, which gathers points and sends them in batches, and the readings of the machine."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from unmask.training.unsent import Message, Outbox

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_BATCHES = 5.0
_SECONDS_TO_END = 10.0


class RunLogger(Logger):
    """Send metrics every few seconds rather than one by one: a call costs a transaction or a request.

    They are sent from a thread of their own, so that a step does not wait for a disk or a network.

    Args:
        outbox: Of the run.
        run_id: The run's id.
        experiment_name: MLflow's experiment.
    """

    def __init__(self, outbox: Outbox, *, run_id: str, experiment_name: str) -> None:
        super().__init__()
        self.run_id = run_id
        self._experiment_name = experiment_name
        self._outbox = outbox
        self._points: list[list[Any]] = []
        self._timer: threading.Timer | None = None
        self._lock, self._sending = threading.Lock(), threading.Lock()

    @property
    def name(self) -> str:
        """The experiment."""
        return self._experiment_name

    @property
    def version(self) -> str:
        """The run."""
        return self.run_id

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log nothing: the composed configuration is logged before the training starts."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Take points of some curves at a step."""
        now = int(time.time() * 1000)
        points: list[list[Any]] = [
            [key, float(value), now, step or 0] for key, value in metrics.items() if key != "epoch"
        ]
        with self._lock:
            self._points += [point for point in points if math.isfinite(point[1])]
            if self._points and self._timer is None:
                self._timer = threading.Timer(_SECONDS_BETWEEN_BATCHES, self.save)
                self._timer.daemon = True
                self._timer.start()

    def save(self) -> None:
        """Send what was gathered; when it returns, nothing taken before is still on its way."""
        with self._sending:
            with self._lock:
                points, self._points = self._points, []
                timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
            if points:
                self._outbox.send(Message("metrics", {"points": points}))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send the rest."""
        self.save()


class SystemReadings:
    """Read processor, memory, disk, network and GPU now and then, on a thread of its own.

    MLflow's own monitor stops for good when the store does not answer once; this one uses its readers and our logger.

    Args:
        log_metrics: Takes a dict of readings, and their step.
        seconds: Between two readings.
    """

    def __init__(self, log_metrics: Callable[[Mapping[str, float], int], None], *, seconds: float) -> None:
        self._log_metrics = log_metrics
        self._seconds = seconds
        self._readers: list[Any] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="system-readings")

    def start(self) -> None:
        """Start reading; the readers are imported first, so that this costs no epoch anything."""
        self._readers = _find_readers()
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; a reader that waits for a driver that hangs is left behind."""
        self._stopped.set()
        self._thread.join(_SECONDS_TO_END)
        if self._thread.is_alive():
            logger.warning("A reader of the machine's load does not answer; its last readings are lost.")

    def _run(self) -> None:
        step = 0
        while True:
            readings: dict[str, float] = {}
            for reader in self._readers:
                reader.collect_metrics()
                readings |= {f"system/{name}": value for name, value in reader.aggregate_metrics().items()}
                reader.clear_metrics()
            self._log_metrics(readings, step)
            step += 1
            if self._stopped.wait(self._seconds):
                return


def _find_readers() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    return [CPUMonitor(), DiskMonitor(), NetworkMonitor(), *_find_gpu_reader()]


def _find_gpu_reader() -> list[Any]:
    import torch

    if not torch.cuda.is_available():
        return []
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    try:
        return [GPUMonitor()]
    except Exception as error:  # nvidia-ml-py is absent, or finds no driver: it raises whatever its C library says
        import logging

        logging.getLogger(__name__).warning(
            "No readings of the GPU: %s. Install them with: pip install nvidia-ml-py", error
        )
        return []
