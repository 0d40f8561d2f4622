"""Readings of processor, memory, disk, network and GPU during a training."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

logger = logging.getLogger(__name__)

_SECONDS_TO_END = 10.0


class SystemReadings:
    """Read processor, memory, disk, network and GPU at an interval, on a thread of its own.

    MLflow's own monitor stops for good when the store fails to answer once; this one uses its readers and our logger.

    Args:
        log_metrics: Function that logs readings at a step.
        seconds: Seconds between two readings.
    """

    def __init__(self, log_metrics: Callable[[Mapping[str, float], int], None], *, seconds: float) -> None:
        self._log_metrics = log_metrics
        self._seconds = seconds
        self._readers: list[Any] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="system-readings")

    def start(self) -> None:
        """Start reading; the readers are imported first, outside of any epoch."""
        self._readers = _find_readers()
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; a reader whose driver hangs is left behind."""
        self._stopped.set()
        self._thread.join(_SECONDS_TO_END)
        if self._thread.is_alive():
            logger.warning("A reader of the system metrics does not answer; its last readings are lost.")

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
    except Exception as error:  # nvidia-ml-py is missing or finds no driver, and passes on any error of its C library
        logger.warning("No GPU readings: %s. Install their reader with: pip install nvidia-ml-py", error)
        return []
