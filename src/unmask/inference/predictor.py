"""The way from a picture or a video to a verdict, for the command line, the API and the app alike."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np

from unmask.decision import Decision
from unmask.errors import ConfigError, MediaError
from unmask.faces.crop import crop_as_stored, prepare_input
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec, InputSpec
from unmask.faces.track import link_tracks
from unmask.inference.backend import Backend, OnnxBackend, TorchBackend
from unmask.inference.bundle import Bundle, is_bundle, load_bundle
from unmask.inference.detectors import build_detector
from unmask.inference.inputs import Input
from unmask.inference.results import FrameResult, Prediction, Progress
from unmask.inference.scorer import Scorer
from unmask.inference.summary import find_key_frames, find_ranges, sum_up
from unmask.media.kinds import sniff_kind
from unmask.media.picture import read_picture
from unmask.media.video import choose_frames, probe_video, read_frames
from unmask.models.checkpoint import Checkpoint, load_checkpoint
from unmask.types import Array, Face, Frame, MediaKind, Picture

FRAMES_AT_ONCE = 8
"""How many decoded frames are held: 50 MB at 1080p."""


class Predictor:
    """Finds faces, crops them as the model's training data was cropped, scores them and decides.

    Args:
        backend: Runs the network.
        detector: Finds the faces.
        crop_spec: How a face becomes a crop.
        input_spec: How a crop becomes the network's input.
        decision: Threshold and aggregation.
        margin: How much of the way from the threshold to 0, and to 1, is `uncertain`.
        batch_size: Crops scored at once.
        num_frames: Frames looked at per video; None for as many as the model's training data had.
        every_n: Looks at every n-th frame of a video instead.

    Raises:
        ConfigError: `every_n` is less than 1.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        detector: Detector,
        crop_spec: CropSpec,
        input_spec: InputSpec,
        decision: Decision,
        margin: float = 0.0,
        batch_size: int = 32,
        num_frames: int | None = None,
        every_n: int | None = None,
    ) -> None:
        if every_n is not None and every_n < 1:
            raise ConfigError(f"every_n={every_n} is no step from frame to frame. Give 1 or more.")
        self.backend = backend
        self.detector = detector
        self.crop_spec = crop_spec
        self.input_spec = input_spec
        self.decision = decision
        self.margin = margin
        self.batch_size = batch_size
        self.num_frames = num_frames or crop_spec.num_frames
        self.every_n = every_n

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
        every_n: int | None = None,
        detector_weights: str | None = None,
    ) -> Self:
        """Make a predictor of a bundle, which runs without PyTorch, or of a checkpoint.

        Args:
            path: Folder of a bundle, or a checkpoint; `train.py` wrote both.
            device: `auto`, `cpu`, `cuda` ...
            threshold: None for the one in the checkpoint, chosen on the validation split.
            margin: How much of the way from the threshold to 0, and to 1, is `uncertain`.
            batch_size: Crops scored at once.
            num_frames: Frames looked at per video; None for as many as the model's training data had.
            every_n: Looks at every n-th frame of a video instead.
            detector_weights: File of the detector's weights; None for those it fetches itself.

        Raises:
            CheckpointError: Absent, damaged or of something else; a BundleError where it is a bundle.
            SpecMismatchError: The detector's weights are not those of the model's crops.
        """
        stored, backend = _load_bundle(path, device) if is_bundle(path) else _load_checkpoint(path, device)
        decision = stored.decision
        if threshold is not None:
            decision = replace(decision, threshold=threshold, criterion="given")
        return cls(
            backend,
            detector=build_detector(stored.crop_spec, device=device, weights=detector_weights),
            crop_spec=stored.crop_spec,
            input_spec=stored.input_spec,
            decision=decision,
            margin=margin,
            batch_size=batch_size,
            num_frames=num_frames,
            every_n=every_n,
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
        self,
        images: Sequence[str | Path | Picture],
        *,
        names: Sequence[str] | None = None,
        faces: Sequence[Sequence[Face]] | None = None,
    ) -> list[Prediction]:
        """Predict pictures, their faces scored in common batches.

        Args:
            images: Files, or RGB pixels.
            names: What pixels are, for the results; a file is named by its path.
            faces: Of each picture, where they are known; none are looked for then.
        """
        scorer = Scorer(self.prepare, self.score, batch_size=self.batch_size)
        for position, image in enumerate(images):
            frame = Frame(_pixels(image), 0, 0.0)
            found = self.detector.detect([frame.image]) if faces is None else [faces[position]]
            scorer.add(frame, found[0])
        shown = names if names is not None else [""] * len(images)
        titles = [
            name if isinstance(image, np.ndarray) else str(image) for image, name in zip(images, shown, strict=True)
        ]
        return [
            self._conclude(title, MediaKind.PICTURE, [frame])
            for title, frame in zip(titles, scorer.finish(), strict=True)
        ]

    def predict_video(self, path: str | Path) -> Prediction:
        """Predict a video from frames spread evenly over it, or from every n-th.

        Each person's frame scores make one score; the video's is that of the most fake person.

        Args:
            path: A video.

        Raises:
            MediaError: It cannot be read.
        """
        prediction = None
        for progress in self.watch_video(path):
            prediction = progress.prediction
        assert prediction is not None
        return prediction

    def watch_video(self, path: str | Path) -> Iterator[Progress]:
        """Predict a video and say how far it is; the last step holds the prediction.

        What is held does not grow with the video but for the results: a few frames, and one batch of crops.

        Args:
            path: A video.

        Raises:
            MediaError: It cannot be read.
        """
        path = Path(path)
        total = probe_video(path).num_frames
        total = len(choose_frames(total, num_frames=self.num_frames, every_n=self.every_n))
        frames = read_frames(path, num_frames=self.num_frames, every_n=self.every_n)
        scorer, done = Scorer(self.prepare, self.score, batch_size=self.batch_size), 0
        while some := list(islice(frames, FRAMES_AT_ONCE)):
            for frame, faces in zip(some, self.detector.detect([frame.image for frame in some]), strict=True):
                scorer.add(frame, faces)
            done += len(some)
            yield Progress(done, total)
        seen = scorer.finish()
        tracks = link_tracks([[face.face for face in frame.faces] for frame in seen])
        prediction = self._conclude(
            str(path), MediaKind.VIDEO, [_number(*pair) for pair in zip(seen, tracks, strict=True)]
        )
        yield Progress(done, total, prediction)

    def score(self, inputs: Sequence[Picture]) -> list[tuple[float, Array | None]]:
        """Score prepared crops.

        Args:
            inputs: Of `prepare_input`, each `(size, size, 3)`.

        Returns:
            Of each crop P(fake), and its activation map.
        """
        scores: list[tuple[float, Array | None]] = []
        for start in range(0, len(inputs), self.batch_size):
            batch = np.stack(inputs[start : start + self.batch_size]).transpose(0, 3, 1, 2)
            scored = self.backend.score(np.ascontiguousarray(batch))
            maps = scored.activation_maps
            scores += [
                (float(score), None if maps is None else maps[position].copy())
                for position, score in enumerate(scored.scores)
            ]
        return scores

    def prepare(self, image: Picture, face: Face) -> Picture:
        """Return what the network sees of a face.

        Args:
            image: The frame.
            face: A detection in it.
        """
        # Pictures that were crops already are indexed where they lie, neither cut nor encoded again.
        crop = image if self.crop_spec.detector == "none" else crop_as_stored(image, face, self.crop_spec)
        return prepare_input(crop, self.input_spec)

    def _conclude(self, name: str, kind: MediaKind, frames: Sequence[FrameResult]) -> Prediction:
        threshold = self.decision.threshold
        faces = sum_up(frames, decision=self.decision, margin=self.margin)
        score = max((face.score for face in faces if face.decides), default=None)
        verdict = self.decision.verdict(score, margin=self.margin)
        is_video = kind is MediaKind.VIDEO
        return Prediction(
            name,
            kind,
            verdict,
            score,
            threshold,
            tuple(faces),
            tuple(frames),
            suspicious=find_ranges(frames, faces, threshold=threshold) if is_video else (),
            key_frames=find_key_frames(frames, faces, threshold=threshold) if is_video else (),
        )


def _load_bundle(path: str | Path, device: str) -> tuple[Bundle, Backend]:
    bundle = load_bundle(path)
    return bundle, OnnxBackend(bundle.model, device=device)


def _load_checkpoint(path: str | Path, device: str) -> tuple[Checkpoint, Backend]:
    from unmask.models.scoring import choose_device

    checkpoint = load_checkpoint(path)
    target = choose_device(device)
    return checkpoint, TorchBackend(checkpoint.build_network().to(target), device=target)


def _number(frame: FrameResult, tracks: Sequence[int]) -> FrameResult:
    return replace(
        frame, faces=tuple(replace(face, track=track) for face, track in zip(frame.faces, tracks, strict=True))
    )


def _pixels(image: str | Path | Picture) -> Picture:
    return image if isinstance(image, np.ndarray) else read_picture(Path(image))
