"""Find the main face's landmarks in authentic photographs and videos, and write forged pairs."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from unmask.errors import ConfigError, MediaError, SourceError
from unmask.faces.detector import Detector, name_detector, shrink
from unmask.faces.track import describe_faces, follow_largest
from unmask.forging.swap import FORGERS, Forgery, Portrait
from unmask.media.encode import write_video
from unmask.media.image import MAX_PIXELS, read_image, write_jpeg
from unmask.media.video import probe_video, read_frames
from unmask.paths import write_bytes
from unmask.sources.labels import find_frame_folders
from unmask.synthetic.layout import Layout
from unmask.synthetic.write import forge_clip, show_mask
from unmask.types import Face, Image, MediaKind, Point

_SMALLEST_EYE_DISTANCE = 6.0
"""Minimum distance between the eyes in pixels; smaller faces are too small to forge."""

_LARGEST_SHARE_LOST = 0.5
"""Maximum share of a video's frames without the face; their landmarks are interpolated."""

Landmarks = tuple[Point, ...]


@dataclass(frozen=True)
class Medium:
    """A photograph or video to forge.

    Args:
        name: Number in the written source, such as `007`.
        path: Path of the file.
        kind: Image or video.
        num_frames: Number of frames of a video, evenly spaced.
        max_side: Maximum longer side in pixels; larger frames are scaled down.
        max_pixels: Maximum number of pixels of an image or video frame; larger files cannot be used.
    """

    name: str
    path: Path
    kind: MediaKind
    num_frames: int
    max_side: int
    max_pixels: int = MAX_PIXELS

    def read(self) -> list[Image]:
        """Return the frames; those of a video are cropped to even sides, as yuv420p requires."""
        if self.kind is MediaKind.IMAGE:
            return [shrink(read_image(self.path, max_pixels=self.max_pixels), max_side=self.max_side)[0]]
        frames = read_frames(self.path, num_frames=self.num_frames, max_pixels=self.max_pixels)
        images = [shrink(frame.image, max_side=self.max_side)[0] for frame in frames]
        return [image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2] for image in images]

    def frame_rate(self, num_frames: int) -> float:
        """Return the frame rate, from 1 to 60, at which `num_frames` frames last as long as the original video."""
        info = probe_video(self.path, max_pixels=self.max_pixels)
        if info.duration_seconds <= 0:
            return 25.0
        return min(max(1.0, num_frames / info.duration_seconds), 60.0)


@dataclass(frozen=True)
class FoundFace:
    """The main face of a medium.

    Args:
        landmarks: Five landmarks (x, y) per frame, in pixels; empty if the medium cannot be used.
        problem: Reason why it cannot be used, or "".
    """

    landmarks: tuple[Landmarks, ...] = ()
    problem: str = ""

    def save(self, path: Path) -> None:
        """Write the face as JSON, so that a resumed run need not detect it again."""
        write_bytes(path, json.dumps({"landmarks": self.landmarks, "problem": self.problem}).encode())

    @classmethod
    def load(cls, path: Path) -> "FoundFace":
        """Read a face written by `save`."""
        values = json.loads(path.read_text())
        landmarks = tuple(tuple((x, y) for x, y in points) for points in values["landmarks"])
        return cls(landmarks, values["problem"])


def find_face(medium: Medium, detector: Detector) -> FoundFace:
    """Find the landmarks of the largest face in every frame of a medium.

    Args:
        medium: Photograph or video.
        detector: Face detector that returns landmarks.

    Raises:
        ConfigError: The detector returns no landmarks.
    """
    try:
        images = medium.read()
    except MediaError as error:
        return FoundFace(problem=str(error))
    detected = detector.detect(images)
    looks = [describe_faces(image, some) for image, some in zip(images, detected, strict=True)]
    faces = follow_largest(detected, looks=looks)
    found = sum(face is not None for face in faces)
    if not found:
        return FoundFace(problem="no face was found")
    if len(faces) - found > _LARGEST_SHARE_LOST * len(faces):
        return FoundFace(problem=f"the face was lost in {len(faces) - found} of {len(faces)} frames")
    landmarks = _fill_gaps(faces, detector)
    eyes = landmarks[:, 1] - landmarks[:, 0]
    if np.hypot(eyes[:, 0], eyes[:, 1]).min() < _SMALLEST_EYE_DISTANCE:
        return FoundFace(problem=f"the eyes are less than {_SMALLEST_EYE_DISTANCE:g} pixels apart")
    return FoundFace(tuple(tuple((float(x), float(y)) for x, y in points) for points in landmarks))


def _fill_gaps(faces: Sequence[Face | None], detector: Detector) -> np.ndarray:
    """Return the landmarks of every frame, shape `(N, 5, 2)`, interpolated in time for frames without the face."""
    known = [index for index, face in enumerate(faces) if face is not None]
    points = [face.landmarks for face in faces if face is not None]
    if any(landmarks is None for landmarks in points):
        raise ConfigError(
            f"detector={name_detector(detector)} returns no landmarks, but source=forge needs them to align faces. "
            f"Choose detector=retinaface_mobilenet or detector=retinaface."
        )
    flat = np.array(points, float).reshape(len(known), -1)
    filled = [np.interp(np.arange(len(faces)), known, column) for column in flat.T]
    return np.stack(filled, axis=1).reshape(len(faces), -1, 2)


def read_portraits(medium: Medium, found: FoundFace) -> list[Portrait]:
    """Return the frames of a medium with their landmarks."""
    return [Portrait(image, points) for image, points in zip(medium.read(), found.landmarks, strict=True)]


@dataclass(frozen=True)
class Encoding:
    """Encoding settings, shared by originals and forgeries.

    Args:
        jpeg_quality: JPEG quality of images.
        crf: Constant rate factor of videos.
    """

    jpeg_quality: int
    crf: int


def forge_pair(layout: Layout, methods: Sequence[str], encoding: Encoding, pair: tuple[Medium, Medium]) -> None:
    """Write two originals and their forgeries in both directions, each encoded once from the same decoded frames.

    Args:
        layout: Paths of the files to write; existing files are kept.
        methods: Names of forging functions.
        encoding: Encoding settings.
        pair: Two media whose landmarks are already saved.
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


def _write_images(path: Path, images: Sequence[Image], medium: Medium, encoding: Encoding) -> None:
    if medium.kind is MediaKind.IMAGE:
        write_jpeg(path, images[0], quality=encoding.jpeg_quality)
    else:
        write_video(path, images, fps=medium.frame_rate(len(images)), crf=encoding.crf)


def _write_masks(path: Path, forgeries: Sequence[Forgery], medium: Medium, encoding: Encoding) -> None:
    if medium.kind is MediaKind.IMAGE:
        done, data = cv2.imencode(".png", forgeries[0].mask)
        assert done
        write_bytes(path, data.tobytes())
    else:
        _write_images(path, [show_mask(forgery.mask) for forgery in forgeries], medium, encoding)


def check_photographs(root: Path, images: Sequence[Path], *, frames_of: str | None) -> None:
    """Raise a SourceError if images are numbered anew in several folders, as frames of videos are.

    Args:
        root: Folder of the images, for the message.
        images: Images to forge.
        frames_of: `none` if each image shows another person; None to refuse frames.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in images:
        folders[path.parent].append(path)
    frame_folders = find_frame_folders(folders, frames_of=frames_of)
    if frame_folders:
        raise SourceError(
            f"The images in {len(frame_folders)} folders of '{root}', such as '{min(frame_folders)}', are numbered "
            f"like frames of one video each, whose faces source=forge would swap with each other. Give it the videos, "
            f"or set source.frames_of=none if each image shows another person."
        )
