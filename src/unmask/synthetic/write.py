"""Write a source of drawn talking heads and their forgeries in the layout of FaceForensics++."""

import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unmask.errors import ConfigError, SourceError
from unmask.forging.swap import FORGERS, Forger, Forgery, Portrait
from unmask.media.encode import write_video
from unmask.processes import open_pool
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import animate, draw_identity
from unmask.synthetic.layout import Layout, Pair, check_fractions, claim_root, pair_up, split_pairs, write_splits
from unmask.types import Array, Image

logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(work: Callable[[Job], Result], jobs: Sequence[Job], *, num_workers: int, description: str) -> list[Result]:
    """Return the result of every job, in the order of the jobs.

    Args:
        work: A function of a module: workers import it.
        jobs: Picklable.
        num_workers: Processes; with 0 or 1 the work is done in this one.
        description: Shown before the progress bar.

    Raises:
        SourceError: A worker process died.
    """
    results: dict[int, Result] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(description, total=len(jobs))
        done = _complete(work, jobs, num_workers=min(num_workers, len(jobs)), description=description)
        with closing(done):
            for index, result in done:
                results[index] = result
                progress.advance(task)
    return [results[index] for index in range(len(jobs))]


def _complete(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, num_workers: int, description: str
) -> Generator[tuple[int, Result], None, None]:
    if num_workers <= 1:
        for index, job in enumerate(jobs):
            yield index, work(job)
        return
    with open_pool(num_workers, initializer=partial(cv2.setNumThreads, 1)) as pool:
        futures = {pool.submit(work, job): index for index, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise SourceError(
                f"A worker process died while it was {description.lower()}, perhaps for want of memory. What is "
                f"finished is kept: run the same command again, with fewer processes (num_workers=...)."
            ) from error


_DRAWING = 1
"""Counts the changes of what is drawn: a folder drawn by other code is not mixed with new videos."""


@dataclass(frozen=True)
class SyntheticSpec:
    """What decides every pixel of a synthetic source.

    Args:
        num_identities: People, each in one real video; even, since they are paired.
        num_frames: Frames of every video.
        fps: Frames a second.
        size: Side of the square frames in pixels, even.
        crf: Constant rate factor of x264.
        seed: Of everything random.
        val_fraction: Share of the pairs for validation.
        test_fraction: Share of the pairs for test.
    """

    num_identities: int
    num_frames: int
    fps: float
    size: int
    crf: int
    seed: int
    val_fraction: float
    test_fraction: float

    def __post_init__(self) -> None:
        """Check what can be checked before anything is drawn."""
        if self.num_identities < 6 or self.num_identities % 2:
            raise ConfigError(
                f"source.num_identities={self.num_identities} must be even and at least 6: they are paired, and each "
                f"of train, val and test needs a pair."
            )
        if self.size < 64 or self.size % 2:
            raise ConfigError(f"source.size={self.size} must be even and at least 64, or no face can be seen.")
        if self.num_frames < 1 or self.fps <= 0:
            raise ConfigError(f"source.num_frames={self.num_frames} and source.fps={self.fps} must be above 0.")
        check_fractions(val_fraction=self.val_fraction, test_fraction=self.test_fraction)


def write_source(root: Path, spec: SyntheticSpec, *, num_workers: int) -> None:
    """Draw and forge every video that is not there yet; the result does not depend on the number of workers.

    Args:
        root: Folder of the source.
        spec: What to draw.
        num_workers: Processes; 0 works in this one.

    Raises:
        SourceError: The folder holds something else.
    """
    claim_root(root, record="synthetic.json", parameters={"drawing": _DRAWING, **asdict(spec)}, key="source.root")
    layout = Layout(root)
    digits = max(3, len(str(spec.num_identities - 1)))
    pairs = pair_up([f"{number:0{digits}d}" for number in range(spec.num_identities)], seed=spec.seed)
    write_splits(layout, split_pairs(pairs, val_fraction=spec.val_fraction, test_fraction=spec.test_fraction))
    missing = [pair for pair in pairs if not all(path.exists() for path in _list_files(layout, pair))]
    run_jobs(
        partial(_write_pair, layout, spec), missing, num_workers=num_workers, description="Drawing pairs of videos"
    )
    logger.info("%d of %d pairs of synthetic videos were drawn in '%s'.", len(missing), len(pairs), root)


def draw_clip(number: int, spec: SyntheticSpec) -> list[Portrait]:
    """Draw all frames of one person's video.

    Args:
        number: Of the person.
        spec: Frames, size and seed.
    """
    rng = np.random.default_rng([spec.seed, number])
    sitter = Sitter(draw_identity(rng), size=spec.size)
    poses = animate(rng, num_frames=spec.num_frames, fps=spec.fps)
    return [Portrait(head.image, head.landmarks) for head in film(sitter, poses, rng)]


def _list_files(layout: Layout, pair: Pair) -> list[Path]:
    files = [layout.original(name) for name in pair]
    for target, donor in (pair, pair[::-1]):
        files += [path(method, target, donor) for method in FORGERS for path in (layout.forgery, layout.mask)]
    return files


def _write_pair(layout: Layout, spec: SyntheticSpec, pair: Pair) -> None:
    """Write the originals of two people and their forgeries in both directions, all encoded once from drawn frames."""
    clips = {name: draw_clip(int(name), spec) for name in pair}
    for name, clip in clips.items():
        if not layout.original(name).exists():
            write_video(layout.original(name), (frame.image for frame in clip), fps=spec.fps, crf=spec.crf)
    for target, donor in (pair, pair[::-1]):
        for method, forger in FORGERS.items():
            paths = layout.forgery(method, target, donor), layout.mask(method, target, donor)
            if all(path.exists() for path in paths):
                continue
            forgeries = forge_clip(forger, clips[target], clips[donor])
            images = [forgery.image for forgery in forgeries], [show_mask(forgery.mask) for forgery in forgeries]
            for path, frames in zip(paths, images, strict=True):
                if not path.exists():
                    write_video(path, frames, fps=spec.fps, crf=spec.crf)


def forge_clip(forger: Forger, target: list[Portrait], donor: list[Portrait]) -> list[Forgery]:
    """Forge a video frame by frame; a shorter donor begins again.

    Args:
        forger: One of `FORGERS`.
        target: Frames that are forged.
        donor: Frames whose face or expression is used.
    """
    return [forger(frame, donor[index % len(donor)]) for index, frame in enumerate(target)]


def show_mask(mask: Array) -> Image:
    """Return a mask as a grey image."""
    return np.asarray(cv2.cvtColor(mask, cv2.COLOR_GRAY2RGB), np.uint8)
