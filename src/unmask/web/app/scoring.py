"""Score a dropped file with the Predictor, the way that every door takes, and keep small pictures of what was seen."""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from unmask.errors import MediaError, tell_guest
from unmask.inference.results import Prediction
from unmask.inference.words import UNREADABLE
from unmask.media.kinds import PICTURE_SUFFIXES, VIDEO_SUFFIXES, sniff_kind
from unmask.media.picture import read_still
from unmask.media.video import index_video, read_indexed
from unmask.types import MediaKind
from unmask.web.app.loading import Model
from unmask.web.app.settings import OF_APP
from unmask.web.app.text import printable
from unmask.web.app.views import MAX_FACES, FrameView, Looked, ViewKeeper, find_suspect, make_view

_CHUNK = 1 << 20

OnStep = Callable[[int, int], None]
"""Called with the frames done, and those there are to do."""


@dataclass(frozen=True)
class DroppedFile:
    """A file that a visitor dropped on the page, chose, or took with the camera.

    Args:
        key: Tells it from others, even of the same name.
        name: As the visitor's machine calls it.
        file: Its bytes, read from where it stands.
    """

    key: str
    name: str
    file: BinaryIO


def look_at(model: Model, dropped: DroppedFile, *, max_bytes: int, on_step: OnStep) -> Looked:
    """Score a dropped file; one that cannot be read is a result with an error. No file stays behind.

    Args:
        model: Scores it.
        dropped: A picture or a video, told apart by content.
        max_bytes: That the pictures kept of a video may take, beside the few frames that weighed most.
        on_step: Called as a video goes on.

    Raises:
        UnmaskError: Something else than the file is wrong, such as the detector's weights.
    """
    name = printable(Path(dropped.name).name) or "file"
    with tempfile.TemporaryDirectory(prefix="unmask-app-") as folder:
        path = Path(folder) / f"dropped{_suffix(dropped.name)}"
        sha256, num_bytes = _write(dropped.file, path)
        try:
            prediction, views = _look(model, path, name, max_bytes, on_step)
        except MediaError as error:
            threshold = model.predictor.decision.threshold
            views, told = (), tell_guest(error, where=OF_APP)
            known = model.predictor.trained_on
            prediction = Prediction(
                name, None, None, None, threshold, error=told, headline=UNREADABLE, trained_on=tuple(known)
            )
    return Looked(dropped.key, sha256, num_bytes, prediction, views)


def _suffix(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return suffix if suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES else ""


def _write(file: BinaryIO, path: Path) -> tuple[str, int]:
    """Copy a file piece by piece, and return its SHA-256 and size."""
    file.seek(0)
    digest = hashlib.sha256()
    with path.open("wb") as copy:
        while piece := file.read(_CHUNK):
            digest.update(piece)
            copy.write(piece)
        return digest.hexdigest(), copy.tell()


def _look(
    model: Model, path: Path, name: str, max_bytes: int, on_step: OnStep
) -> tuple[Prediction, tuple[FrameView, ...]]:
    if sniff_kind(path, name=name) is MediaKind.VIDEO:
        return _look_at_video(model, path, name, max_bytes, on_step)
    return _look_at_picture(model, path, name)


def _look_at_picture(model: Model, path: Path, name: str) -> tuple[Prediction, tuple[FrameView, ...]]:
    with model.lock:
        limits = model.predictor.limits
        still = read_still(path, name=name, max_pixels=limits.max_pixels, bounds=limits.bounds)
        prediction = model.predictor.predict_image(still.image, name=name)
        seen = prediction.frames[0].faces
        places = sorted(range(len(seen)), key=lambda place: -seen[place].score)[:MAX_FACES]
        faces = [(place, seen[place].face) for place in places]
        view = make_view(still.image, 0, faces, spec=model.predictor.crop_spec)
    notes = (*still.notes, *prediction.notes)  # which pixels alone do not tell
    return replace(prediction, notes=notes), (view,)


def _look_at_video(
    model: Model, path: Path, name: str, max_bytes: int, on_step: OnStep
) -> tuple[Prediction, tuple[FrameView, ...]]:
    keeper, prediction = ViewKeeper(max_bytes=max_bytes), None
    steps = model.predictor.watch_video(path, name=name)
    while True:
        with model.lock:  # for one step, so that others need not wait for the end of a long video
            step = next(steps, None)
            if step is None:
                break
            for frame, found in step.seen:
                faces = list(enumerate(found))[:MAX_FACES]
                keeper.offer(partial(make_view, frame.image, frame.index, faces, spec=model.predictor.crop_spec))
            prediction = step.prediction
        on_step(step.num_done, step.num_frames)
    assert prediction is not None
    weighty = _look_again(model, path, prediction, kept={view.index for view in keeper.views})
    return prediction, tuple(sorted([*keeper.views, *weighty], key=lambda view: view.index))


def _look_again(model: Model, path: Path, prediction: Prediction, *, kept: set[int]) -> list[FrameView]:
    """Keep the frames that weighed most and the most suspicious one too.

    Which they are is known only at the end, when some are thinned out.
    """
    suspect = find_suspect(prediction, (frame.index for frame in prediction.frames))
    wanted = sorted({*prediction.key_frames, *([] if suspect is None else [suspect])} - kept)
    if not wanted:
        return []
    found = {frame.index: frame.faces for frame in prediction.frames}
    views = []
    try:
        index = index_video(path, name=prediction.path, max_pixels=model.predictor.limits.max_pixels)
        for frame in read_indexed(index, wanted):
            faces = [(place, seen.face) for place, seen in enumerate(found.get(frame.index, ()))][:MAX_FACES]
            views.append(make_view(frame.image, frame.index, faces, spec=model.predictor.crop_spec))
    except MediaError:
        pass  # a damaged file may decode otherwise from here; the verdict stands, with the frames that are kept
    return [view for view in views if view.index in found]
