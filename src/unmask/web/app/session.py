"""A visitor's session: the files given, how they are scored, and the results kept."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import streamlit as st

from unmask.errors import MediaError, tell_guest
from unmask.inference.results import UNREADABLE, Prediction
from unmask.media.image import read_still
from unmask.media.kinds import IMAGE_NAMES, IMAGE_SUFFIXES, VIDEO_FORMATS, VIDEO_SUFFIXES, sniff_kind
from unmask.media.video import index_video, read_indexed
from unmask.types import MediaKind
from unmask.web.app.models import MAX_FILES, OF_APP, Model, Settings
from unmask.web.app.views import (
    MAX_FACES,
    FrameView,
    Looked,
    ViewKeeper,
    find_suspect,
    make_view,
    plain,
    printable,
    shorten,
)

_CHUNK = 1 << 20

OnStep = Callable[[int, int], None]
"""Progress callback: frames done, frames in total."""


@dataclass(frozen=True)
class DroppedFile:
    """A file that a visitor dropped, chose, or took with the camera.

    Args:
        key: Unique key, even among files of the same name.
        name: File name on the visitor's machine.
        file: Open file with its bytes.
    """

    key: str
    name: str
    file: BinaryIO


def look_at(model: Model, dropped: DroppedFile, *, max_bytes: int, on_step: OnStep) -> Looked:
    """Score a dropped file; an unreadable one gives a result with an error. No file is left on disk.

    Args:
        model: Model to score it with.
        dropped: Image or video, detected from its content.
        max_bytes: Memory for the frames kept of a video, beside the few that weighed most.
        on_step: Progress callback of a video.

    Raises:
        UnmaskError: A fault outside the file, such as wrong detector weights.
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
    return suffix if suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES else ""


def _write(file: BinaryIO, path: Path) -> tuple[str, int]:
    """Copy a file in chunks, and return its SHA-256 and size."""
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
    return _look_at_image(model, path, name)


def _look_at_image(model: Model, path: Path, name: str) -> tuple[Prediction, tuple[FrameView, ...]]:
    with model.lock:
        limits = model.predictor.limits
        still = read_still(path, name=name, max_pixels=limits.max_pixels, bounds=limits.bounds)
        prediction = model.predictor.predict_image(still.image, name=name)
        seen = prediction.frames[0].faces
        places = sorted(range(len(seen)), key=lambda place: -seen[place].score)[:MAX_FACES]
        faces = [(place, seen[place].face) for place in places]
        view = make_view(still.image, 0, faces, spec=model.predictor.crop_spec)
    notes = (*still.notes, *prediction.notes)  # the still's notes are about the file, not its pixels
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
    """Make views of the key frames and the most suspicious frame, if they were not kept.

    They are known only at the end, when some have been thinned out.
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
        pass  # a damaged file may decode differently the second time; the verdict and the kept frames stand
    return [view for view in views if view.index in found]


FILES, CAMERA = "Files", "Camera"

_KEPT = "kept-files"
"""The last files given on any page: Streamlit clears its widgets when the page changes."""

_FEW = 3


def ask_files(*, page: str) -> list[DroppedFile]:
    """Show the file uploader or the camera, and return the last files given, here or on another page.

    Any file is accepted: images and videos are told apart by content, not by name.

    Args:
        page: Key of the page's widgets.
    """
    source = st.segmented_control(
        "Where from",
        [FILES, CAMERA],
        default=FILES,
        required=True,
        format_func=lambda name: f"{':material/upload_file:' if name == FILES else ':material/photo_camera:'} {name}",
        label_visibility="collapsed",
        key=f"source-{page}",
    )
    key = f"{source}-{page}"
    if source == CAMERA:
        now = st.camera_input("Take a photo of a face", key=key, on_change=_keep, args=(key,))
    else:
        now = st.file_uploader("Images or videos", accept_multiple_files=True, key=key, on_change=_keep, args=(key,))
    kept: list[DroppedFile] = st.session_state.get(_KEPT, [])
    if kept and not now:
        _offer_kept(kept, page=page)
    if not kept:
        limit = f"Up to {st.get_option('server.maxUploadSize')} MB per file; larger ones turn red and are ignored. "
        start = limit if source == FILES else ""
        st.caption(f"{start}Files go to the machine that runs this app, and are deleted when you close the page.")
        if source == FILES:
            st.caption(f"Images: {', '.join(IMAGE_NAMES)}. Videos: {', '.join(VIDEO_FORMATS)}.")
    return kept


def _keep(key: str) -> None:
    given: Any = st.session_state[key]
    files = given if isinstance(given, list) else [given] if given else []
    st.session_state[_KEPT] = [
        DroppedFile(file.file_id, "camera.jpg" if key.startswith(CAMERA) else file.name, file) for file in files
    ]


def _offer_kept(kept: list[DroppedFile], *, page: str) -> None:
    """Name the files that are shown although the uploader is empty."""
    names = ", ".join(plain(shorten(file.name)) for file in kept[:_FEW])
    more = f" and {len(kept) - _FEW} more" if len(kept) > _FEW else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"Still shown: {names}{more}", width="content")
        st.button("Remove", icon=":material/close:", key=f"forget-{page}", on_click=_forget)


def _forget() -> None:
    st.session_state.pop(_KEPT, None)


_RESULTS = "results"

_FILES_AT_ONCE = 4
"""Number of videos whose frames always fit in memory: one takes at most this fraction of it."""


def look_at_all(
    models: Sequence[Model], dropped: Sequence[DroppedFile], *, page: str, settings: Settings
) -> list[list[Looked]]:
    """Score files with each model, showing progress; earlier results come from the session.

    Args:
        models: Models, each of which scores every file.
        dropped: Files, of which the first `MAX_FILES` are scored.
        page: Key of the page, whose results are forgotten once its files are removed.
        settings: Settings with the memory limit for images.

    Returns:
        One list per model.
    """
    if len(dropped) > MAX_FILES:
        st.warning(f"{len(dropped)} files at once are too many: only the first {MAX_FILES} are shown.")
    wanted = [(model, file) for model in models for file in dropped[:MAX_FILES]]
    known = st.session_state.setdefault(f"{_RESULTS}-{page}", {})
    keys = {_key(model, file) for model, file in wanted}
    for stale in known.keys() - keys:
        del known[stale]
    missing = [pair for pair in wanted if _key(*pair) not in known]
    if missing:
        place = st.empty()
        for number, (model, file) in enumerate(missing):
            step = _show_progress(place, file, number=number, total=len(missing))
            max_bytes = settings.image_bytes // _FILES_AT_ONCE
            known[_key(model, file)] = look_at(model, file, max_bytes=max_bytes, on_step=step)
            _drop_images(page, settings.image_bytes)
        place.empty()
    _drop_images(page, settings.image_bytes)  # thumbnails may have been drawn since
    return [[known[_key(model, file)] for file in dropped[:MAX_FILES]] for model in models]


def _key(model: Model, file: DroppedFile) -> tuple[str, float, str]:
    return model.file.path, model.file.stamp, file.key


def _drop_images(page: str, max_bytes: int) -> None:
    """Drop the images of the oldest results beyond a total size; verdicts and scores stay.

    Args:
        page: Current page, whose results count as newer than others; the newest result keeps its images.
        max_bytes: Limit for all pages of the visitor.
    """
    current = f"{_RESULTS}-{page}"
    pages = [str(name) for name in st.session_state if str(name).startswith(f"{_RESULTS}-")]
    pages.sort(key=lambda name: name != current)
    newest_first = [(st.session_state[name], key) for name in pages for key in reversed(st.session_state[name])]
    taken = 0
    for place, (results, key) in enumerate(newest_first):
        taken += results[key].num_image_bytes
        if taken > max_bytes and place > 0:
            results[key] = replace(results[key], views=())


def _show_progress(place: "st.delta_generator.DeltaGenerator", file: DroppedFile, *, number: int, total: int) -> OnStep:
    """Show which file is being scored, and return the callback for its frames."""
    start = f"File {number + 1} of {total}: " if total > 1 else ""
    name = plain(shorten(file.name))
    bar = place.progress(number / total, text=f"{start}{name}")

    def step(done: int, frames: int) -> None:
        share = min(done / max(frames, 1), 1.0)
        bar.progress((number + share) / total, text=f"{start}{name}, frame {done} of {max(frames, done)}")

    return step
