"""Run the work of `prepare` on a Ray cluster (runner=ray), with actors that each build the detector once."""

import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from unmask.errors import ConfigError, DatasetError, OutputError, list_problems
from unmask.parameters import as_config_error, check_number, check_whole
from unmask.paths import write_bytes
from unmask.preparation.records import VideoRecord
from unmask.preparation.work import Task, Work, Workshop, discard_crops
from unmask.processes import end_with_starter

_AT_ONCE = 2
"""Number of tasks that an actor has at a time, so that it never waits for the next one."""

_SECONDS_TO_DIE = 10.0

logger = logging.getLogger(__name__)


class RayRunner:
    """Runs the work in actors of a Ray cluster. Source and output lie on a disk that all nodes share.

    Args:
        address: Address of a running cluster, as `ray.init` takes it; `auto` for the one on this machine. None starts a
            local cluster for the run.
        num_actors: Number of actors; None for as many as the cluster has room for.
        num_cpus: Number of CPUs per actor.
        num_gpus: Number of GPUs per actor; may be a fraction.

    Raises:
        ConfigError: Ray is not installed, or a value is invalid.
    """

    def __init__(
        self, *, address: str | None = None, num_actors: int | None = None, num_cpus: float = 1, num_gpus: float = 0
    ) -> None:
        with as_config_error():
            check_number("runner.num_cpus", num_cpus, least=0.01)
            check_number("runner.num_gpus", num_gpus, least=0)
            if num_actors is not None:
                check_whole("runner.num_actors", num_actors, least=1)
        if find_spec("ray") is None:
            raise ConfigError(
                "runner=ray needs Ray, which is not installed. Install it with: pip install 'unmask[ray]' - or set "
                "runner=local for processes of this machine."
            )
        self.address = address
        self.num_actors = num_actors
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus

    def run(self, tasks: Sequence[Task], workshop: Workshop) -> Work:
        """Yield each task with its record as it finishes.

        Raises:
            ConfigError: There is no cluster at the address, or it has no room for an actor.
            DatasetError: An actor died.
            OutputError: A crop cannot be written, or a node does not see the output.
        """
        if not tasks:
            return
        with _connected(self.address) as ray, _marked(workshop.root) as mark:
            actors = self._start_actors(ray, workshop, mark, most=len(tasks))
            yield from _share_out(ray, actors, tasks, workshop)

    def _start_actors(self, ray: Any, workshop: Workshop, mark: Path, *, most: int) -> list[Any]:
        total = ray.cluster_resources()
        needs = {"CPU": self.num_cpus, "GPU": self.num_gpus}
        room = min(int(total.get(name, 0) / need + 1e-9) for name, need in needs.items() if need)
        if room < 1:
            has = ", ".join(f"{total.get(name, 0):g} {name}" for name in needs)
            raise ConfigError(
                f"An actor needs runner.num_cpus={self.num_cpus:g} and runner.num_gpus={self.num_gpus:g}, but the Ray "
                f"cluster has {has}. Lower them, or choose a larger cluster with runner.address=..."
            )
        num_actors = min(self.num_actors or room, most)
        logger.info("Preparing with %d Ray actors on %d nodes.", num_actors, len(ray.nodes()))
        shared = ray.put(workshop)
        actor = ray.remote(_Actor).options(num_cpus=self.num_cpus, num_gpus=self.num_gpus, max_restarts=0)
        return [actor.remote(shared, folder=os.getcwd(), mark=str(mark)) for _ in range(num_actors)]


class _Actor:
    """A process of the cluster with its own detector, which loads its weights once."""

    def __init__(self, workshop: Workshop, *, folder: str, mark: str) -> None:
        end_with_starter()  # a local cluster takes its time where the command was killed
        self.workshop = workshop
        self.folder, self.mark = folder, mark

    def check(self) -> None:
        """Enter the folder of the command, to which paths may be relative, and check that this node sees the output."""
        with suppress(OSError):
            os.chdir(self.folder)
        if not Path(self.mark).is_file():
            raise OutputError(
                f"The node '{os.uname().nodename}' of the Ray cluster does not see '{Path(self.mark).parent}'. Choose "
                f"an output on a disk that all nodes have under the same path."
            )

    def work(self, task: Task) -> VideoRecord:
        """Prepare a video, or recreate its damaged crops."""
        return self.workshop.work(task)


def _share_out(ray: Any, actors: Sequence[Any], tasks: Sequence[Task], workshop: Workshop) -> Work:
    """Give each actor that has started a few tasks, and yield the results; end all actors at the end or on an error."""
    waiting = iter(tasks)
    starting = {actor.check.remote(): actor for actor in actors}
    working: dict[Any, tuple[Any, Task]] = {}
    num_left = len(tasks)
    try:
        while num_left:
            (done,), _ = ray.wait([*working, *starting], num_returns=1)
            actor, task = working[done] if done in working else (starting[done], None)
            record = _fetch(ray, done)  # if this raises, the error message below still lists the video
            if task is None:
                del starting[done]
            else:
                del working[done]
                num_left -= 1
                yield task, record
            for following in islice(waiting, 1 if task else _AT_ONCE):
                working[actor.work.remote(following)] = (actor, following)
    except ray.exceptions.RayError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        names = (str(task.video.path) for _, task in working.values())
        raise DatasetError(
            f"A Ray actor died (out of memory, a lost node, or a crash in a decoder) while processing these files:\n"
            f"{list_problems(names) or '  none: it did not start'}\nRay reports: {reason.strip()}\n"
            f"Finished videos are kept. Run the same command again; runner=local num_workers=0 shows which file is the "
            f"cause."
        ) from error
    finally:
        for actor in actors:
            ray.kill(actor)
        if working:
            ray.wait(list(working), num_returns=len(working), timeout=_SECONDS_TO_DIE)  # then nobody writes any more
        discard_crops((task for _, task in working.values()), workshop)


def _fetch(ray: Any, reference: Any) -> Any:
    """Return a result, or raise the error of the actor itself."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Connect to a cluster, or start one, and leave it at the end; a connection of the caller stays."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with _keeping_handlers():
        import ray

        if ray.is_initialized():
            yield ray
            return
        paths = [path for path in sys.path if path] + os.environ.get("PYTHONPATH", "").split(os.pathsep)
        options = {"env_vars": {"PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, paths)))}}
        local = {} if address else {"include_dashboard": False}
        try:
            ray.init(
                address=address or "local", runtime_env=options, log_to_driver=False, logging_level="warning", **local
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(
                f"No Ray cluster can be used with runner.address={address or 'null'}: {reason} Start one with "
                f"'ray start --head', or set runner.address=null for a local one."
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _keeping_handlers() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces when it is imported."""
    if threading.current_thread() is not threading.main_thread():  # which alone has handlers
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _marked(root: Path) -> Iterator[Path]:
    """Write a file into the output that every node must see, and remove it at the end."""
    mark = root.absolute() / f".ray-{uuid.uuid4().hex}.{os.getpid()}.part"  # which the next run removes after a crash
    write_bytes(mark, b"")
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)
