"""Write a source of drawn talking heads and their forgeries in the layout of FaceForensics++."""

import logging
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from unmask.errors import ConfigError
from unmask.media.encode import write_video
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.forge import FORGERS, Forger, Forgery, Portrait
from unmask.synthetic.identity import draw_identity
from unmask.synthetic.jobs import run_jobs
from unmask.synthetic.layout import Layout, Pair, check_fractions, claim_root, pair_up, split_pairs, write_splits
from unmask.synthetic.pose import animate
from unmask.types import Array, Picture

_DRAWING = 1
"""Counts the changes of what is drawn: a folder drawn by other code is not mixed with new videos."""

logger = logging.getLogger(__name__)


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


def show_mask(mask: Array) -> Picture:
    """Return a mask as a grey picture."""
    return np.asarray(cv2.cvtColor(mask, cv2.COLOR_GRAY2RGB), np.uint8)
