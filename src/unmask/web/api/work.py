"""What a worker process does: load the predictor once, then score what it is given. No PyTorch for a bundle."""

import base64
import contextlib
import signal
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from unmask.errors import MediaError, tell_guest
from unmask.faces.crop import cut_shown
from unmask.faces.spec import CropSpec
from unmask.inference.heatmap import draw_heat
from unmask.inference.predictor import Predictor
from unmask.inference.results import FaceScore, Prediction
from unmask.media.kinds import IMAGE_NAMES, VIDEO_FORMATS, is_text, sniff_kind
from unmask.media.picture import encode_jpeg, read_picture, write_bytes
from unmask.media.video import index_video, read_indexed
from unmask.processes import end_with_parent
from unmask.types import MediaKind, Picture
from unmask.web.api.jobs import JobStore
from unmask.web.api.log import log_as_json
from unmask.web.api.settings import OF_SERVICE, ModelSettings

_QUALITY = 90
_SECONDS_BETWEEN_NOTES = 0.5


@cache
def open_predictor(settings: ModelSettings) -> Predictor:
    """Load the model once a process."""
    # One thread: as many processes as cores share them better than threads that wait for each other.
    return settings.predictor.load(settings.path, num_threads=1)


def start_worker(settings: ModelSettings) -> None:
    """Make a process ready; signals of a terminal are for the process that serves."""
    log_as_json()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    with contextlib.suppress(Exception):  # raised again, to whoever asks, by the first call
        open_predictor(settings)


def say_ready(settings: ModelSettings) -> None:
    """Load the model, if it is not: what a service asks before it takes requests.

    Raises:
        UnmaskError: It cannot be loaded.
    """
    open_predictor(settings)


def predict_pictures(settings: ModelSettings, files: list[tuple[str, str]], *, heatmaps: bool) -> list[dict[str, Any]]:
    """Score pictures; one that cannot be read gets its error, and the rest goes on.

    Args:
        settings: Of the model.
        files: Path and name of each.
        heatmaps: Whether each face comes with its crop and the colours to lay over it, as data URIs.

    Returns:
        Of each `unmask.web.api.schemas.PictureResult` or `FileError`, as plain values.
    """
    predictor = open_predictor(settings)
    return [_predict_picture(predictor, Path(path), name, heatmaps=heatmaps) for path, name in files]


def _predict_picture(predictor: Predictor, path: Path, name: str, *, heatmaps: bool) -> dict[str, Any]:
    try:
        if sniff_kind(path, name=name) is MediaKind.VIDEO:
            if is_text(path):
                known = f"Images: {', '.join(IMAGE_NAMES)}; videos, at POST /v1/videos: {', '.join(VIDEO_FORMATS)}."
                raise MediaError(f"'{name}' is neither an image nor a video, but text. {known}")
            raise MediaError(f"'{name}' is no picture. If it is a video, send it to POST /v1/videos.")
        prediction = predictor.predict_image(path, name=name)
    except MediaError as error:
        return {"name": name, "code": "unreadable_file", "error": tell_guest(error, where=OF_SERVICE)}
    result = _describe(prediction)
    for key in ("frames", "suspicious", "key_frames"):
        del result[key]
    for row, face in zip(result["faces"], prediction.frames[0].faces, strict=True):
        row["landmarks"] = face.landmarks
    if heatmaps and prediction.frames[0].faces:
        image = read_picture(path, max_pixels=predictor.limits.max_pixels, bounds=None)
        for row, face in zip(result["faces"], prediction.frames[0].faces, strict=True):
            row |= {key: _as_uri(data) for key, data in _draw(image, face, predictor.crop_spec).items()}
    return result


def _describe(prediction: Prediction) -> dict[str, Any]:
    values = prediction.to_dict()
    values["name"] = values.pop("path")
    del values["error"]
    return values


def _draw(image: Picture, face: FaceScore, spec: CropSpec) -> dict[str, bytes]:
    """Return JPEGs of a face's crop, and of the colours of its map, which go over it as strongly as one likes."""
    crop = cut_shown(image, face.face, spec)
    drawn = {"crop": encode_jpeg(crop, quality=_QUALITY)}
    if face.activation_map is not None:
        drawn["heatmap"] = encode_jpeg(draw_heat(crop, face.activation_map, opacity=1.0), quality=_QUALITY)
    return drawn


def _as_uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def predict_job(settings: ModelSettings, store: JobStore, job_id: str, name: str) -> dict[str, Any]:
    """Score the video of a job, note its progress, and draw the frames that weighed most.

    Args:
        settings: Of the model.
        store: Of the jobs.
        job_id: Of the job.
        name: Of the file.

    Returns:
        `unmask.web.api.schemas.VideoResult` as plain values.

    Raises:
        MediaError: It cannot be read.
    """
    predictor = open_predictor(settings)
    path = store.upload_of(job_id)
    if sniff_kind(path, name=name) is not MediaKind.VIDEO:
        raise MediaError(f"'{name}' is a picture. Send it to POST /v1/images.")
    prediction, noted = None, 0.0
    for progress in predictor.watch_video(path, name=name):
        prediction = progress.prediction
        if time.monotonic() - noted > _SECONDS_BETWEEN_NOTES:
            store.note_progress(job_id, done=progress.num_done, total=progress.num_frames)
            noted = time.monotonic()
    assert prediction is not None
    drawings: list[dict[str, Any]] = []
    with contextlib.suppress(MediaError):  # a damaged file may decode otherwise the second time; the verdict stands
        drawings.extend(_draw_frames(predictor, prediction, store, job_id))
    return _describe(prediction) | {"heatmaps": drawings}


def _draw_frames(
    predictor: Predictor, prediction: Prediction, store: JobStore, job_id: str
) -> Iterator[dict[str, Any]]:
    """Draw the faces of the frames that weighed most; yield where each drawing is found."""
    seen = {frame.index: frame.faces for frame in prediction.frames}
    index = index_video(store.upload_of(job_id), max_pixels=predictor.limits.max_pixels)
    for frame in read_indexed(index, sorted(prediction.key_frames)):
        for face in seen[frame.index]:
            stem = f"{frame.index:06d}_{face.track}"
            entry: dict[str, Any] = {"frame": frame.index, "time_seconds": frame.time_seconds, "track": face.track}
            for kind, data in _draw(frame.image, face, predictor.crop_spec).items():
                write_bytes(store.drawings_of(job_id) / f"{kind}_{stem}.jpg", data)
                entry[kind] = f"/v1/jobs/{job_id}/heatmaps/{kind}_{stem}.jpg"
            yield entry
