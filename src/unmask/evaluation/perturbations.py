"""Perturb frames or crops as the perturbation code of DeeperForensics-1.0 and as platforms do, and crop the result.

The seven families of the grid and the values of their five levels are those of `add_distortion_to_video.py` and
`distortions.py` in the folder `perturbation` of github.com/EndlessSora/DeeperForensics-1.0 (Jiang et al., CVPR 2020).
What they call JPEG compression scales a frame down and up again, hence its name here: `pixelation`, as in LipForensics
(Haliassos et al., CVPR 2021). Their noise is added to components of limited range (16 to 235), so it is 255 / 219 times
as strong in those of full range. Their number of blocks grows with the frame and is 0 below 256 pixels; here, smaller
images have as many blocks as one of 256 pixels. They encode whole videos with x264's preset medium; here, each frame is
encoded with the four before it, with preset veryfast.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmask.data.augmentation import compose_steps, seed_steps
from unmask.data.transforms import ColourNoise, Darkening, GreyBlocks, Saturation
from unmask.errors import ConfigError, MediaError, list_problems, suggest
from unmask.faces.crop import crop_as_stored, decode_crop, prepare_input, stack_planes
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec, InputSpec
from unmask.media.encode import recode_images
from unmask.media.image import MAX_PIXELS, decode_crop_file, decode_jpeg, encode_jpeg
from unmask.preparation.prepare_video import find_crops
from unmask.preparation.reading import Footage, open_footage
from unmask.preparation.records import read_crop, read_video
from unmask.types import Array, Face, Frame, Image, Outcome

LEVELS = (1, 2, 3, 4, 5)

CLIP = 5
"""Frames that are encoded as a video: the frame itself and those before it, from which codecs predict it."""

_SENDER_QUALITY, _UPLOAD_SIDE = 90, 480
_NOISE_GAIN = 255 / 219


@dataclass(frozen=True)
class View:
    """What an image is a part of.

    Args:
        frame_side: Shorter side of the frame in pixels.
        zoom: Pixels of the frame per pixel of the image; 1 for the frame itself.
    """

    frame_side: float
    zoom: float = 1.0

    @classmethod
    def of_frame(cls, image: Image) -> "View":
        """Return the view of a whole frame."""
        return cls(min(image.shape[:2]))

    def ratio(self, side: float) -> float:
        """Return how much smaller the image becomes where the frame's shorter side shrinks to `side` pixels."""
        return min(self.zoom * min(side / self.frame_side, 1.0), 1.0)


Change = Callable[[Sequence[Image], float, View, Sequence[int]], Image]
"""Changes the last image of a clip; takes the value of the level, the view and the seed."""


@dataclass(frozen=True)
class Family:
    """A kind of perturbation.

    Args:
        title: Name in plots.
        values: Value of each level.
        unit: What the values are.
        change: Function that applies a value.
        is_of_grid: Whether it belongs to the grid of DeeperForensics, rather than to what platforms do to uploads.
        num_frames: Number of consecutive frames that it needs.
    """

    title: str
    values: tuple[float, ...]
    unit: str
    change: Change
    is_of_grid: bool = True
    num_frames: int = 1


def _apply_step(step: Any, image: Image, seed: Sequence[int]) -> Image:
    compose = compose_steps({"step": step})
    seed_steps(compose, list(seed))
    return np.ascontiguousarray(compose(image=image)["image"])


def _desaturate(clip: Sequence[Image], value: float, view: View, seed: Sequence[int]) -> Image:
    return _apply_step(Saturation(scale_range=(value, value), p=1), clip[-1], seed)


def _darken(clip: Sequence[Image], value: float, view: View, seed: Sequence[int]) -> Image:
    return _apply_step(Darkening(scale_range=(value, value), p=1), clip[-1], seed)


def _cover(clip: Sequence[Image], value: float, view: View, seed: Sequence[int]) -> Image:
    count = int(value) * max(min(clip[-1].shape[:2]) // 256, 1)
    return _apply_step(GreyBlocks(num_range=(count, count), p=1), clip[-1], seed)


def _add_noise(clip: Sequence[Image], value: float, view: View, seed: Sequence[int]) -> Image:
    variance = value * _NOISE_GAIN**2
    return _apply_step(ColourNoise(variance_range=(variance, variance), p=1), clip[-1], seed)


def _blur(clip: Sequence[Image], value: float, view: View, seed: Sequence[int]) -> Image:
    return np.asarray(cv2.GaussianBlur(clip[-1], (int(value), int(value)), value / 6), np.uint8)


def _pixelate(clip: Sequence[Image], value: float, view: View, seed: Sequence[int]) -> Image:
    return _resize(_shrink(clip[-1], 1 / value, cv2.INTER_LINEAR), clip[-1].shape)


def _recode(clip: Sequence[Image], value: float, view: View, seed: Sequence[int]) -> Image:
    return recode_images(clip, crf=int(value))[-1]


def _rescale(clip: Sequence[Image], value: float, view: View, seed: Sequence[int]) -> Image:
    return _resize(_shrink(clip[-1], view.ratio(value), cv2.INTER_AREA), clip[-1].shape)


def _upload(clip: Sequence[Image], value: float, view: View, seed: Sequence[int]) -> Image:
    small = [_shrink(image, view.ratio(_UPLOAD_SIDE), cv2.INTER_AREA) for image in clip]
    return _resize(recode_images(small, crf=int(value))[-1], clip[-1].shape)


def _save_twice(clip: Sequence[Image], value: float, view: View, seed: Sequence[int]) -> Image:
    sent = decode_jpeg(encode_jpeg(clip[-1], quality=_SENDER_QUALITY), where="JPEG in memory")
    return decode_jpeg(encode_jpeg(sent, quality=int(value)), where="JPEG in memory")


def _shrink(image: Image, ratio: float, interpolation: int) -> Image:
    height, width = (max(round(side * ratio), 1) for side in image.shape[:2])
    return image if ratio >= 1 else np.asarray(cv2.resize(image, (width, height), interpolation=interpolation))


def _resize(image: Image, shape: tuple[int, ...]) -> Image:
    if image.shape == shape:
        return image
    return np.asarray(cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.uint8)


FAMILIES: dict[str, Family] = {
    "saturation": Family("colour saturation", (0.4, 0.3, 0.2, 0.1, 0.0), "chroma factor", _desaturate),
    "contrast": Family("colour contrast", (0.85, 0.725, 0.6, 0.475, 0.35), "factor", _darken),
    "blocks": Family("local block-wise", (16, 32, 48, 64, 80), "blocks per 256 pixels", _cover),
    "noise": Family("white Gaussian noise", (0.001, 0.002, 0.005, 0.01, 0.05), "variance", _add_noise),
    "blur": Family("Gaussian blur", (7, 9, 13, 17, 21), "kernel in pixels", _blur),
    "pixelation": Family("pixelation", (2, 3, 4, 5, 6), "times smaller", _pixelate),
    "h264": Family("H.264", (30, 32, 35, 38, 40), "CRF", _recode, num_frames=CLIP),
    "downscale": Family("upload: downscaled", (720, 600, 480, 360, 240), "shorter side", _rescale, is_of_grid=False),
    "upload": Family("upload: 480p and H.264", (28, 31, 34, 37, 40), "CRF", _upload, is_of_grid=False, num_frames=CLIP),
    "jpeg": Family("upload: JPEG twice", (85, 75, 65, 50, 30), "second quality", _save_twice, is_of_grid=False),
}


@dataclass(frozen=True, order=True)
class Condition:
    """A family at a level; `CLEAN` is without perturbation."""

    family: str
    level: int

    @property
    def name(self) -> str:
        """Name for files and messages, such as `blur_3`."""
        return f"{self.family}_{self.level}" if self.level else self.family

    @property
    def value(self) -> float | None:
        """Value of the level, None for `CLEAN`."""
        return FAMILIES[self.family].values[self.level - 1] if self.level else None


CLEAN = Condition("clean", 0)


def list_conditions(families: Sequence[str] | None = None, levels: Sequence[int] = LEVELS) -> list[Condition]:
    """Return `CLEAN` and every family at every level, in the order given.

    Args:
        families: Keys of `FAMILIES`; None for all.
        levels: Levels from 1 to 5.

    Raises:
        ConfigError: A family or level is unknown, or none is left.
    """
    chosen = list(dict.fromkeys(FAMILIES if families is None else families))
    for name in chosen:
        if name not in FAMILIES:
            meant = suggest(name, FAMILIES)
            raise ConfigError(
                f"Unknown family '{name}' in robustness.families.{meant} Choose some of: {', '.join(FAMILIES)}."
            )
    for level in levels:
        if isinstance(level, bool) or level not in LEVELS:
            raise ConfigError(f"Unknown level {level} in robustness.levels. Choose some of: 1, 2, 3, 4, 5.")
    if not chosen or not levels:
        raise ConfigError(
            "Nothing to perturb: robustness.families or robustness.levels is empty. Set robustness.levels=[1,3,5]"
        )
    return [CLEAN, *(Condition(family, level) for family in chosen for level in sorted(set(levels)))]


def perturb(clip: Sequence[Image], condition: Condition, *, seed: Sequence[int], view: View | None = None) -> Image:
    """Return the last image of a clip under a condition, in its own size; the clip itself is not changed.

    The same seed draws the same blocks and noise at every level, so that levels differ in strength only.

    Args:
        clip: Consecutive RGB images, at least one; earlier ones are used by codecs, unless they differ in size.
        condition: Family and level.
        seed: Seed of the random draws, such as those of a video and a frame.
        view: What the image is a part of; None for a whole frame.
    """
    image = clip[-1]
    if condition == CLEAN:
        return image
    family = FAMILIES[condition.family]
    same = [each for each in clip[-family.num_frames :] if each.shape == image.shape]
    return family.change(same, float(condition.value or 0), view or View.of_frame(image), seed)


@dataclass(frozen=True)
class Job:
    """A video under a condition.

    Args:
        video: Row of `videos.parquet`.
        faces: Rows of `faces.parquet` of the video, in order of time.
        condition: Family and level.
        seed: Seed of the video.
    """

    video: Mapping[Any, Any]
    faces: tuple[Mapping[Any, Any], ...]
    condition: Condition
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Inputs:
    """What the network sees of a video.

    Args:
        images: Inputs of the network, uint8, shape `(N, 3, size, size)`.
        frames: Frame index of each.
        outcome: `ok`, or the reason why there is none.
        message: Error text, or "".
    """

    images: Array = field(default_factory=lambda: np.empty((0, 3, 0, 0), np.uint8))
    frames: tuple[int, ...] = ()
    outcome: Outcome = Outcome.OK
    message: str = ""


@dataclass(frozen=True)
class Bench:
    """Settings shared by all jobs.

    Args:
        root: Folder of the face dataset.
        crop_spec: Spec of its crops.
        input_spec: Input spec of the network.
        on_frames: Whether frames are perturbed and cropped afterwards, rather than stored crops perturbed.
        detector: Detector of the faces; None takes the recorded ones.
        max_pixels: Maximum number of pixels of an image or video frame.
    """

    root: Path
    crop_spec: CropSpec
    input_spec: InputSpec
    on_frames: bool
    detector: Detector | None
    max_pixels: int = MAX_PIXELS

    def work(self, job: Job) -> Inputs:
        """Return what the network sees of a video; a bad file becomes an outcome, not an exception."""
        try:
            found = list(self._cut(job) if self.on_frames else self._perturb_crops(job))
        except MediaError as error:
            return Inputs(outcome=Outcome.DECODE_ERROR, message=str(error))
        if not found:
            return Inputs(outcome=Outcome.NO_FACE)
        images = [prepare_input(crop, self.input_spec) for _, crop in found]
        return Inputs(stack_planes(images), tuple(index for index, _ in found))

    def keep(self) -> None:
        """Make this the bench of this worker process."""
        _kept[:] = [self]

    @staticmethod
    def work_as_kept(job: Job) -> Inputs:
        """Do a job in a worker process, after `keep`."""
        return _kept[0].work(job)

    def _cut(self, job: Job) -> Iterator[tuple[int, Image]]:
        """Crop the perturbed frames."""
        video = read_video(job.video)
        footage = perturb_footage(open_footage(video, max_pixels=self.max_pixels), job.condition, seed=job.seed)
        if self.detector is not None:
            cut = find_crops(video, footage, detector=self.detector, spec=self.crop_spec, max_pixels=self.max_pixels)
            yield from ((crop.index, decode_crop(crop.data)) for crop in cut.crops)
            return
        rows = {row.frame_index: row for row in map(read_crop, job.faces) if row.track == 0}
        for frame in footage.read(sorted(rows)):
            row = rows[frame.index]
            x1, y1, x2, y2 = row.box
            points = None if row.landmarks is None else tuple((point[0], point[1]) for point in row.landmarks)
            face = Face((x1, y1, x2, y2), points, row.confidence)
            yield frame.index, crop_as_stored(frame.image, face, self.crop_spec)

    def _perturb_crops(self, job: Job) -> Iterator[tuple[int, Image]]:
        clip: deque[Image] = deque(maxlen=CLIP)
        problems = []
        for face in job.faces:
            index = int(face["frame_index"])
            try:
                clip.append(decode_crop_file(self.root / face["crop"]))
            except MediaError as error:  # the other crops may still be readable
                problems.append(str(error))
                continue
            view = self._view(clip[-1], face["box"], job.video)
            yield index, perturb(list(clip), job.condition, seed=(*job.seed, index), view=view)
        if problems and not clip:
            raise MediaError(f"No crop of '{job.video['video_id']}' can be read:\n{list_problems(problems)}")

    def _view(self, crop: Image, box: Any, video: Mapping[Any, Any]) -> View:
        """Return where in its frame a crop was cut, as far as the tables tell."""
        sides = [float(video.get(key) or 0) for key in ("width", "height")]
        if self.crop_spec.detector == "none" or box is None or not min(sides) > 0:
            return View.of_frame(crop)
        x1, y1, x2, y2 = map(float, box)
        return View(min(sides), self.crop_spec.margin * max(x2 - x1, y2 - y1) / max(crop.shape[:2]))


def perturb_footage(footage: Footage, condition: Condition, *, seed: Sequence[int]) -> Footage:
    """Return a footage whose frames are perturbed as they are read.

    Args:
        footage: Frames of a medium.
        condition: Family and level.
        seed: Seed of the video; the frame's index completes it.
    """
    if condition == CLEAN:
        return footage
    length = FAMILIES[condition.family].num_frames

    def read(wanted: Sequence[int]) -> Iterator[Frame]:
        asked, recent = set(wanted), deque[Frame](maxlen=length)
        before = {place for index in wanted for place in range(max(index - length + 1, 0), index + 1)}
        for frame in footage.read(sorted(before)):
            recent.append(frame)
            if frame.index in asked:
                clip = [each.image for each in recent if each.index > frame.index - length]
                yield replace(frame, image=perturb(clip, condition, seed=(*seed, frame.index)))

    return replace(footage, read=read)


_kept: list[Bench] = []
"""Bench of this worker process, sent only once because a detector with its weights is large."""
