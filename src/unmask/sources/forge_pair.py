"""Forge two real photographs or videos with each other's faces: the work of one process in `forge`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from unmask.media.encode import write_video
from unmask.media.picture import write_bytes, write_jpeg
from unmask.sources.portraits import FoundFace, Medium, read_portraits
from unmask.synthetic.forge import FORGERS, Forgery, Portrait
from unmask.synthetic.layout import Layout
from unmask.synthetic.write import forge_clip, show_mask
from unmask.types import MediaKind, Picture


@dataclass(frozen=True)
class Encoding:
    """How originals and forgeries are written, both alike.

    Args:
        jpeg_quality: Of pictures.
        crf: Constant rate factor of videos.
    """

    jpeg_quality: int
    crf: int


def forge_pair(layout: Layout, methods: Sequence[str], encoding: Encoding, pair: tuple[Medium, Medium]) -> None:
    """Write two originals and their forgeries in both directions, all encoded once from the same decoded frames.

    Args:
        layout: Where files go; those that are there are left alone.
        methods: Names of forging functions.
        encoding: How files are written.
        pair: Media whose landmarks were found before.
    """
    originals = [medium for medium in pair if not layout.original(medium.name).exists()]
    todo = [
        (method, target, donor)
        for target, donor in (pair, pair[::-1])
        for method in methods
        if not (
            layout.forgery(method, target.name, donor.name).exists()
            and layout.mask(method, target.name, donor.name).exists()
        )
    ]
    if not todo and not originals:
        return
    frames = {medium.name: _read(layout, medium) for medium in pair}
    for medium in originals:
        _write_images(layout.original(medium.name), [frame.image for frame in frames[medium.name]], medium, encoding)
    for method, target, donor in todo:
        forgeries = forge_clip(FORGERS[method], frames[target.name], frames[donor.name])
        images = [forgery.image for forgery in forgeries]
        _write_images(layout.forgery(method, target.name, donor.name), images, target, encoding)
        _write_masks(layout.mask(method, target.name, donor.name), forgeries, target, encoding)


def _read(layout: Layout, medium: Medium) -> list[Portrait]:
    return read_portraits(medium, FoundFace.load(layout.root / "landmarks" / f"{medium.name}.json"))


def _write_images(path: Path, images: Sequence[Picture], medium: Medium, encoding: Encoding) -> None:
    if medium.kind is MediaKind.PICTURE:
        write_jpeg(path, images[0], quality=encoding.jpeg_quality)
    else:
        write_video(path, images, fps=medium.frame_rate(len(images)), crf=encoding.crf)


def _write_masks(path: Path, forgeries: Sequence[Forgery], medium: Medium, encoding: Encoding) -> None:
    if medium.kind is MediaKind.PICTURE:
        done, data = cv2.imencode(".png", forgeries[0].mask)
        assert done
        write_bytes(path, data.tobytes())
    else:
        _write_images(path, [show_mask(forgery.mask) for forgery in forgeries], medium, encoding)
