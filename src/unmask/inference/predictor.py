"""The way from a picture or a video to a verdict, for the command line and the app alike."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from unmask.decision import Decision
from unmask.errors import MediaError
from unmask.faces.crop import crop_as_stored, prepare_input
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec, InputSpec
from unmask.faces.track import link_tracks
from unmask.inference.detectors import build_detector
from unmask.inference.inputs import Input
from unmask.inference.results import FaceResult, FaceScore, FrameResult, Prediction
from unmask.media.kinds import sniff_kind
from unmask.media.picture import read_picture
from unmask.media.video import read_frames
from unmask.types import Face, Frame, MediaKind, Picture

MIN_TRACK_SHARE = 0.1
"""A track found in a smaller share of the frames with faces does not decide: a false alarm, or a passer-by."""

FRAMES_AT_ONCE = 8
"""How many decoded frames are held: 50 MB at 1080p."""


@dataclass(frozen=True)
class _Seen:
    """A frame without its pixels: where the faces are, and what the network will see of them."""

    index: int
    time_seconds: float
    faces: tuple[Face, ...]
    inputs: tuple[Picture, ...]


class Predictor:
    """Finds faces, crops them as the model's training data was cropped, scores them and decides.

    Args:
        network: In evaluation mode, on `device`; takes uint8 of shape `(N, 3, size, size)`, returns logits.
        device: A `torch.device`.
        detector: Finds the faces.
        crop_spec: How a face becomes a crop.
        input_spec: How a crop becomes the network's input.
        decision: Threshold and aggregation.
        margin: How much of the way from the threshold to 0, and to 1, is `uncertain`.
        batch_size: Crops scored at once.
        num_frames: Frames looked at per video; None for as many as the model's training data had.
    """

    def __init__(
        self,
        network: Any,
        *,
        device: Any,
        detector: Detector,
        crop_spec: CropSpec,
        input_spec: InputSpec,
        decision: Decision,
        margin: float = 0.0,
        batch_size: int = 32,
        num_frames: int | None = None,
    ) -> None:
        self.network = network
        self.device = device
        self.detector = detector
        self.crop_spec = crop_spec
        self.input_spec = input_spec
        self.decision = decision
        self.margin = margin
        self.batch_size = batch_size
        self.num_frames = num_frames or crop_spec.num_frames

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        threshold: float | None = None,
        margin: float = 0.0,
        batch_size: int = 32,
        num_frames: int | None = None,
        detector_weights: str | None = None,
    ) -> Self:
        """Make a predictor of a checkpoint.

        Args:
            path: Checkpoint that `train.py` wrote.
            device: `auto`, `cpu`, `cuda` ...
            threshold: None for the one in the checkpoint, chosen on the validation split.
            margin: How much of the way from the threshold to 0, and to 1, is `uncertain`.
            batch_size: Crops scored at once.
            num_frames: Frames looked at per video; None for as many as the model's training data had.
            detector_weights: File of the detector's weights; None for those it fetches itself.

        Raises:
            CheckpointError: Absent, damaged or of something else.
            SpecMismatchError: The detector's weights are not those of the model's crops.
        """
        from unmask.models.checkpoint import load_checkpoint
        from unmask.models.scoring import choose_device

        checkpoint = load_checkpoint(path)
        decision = checkpoint.decision
        if threshold is not None:
            decision = replace(decision, threshold=threshold, criterion="given")
        target = choose_device(device)
        return cls(
            checkpoint.build_network().to(target),
            device=target,
            detector=build_detector(checkpoint.crop_spec, device=device, weights=detector_weights),
            crop_spec=checkpoint.crop_spec,
            input_spec=checkpoint.input_spec,
            decision=decision,
            margin=margin,
            batch_size=batch_size,
            num_frames=num_frames,
        )

    def predict_inputs(self, inputs: Iterable[Input]) -> Iterator[Prediction]:
        """Yield a prediction per input; one that cannot be read yields a row with its error, and the rest goes on."""
        for entry in inputs:
            try:
                if entry.error:
                    raise MediaError(entry.error)
                yield self.predict_file(entry.path)
            except MediaError as error:
                yield Prediction(str(entry.path), None, None, None, self.decision.threshold, error=str(error))

    def predict_file(self, path: Path) -> Prediction:
        """Predict a picture or a video, told apart by content.

        Raises:
            MediaError: It can be read as neither.
        """
        return self.predict_video(path) if sniff_kind(path) is MediaKind.VIDEO else self.predict_image(path)

    def predict_image(self, image: str | Path | Picture, *, name: str = "") -> Prediction:
        """Predict a picture.

        Args:
            image: A file, or RGB pixels.
            name: What the pixels are, for the result.
        """
        return self.predict_images([image], names=[name])[0]

    def predict_images(
        self, images: Sequence[str | Path | Picture], *, names: Sequence[str] | None = None
    ) -> list[Prediction]:
        """Predict pictures, their faces scored in common batches.

        Args:
            images: Files, or RGB pixels.
            names: What pixels are, for the results; a file is named by its path.
        """
        seen = [self._look(Frame(_pixels(image), 0, 0.0)) for image in images]
        shown = names if names is not None else [""] * len(images)
        titles = [
            name if isinstance(image, np.ndarray) else str(image) for image, name in zip(images, shown, strict=True)
        ]
        scores = iter(self.score([crop for frame in seen for crop in frame.inputs]))
        return [
            self._conclude(title, MediaKind.PICTURE, [frame], [list(range(len(frame.faces)))], scores)
            for title, frame in zip(titles, seen, strict=True)
        ]

    def predict_video(self, path: str | Path) -> Prediction:
        """Predict a video from frames spread evenly over it.

        Each person's frame scores make one score; the video's is that of the most fake person.

        Args:
            path: A video.

        Raises:
            MediaError: It cannot be read.
        """
        frames = read_frames(Path(path), num_frames=self.num_frames)
        seen = [looked for some in _chunks(frames, FRAMES_AT_ONCE) for looked in self._look_at(some)]
        scores = iter(self.score([crop for frame in seen for crop in frame.inputs]))
        return self._conclude(str(path), MediaKind.VIDEO, seen, link_tracks([frame.faces for frame in seen]), scores)

    def score(self, inputs: Sequence[Picture]) -> list[float]:
        """Score prepared crops.

        Args:
            inputs: Of `prepare_input`, each `(size, size, 3)`.
        """
        import torch

        from unmask.models.scoring import score_crops

        scores: list[float] = []
        for start in range(0, len(inputs), self.batch_size):
            batch = np.stack(inputs[start : start + self.batch_size]).transpose(0, 3, 1, 2)
            images = torch.from_numpy(np.ascontiguousarray(batch))
            scores += score_crops(self.network, images, device=self.device)
        return scores

    def _look(self, frame: Frame) -> _Seen:
        return self._look_at([frame])[0]

    def _look_at(self, frames: Sequence[Frame]) -> list[_Seen]:
        found = self.detector.detect([frame.image for frame in frames])
        return [
            _Seen(
                frame.index,
                frame.time_seconds,
                tuple(faces),
                tuple(prepare_input(self._crop(frame.image, face), self.input_spec) for face in faces),
            )
            for frame, faces in zip(frames, found, strict=True)
        ]

    def _crop(self, image: Picture, face: Face) -> Picture:
        # Pictures that were crops already are indexed where they lie, neither cut nor encoded again.
        return image if self.crop_spec.detector == "none" else crop_as_stored(image, face, self.crop_spec)

    def _conclude(
        self,
        name: str,
        kind: MediaKind,
        seen: Sequence[_Seen],
        tracks: Sequence[Sequence[int]],
        scores: Iterator[float],
    ) -> Prediction:
        frames = [_match(frame, numbers, scores) for frame, numbers in zip(seen, tracks, strict=True)]
        faces = self._sum_up(frames)
        score = max((face.score for face in faces if face.decides), default=None)
        verdict = self.decision.verdict(score, margin=self.margin)
        return Prediction(name, kind, verdict, score, self.decision.threshold, tuple(faces), tuple(frames))

    def _sum_up(self, frames: Sequence[FrameResult]) -> list[FaceResult]:
        """Make one row of each track's faces."""
        tracks: dict[int, list[FaceScore]] = {}
        for frame in frames:
            for face in frame.faces:
                tracks.setdefault(face.track, []).append(face)
        longest = max((len(faces) for faces in tracks.values()), default=0)
        needed = min(MIN_TRACK_SHARE * sum(bool(frame.faces) for frame in frames), longest)
        rows = []
        for number, faces in sorted(tracks.items()):
            clearest = max(faces, key=lambda face: face.confidence)
            score = self.decision.aggregate([face.score for face in faces])
            verdict = self.decision.verdict(score, margin=self.margin)
            decides = len(faces) >= needed
            rows.append(FaceResult(number, clearest.box, clearest.confidence, score, verdict, len(faces), decides))
        return rows


def _pixels(image: str | Path | Picture) -> Picture:
    return image if isinstance(image, np.ndarray) else read_picture(Path(image))


def _match(frame: _Seen, numbers: Sequence[int], scores: Iterator[float]) -> FrameResult:
    faces = tuple(
        FaceScore(number, face.box, face.confidence, next(scores))
        for number, face in zip(numbers, frame.faces, strict=True)
    )
    return FrameResult(frame.index, frame.time_seconds, faces)


def _chunks(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    while some := list(islice(frames, size)):
        yield some
