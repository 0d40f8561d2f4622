"""Predict images and videos: detect faces, crop, score, decide; for the command line, the API and the app."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from unmask.decision import Decision
from unmask.errors import ConfigError, MediaError
from unmask.faces.detector import Detector, build_detector
from unmask.faces.spec import CropSpec, InputSpec
from unmask.forgeries import SourceRecord, read_trained_on
from unmask.inference.backend import Backend, CropScorer, Scorer, load_model
from unmask.inference.deciding import Deciding, conclude, number_tracks
from unmask.inference.limits import Input, Limits, take_image
from unmask.inference.results import UNREADABLE, FrameResult, Prediction, Progress
from unmask.inference.scene import Examination, SceneCheck, take_faces
from unmask.media.kinds import sniff_kind
from unmask.types import Face, Frame, Image, MediaKind


class Predictor:
    """Finds faces, crops them as the model's training data was cropped, scores them and decides.

    Args:
        backend: Runs the network.
        detector: Finds the faces.
        crop_spec: Crop spec.
        input_spec: Input spec of the network.
        decision: Threshold and aggregation.
        margin: Fraction of the way from the threshold to 0, and to 1, that is `uncertain`; None for the decision's.
        batch_size: Crops scored at once.
        num_frames: Frames examined per video; None for as many as the model's training data had.
        every_n: Stride in frames; replaces `num_frames`.
        limits: Limits of one file.
        deciding: Rule for which of several faces decides.
        trained_on: Sources of the network's training data; they decide whether a verdict carries a warning.

    Raises:
        ConfigError: `every_n`, `num_frames` or `batch_size` is less than 1, or `margin` outside [0, 1].
    """

    def __init__(
        self,
        backend: Backend,
        *,
        detector: Detector,
        crop_spec: CropSpec,
        input_spec: InputSpec,
        decision: Decision,
        margin: float | None = None,
        batch_size: int = 32,
        num_frames: int | None = None,
        every_n: int | None = None,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        deciding: Deciding = Deciding(),  # noqa: B008 (frozen)
        trained_on: Sequence[SourceRecord] = (),
    ) -> None:
        if every_n is not None and every_n < 1:
            raise ConfigError(f"every_n={every_n} must be a stride of at least 1.")
        for key, number in (("num_frames", num_frames), ("batch_size", batch_size)):
            if number is not None and number < 1:
                raise ConfigError(f"{key}={number} must be at least 1.")
        if margin is not None and not 0 <= margin <= 1:
            raise ConfigError(f"margin={margin} must be a number from 0 to 1.")
        self.backend = backend
        self.detector = detector
        self.crop_spec = crop_spec
        self.input_spec = input_spec
        self.decision = decision
        self.margin = decision.margin if margin is None else margin
        self.batch_size = batch_size
        self.num_frames = num_frames or crop_spec.num_frames
        self.every_n = every_n
        self.limits = limits
        self.deciding = deciding
        self.trained_on = tuple(trained_on)
        self.scene_check = SceneCheck() if crop_spec.detector == "none" else None

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        threshold: float | None = None,
        margin: float | None = None,
        batch_size: int = 32,
        num_frames: int | None = None,
        every_n: int | None = None,
        detector_weights: str | None = None,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        deciding: Deciding = Deciding(),  # noqa: B008 (frozen)
        num_threads: int | None = None,
        maps: bool = True,
        trusted_modules: Sequence[str] = (),
    ) -> Self:
        """Load a bundle, which runs without PyTorch, or a checkpoint.

        Args:
            path: Folder of a bundle, or a checkpoint; `train.py` wrote both. `unmask.fetch_model` returns the path of
                one that MLflow has.
            device: `auto`, `cpu`, `cuda` ...
            threshold: None for the one in the checkpoint, chosen on the validation split.
            margin: Fraction of the way from the threshold to 0, and to 1, that is `uncertain`; None for the decision's.
            batch_size: Crops scored at once.
            num_frames: Frames examined per video; None for as many as the model's training data had.
            every_n: Stride in frames; replaces `num_frames`.
            detector_weights: File of the detector's weights; None for those it fetches itself.
            limits: Limits of one file.
            deciding: Rule for which of several faces decides.
            num_threads: Threads of ONNX Runtime on the CPU; None for one per core.
            maps: False leaves out the activation maps that cost more than the score, which are those by Grad-CAM.
            trusted_modules: Packages whose networks and detectors may be built from the file; see `unmask.trust`.

        Raises:
            CheckpointError: Absent, damaged or of something else; a BundleError where it is a bundle.
            UntrustedError: The file names a network or detector of a package that is not trusted.
            SpecMismatchError: The detector's weights are not those of the model's crops.
        """
        stored, backend = load_model(
            path, device=device, num_threads=num_threads, maps=maps, trusted_modules=trusted_modules
        )
        decision = stored.decision
        if threshold is not None:
            decision = replace(decision, threshold=threshold, criterion="given")
        return cls(
            backend,
            detector=build_detector(
                stored.crop_spec,
                file=stored.path,
                device=device,
                weights=detector_weights,
                trusted_modules=trusted_modules,
            ),
            crop_spec=stored.crop_spec,
            input_spec=stored.input_spec,
            decision=decision,
            margin=margin,
            batch_size=batch_size,
            num_frames=num_frames,
            every_n=every_n,
            limits=limits,
            deciding=deciding,
            trained_on=read_trained_on(stored.provenance),
        )

    def predict_file(self, path: Path, *, name: str | None = None) -> Prediction:
        """Predict an image or a video, told apart by content; see `watch_file`."""
        return _wait(self.watch_file(path, name=name))

    def watch_file(self, path: Path, *, name: str | None = None) -> Iterator[Progress]:
        """Predict an image or a video and yield its progress; the last step holds the prediction.

        Args:
            path: File path.
            name: Name in results and messages; None for the path.

        Raises:
            MediaError: It is neither an image nor a video, or is damaged.
        """
        if sniff_kind(path, name=name) is MediaKind.VIDEO:
            yield from self.watch_video(path, name=name)
        else:
            yield Progress(1, 1, self.predict_images([path], names=None if name is None else [name])[0])

    def predict_image(self, image: str | Path | Image, *, name: str = "") -> Prediction:
        """Predict an image.

        Args:
            image: A file, or RGB pixels.
            name: Name in results and messages; empty for the path of a file.
        """
        return self.predict_images([image], names=[name])[0]

    def predict_images(
        self,
        images: Sequence[str | Path | Image],
        *,
        names: Sequence[str] | None = None,
        faces: Sequence[Sequence[Face]] | None = None,
    ) -> list[Prediction]:
        """Predict images, their faces scored in common batches.

        Args:
            images: Files, or RGB pixels.
            names: Names in results and messages; empty ones for the paths of files.
            faces: Known faces of each image; None detects them.

        Raises:
            MediaError: A file is not an image or is damaged; `watch_inputs` skips such files.
        """
        titles = [
            name or ("" if isinstance(image, np.ndarray) else str(image))
            for image, name in zip(images, names if names is not None else [""] * len(images), strict=True)
        ]
        notes = []
        with self._start_scorer() as scorer:
            for position, (image, title) in enumerate(zip(images, titles, strict=True)):
                still = take_image(image, name=title, limits=self.limits)
                found = self.detector.detect([still.image])[0] if faces is None else faces[position]
                kept, more = take_faces(
                    still.image, found,
                    spec=self.crop_spec, max_faces=self.limits.max_faces, scene_check=self.scene_check,
                )  # fmt: skip
                scorer.add(Frame(still.image, 0, 0.0), kept)
                notes.append([*still.notes, *more])
            frames = scorer.finish()
        return [
            self._conclude(title, MediaKind.IMAGE, [frame], notes=some)
            for title, frame, some in zip(titles, frames, notes, strict=True)
        ]

    def predict_video(self, path: str | Path, *, name: str | None = None) -> Prediction:
        """Predict a video from frames spread evenly over it, or from every n-th, and more where those show no face.

        The frame scores of each person are aggregated; the score of the video is the highest of the deciding persons.

        Args:
            path: A video.
            name: Name in results and messages; None for the path.

        Raises:
            MediaError: It cannot be read, or is over a limit.
        """
        return _wait(self.watch_video(path, name=name))

    def watch_video(self, path: str | Path, *, name: str | None = None) -> Iterator[Progress]:
        """Predict a video and yield its progress; the last step holds the prediction.

        Memory does not grow with the video, except for the results: a few frames and three batches of crops.

        Args:
            path: A video.
            name: Name in results and messages; None for the path.

        Raises:
            MediaError: It cannot be read, or is over a limit.
        """
        examined = Examination.open(
            Path(path),
            name=name,
            num_frames=self.num_frames,
            every_n=self.every_n,
            spec=self.crop_spec,
            limits=self.limits,
            scene_check=self.scene_check,
        )
        with self._start_scorer() as scorer:
            for batch in examined.search(self.detector):
                found = examined.take(batch)
                for frame, faces in zip(batch.frames, found, strict=True):
                    scorer.add(frame, faces)
                seen = tuple(zip(batch.frames, map(tuple, found), strict=True))
                yield Progress(examined.num_done, examined.num_planned, seen=seen)
            frames = sorted(scorer.finish(), key=lambda frame: frame.index)
        people, notes = number_tracks(frames, looks=examined.list_looks(frames)), examined.list_notes(frames)
        prediction = self._conclude(examined.name, MediaKind.VIDEO, people, notes=notes, num_frames=examined.num_frames)
        yield Progress(examined.num_done, examined.num_planned, prediction)

    def _start_scorer(self) -> Scorer:
        return CropScorer(self.backend, self.crop_spec, self.input_spec, batch_size=self.batch_size).start()

    def _conclude(
        self, name: str, kind: MediaKind, frames: Sequence[FrameResult], *, notes: Sequence[str], num_frames: int = 1
    ) -> Prediction:
        return conclude(
            name, kind, frames, decision=self.decision, deciding=self.deciding, margin=self.margin,
            notes=notes, num_frames=num_frames, trained_on=self.trained_on,
            subject=str(kind) if self.crop_spec.detector == "whole" else "face",
        )  # fmt: skip


def _wait(steps: Iterable[Progress]) -> Prediction:
    last = deque(steps, maxlen=1).pop()  # the others hold frames
    assert last.prediction is not None
    return last.prediction


@dataclass(frozen=True)
class PredictorSettings:
    """Keyword arguments of `Predictor.load`, for a model that is loaded later or in another process.

    Args:
        device: `auto`, `cpu`, `cuda` ...
        threshold: None for the one in the checkpoint, chosen on the validation split.
        margin: Fraction of the way from the threshold to 0, and to 1, that is `uncertain`; None for the decision's.
        batch_size: Crops scored at once.
        num_frames: Frames examined per video; None for as many as the model's training data had.
        every_n: Stride in frames; replaces `num_frames`.
        detector_weights: File of the detector's weights; None for those it fetches itself.
        trusted_modules: Packages whose networks and detectors may be built from the file; see `unmask.trust`.
        limits: Limits of one file.
        deciding: Rule for which of several faces decides.
    """

    device: str = "auto"
    threshold: float | None = None
    margin: float | None = None
    batch_size: int = 32
    num_frames: int | None = None
    every_n: int | None = None
    detector_weights: str | None = None
    trusted_modules: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    deciding: Deciding = field(default_factory=Deciding)

    @classmethod
    def from_config(cls, cfg: Mapping[Any, Any]) -> Self:
        """Select the keys of this class from a configuration.

        Raises:
            ConfigError: A limit is not above 0, or `deciding` is invalid.
        """
        values = {name: cfg[name] for name in cls.__dataclass_fields__ if name not in ("limits", "deciding")}
        values["trusted_modules"] = tuple(values["trusted_modules"])
        return cls(**values, limits=Limits(**cfg["limits"]), deciding=Deciding(**cfg["deciding"]))

    def load(self, path: str | Path, *, num_threads: int | None = None, maps: bool = True) -> "Predictor":
        """Load a model; see `Predictor.load`."""

        return Predictor.load(path, num_threads=num_threads, maps=maps, **vars(self))


def watch_inputs(predictor: Predictor, inputs: Iterable[Input]) -> Iterator[Progress]:
    """Predict inputs one after another and yield their progress; the last step of each holds its prediction.

    An input that cannot be read gives a prediction with an error, and the next one follows.

    Args:
        predictor: Predictor.
        inputs: Files, and names without a file.
    """
    for entry in inputs:
        try:
            if entry.error:
                raise MediaError(entry.error)
            yield from predictor.watch_file(entry.path)
        except MediaError as error:
            threshold = predictor.decision.threshold
            yield Progress(
                1, 1, Prediction(str(entry.path), None, None, None, threshold, error=str(error), headline=UNREADABLE)
            )
