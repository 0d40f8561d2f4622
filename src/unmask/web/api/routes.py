"""The routes under /v1 and the schemas of their answers."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from unmask.web.api.jobs import Job
from unmask.web.api.responses import Problem, describe, place_routes
from unmask.web.api.service import Service
from unmask.web.api.settings import hash_key, is_known
from unmask.web.api.shares import name_address
from unmask.web.api.uploads import FIELD, refuse, take_files

Box = tuple[float, float, float, float]
Verdict = Literal["real", "fake", "uncertain", "no_face"]


class Face(BaseModel):
    """A face of an image, or a person of a video."""

    track: int = Field(description="Number from 0; pages and messages count from 1")
    box: Box = Field(description="x1, y1, x2, y2 in pixels; in a video, where the detector is most confident")
    confidence: float = Field(description="Confidence of the face detector")
    score: float = Field(description="P(fake) from the network, from 0 to 1")
    verdict: Verdict
    num_frames: int
    decides: bool = Field(description="Whether it counts towards the verdict of the file")
    landmarks: list[tuple[float, float]] | None = Field(
        None, description="Of a face in an image, in pixels: eyes, nose, corners of the mouth"
    )
    crop: str | None = Field(None, description="Crop that the network saw, a JPEG as data URI")
    heatmap: str | None = Field(None, description="Heat map to blend over the crop, red for fake; a JPEG as data URI")


class Source(BaseModel):
    """A source of the model's training data."""

    name: str
    forgeries: Literal["drawn", "self_made", "external", "unknown"] = Field(
        description="Origin of its fakes: made by Unmask from drawn or from real faces, external, or unknown"
    )


class Judged(BaseModel):
    """Result of a file."""

    name: str
    kind: Literal["image", "video"]
    verdict: Verdict = Field(
        description="Verdict of the score, but uncertain if it says real and a deciding face looks fake for a while"
    )
    headline: str = Field("", description="The verdict and its basis in one line of plain English")
    reason: str = Field("", description="How the verdict was reached, in sentences with numbers")
    score: float | None = Field(description="Score of the most suspicious face; null without a face")
    probability: float | None = Field(
        description="P(fake) calibrated on the validation split for equally frequent classes; null without calibration"
    )
    threshold: float = Field(description="Scores at or above it are fake")
    faces: list[Face]
    num_examined: int = Field(0, description="Frames that were decoded and searched for faces; 1 for an image")
    num_frames: int = Field(0, description="Frames in the file; 1 for an image")
    notes: list[str] = Field(description="What was left out, and reasons to distrust the score")
    trained_on: list[Source] = Field([], description="Training data of the model")
    warning: str | None = Field(None, description="Why this model's verdicts are unreliable, by `trained_on`")


class ImageResult(Judged):
    """Result of an image."""


class FileError(BaseModel):
    """Why a file has no result."""

    name: str
    code: str
    error: str


class Images(BaseModel):
    """One row per file, in the order of the request."""

    results: list[ImageResult | FileError]


class SeenFace(BaseModel):
    """A face in one frame."""

    track: int
    box: Box
    confidence: float
    score: float
    verdict: Verdict | None = Field(None, description="Verdict of this score alone")


class Frame(BaseModel):
    """An examined frame."""

    index: int
    time_seconds: float
    faces: list[SeenFace]


class Stretch(BaseModel):
    """A stretch that looks fake."""

    start_seconds: float
    end_seconds: float
    score: float


class Drawing(BaseModel):
    """URLs of the crop and heat map of a face in one frame."""

    frame: int
    time_seconds: float
    track: int
    crop: str
    heatmap: str | None = None


class VideoResult(Judged):
    """Result of a video."""

    frames: list[Frame]
    suspicious: list[Stretch]
    key_frames: list[int] = Field(description="Indices of the frames that weighed most, in descending order")
    heatmaps: list[Drawing]


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    detail: str


class JobProgress(BaseModel):
    """Progress of a job."""

    done: int = Field(description="Frames examined")
    total: int = Field(description="Frames to examine; 0 while unknown, and growing if too few of them show a face")


class JobStatus(BaseModel):
    """State of a job."""

    id: str
    name: str
    state: Literal["queued", "running", "done", "failed"]
    created: float = Field(description="Seconds since 1970")
    finished: float | None
    expires: float | None = Field(description="When it and its files are deleted; null until it has finished")
    progress: JobProgress
    result: VideoResult | None
    error: JobError | None


class Formats(BaseModel):
    """Accepted file formats, which are detected from the content, not the name."""

    images: list[str]
    videos: list[str]
    video_suffixes: list[str] = Field(description="Suffixes by which a client may tell videos from images")


class Model(BaseModel):
    """The model and the limits of the service."""

    name: str = Field(description="Name of the network")
    title: str = Field(description="Human-readable name: run, network and training data")
    run_name: str | None
    version: str
    trained_on: list[Source]
    warning: str | None = Field(description="Why its verdicts are unreliable; null if no reason is known")
    formats: Formats
    decision: dict[str, Any]
    preprocessing: dict[str, Any]
    provenance: dict[str, Any]
    limits: dict[str, Any]


class Health(BaseModel):
    """State of the service."""

    status: Literal["ok"]


JobId = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{32}$")]
_DRAWING = re.compile(r"(crop|heatmap)_\d{1,12}_\d{1,6}\.jpg")
_RETRY = {"Retry-After": "5"}


def find_service(request: Request) -> Service:
    """Return the service of a request's application."""
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(find_service)]


def _read_key(request: Request) -> str:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return (given if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")).strip()


def check_key(request: Request, service: Here) -> None:
    """Refuse a request without a known key, if keys are configured."""
    hashes = service.settings.api_keys
    if hashes and not is_known(_read_key(request), hashes):
        detail = "This service requires a valid key: Authorization: Bearer <key>, or X-API-Key: <key>."
        raise Problem(401, "unknown_key", detail, headers={"WWW-Authenticate": "Bearer"})


def name_client(request: Request, service: Here) -> str:
    """Return the share key of a client: the API key if keys are configured, else the address."""
    if service.settings.api_keys:
        return hash_key(_read_key(request))
    return name_address(request.client.host if request.client else "")


Client = Annotated[str, Depends(name_client)]

router = APIRouter(prefix="/v1", dependencies=[Depends(check_key)], responses=describe(401, 422))


def _describe_body(what: str) -> dict[str, Any]:
    """Describe the files of a request; `unmask.web.api.app` adds their maximum number."""
    file = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1, "description": what}
    schema = {"type": "object", "properties": {FIELD: files}, "required": [FIELD], "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@router.post(
    "/images",
    response_model=Images,
    response_model_exclude_unset=True,
    responses=describe(400, 408, 413, 415, 429, 503, 507),
    openapi_extra=_describe_body("Images"),
)
async def judge_images(
    request: Request,
    service: Here,
    client: Client,
    heatmaps: Annotated[bool, Query(description="Whether to add crop and heat map to each face")] = True,
) -> dict[str, Any]:
    """Judge one or more images; an unreadable file has an error in its row.

    If no file is readable, the response is a problem with status 422.
    """
    limits = service.settings.limits
    async with (
        _one_of_many(request, service, client),
        take_files(
            request, service.uploads, most=limits.files, max_bytes=limits.image_bytes,
            seconds=limits.upload_seconds, idle_seconds=limits.idle_seconds,
        ) as uploads,
    ):  # fmt: skip
        results = await service.workers.score_images(uploads, heatmaps=heatmaps, client=client)
    errors = [result for result in results if "error" in result]
    for result in results:
        service.figures.verdicts.labels("image", result.get("verdict", "error")).inc()
    for error in errors:
        error["error"] = place_routes(error["error"], request.scope["root_path"])
    if len(errors) == len(results):
        detail = errors[0]["error"] if len(errors) == 1 else f"None of the {len(errors)} files is readable."
        raise Problem(422, errors[0]["code"], detail, errors=errors)
    return {"results": results}


@asynccontextmanager
async def _one_of_many(request: Request, service: Service, client: str) -> AsyncIterator[None]:
    """Hold one of the places for image requests."""
    await _check_ready(request, service)
    if not service.take_place(client):
        await refuse(request, service.places_full(client), seconds=service.settings.limits.idle_seconds)
    try:
        yield
    finally:
        service.give_place(client)


async def _check_ready(request: Request, service: Service) -> None:
    if not service.workers.is_ready:
        problem = Problem(503, "not_ready", "The workers are loading the model. Retry soon.", headers=_RETRY)
        await refuse(request, problem, seconds=service.settings.limits.idle_seconds)


@router.post(
    "/videos",
    status_code=202,
    response_model=JobStatus,
    responses=describe(400, 408, 413, 415, 429, 503, 507),
    openapi_extra=_describe_body("One video"),
)
async def accept_video(request: Request, response: Response, service: Here, client: Client) -> dict[str, Any]:
    """Queue a video as a job; poll it at the URL in `Location`."""
    limits = service.settings.limits
    await _check_ready(request, service)
    with service.one_more_video(client) as has_place:
        if not has_place:
            await refuse(request, service.queue_full(client), seconds=limits.idle_seconds)
        async with take_files(
            request, service.uploads, most=1, max_bytes=limits.video_bytes,
            seconds=limits.upload_seconds, idle_seconds=limits.idle_seconds,
        ) as uploads:  # fmt: skip
            job = service.add_job(uploads[0], client)
    root_path = request.scope["root_path"]
    response.headers["Location"] = f"{root_path}/v1/jobs/{job.id}"
    return _report(job, service, root_path)


@router.get("/jobs/{job_id}", response_model=JobStatus, responses=describe(404))
def report_job(request: Request, job_id: JobId, service: Here) -> dict[str, Any]:
    """Report the state of a job, and its result once it is done."""
    return _report(_find(job_id, service), service, request.scope["root_path"])


@router.delete("/jobs/{job_id}", status_code=204, responses=describe(404))
def delete_job(job_id: JobId, service: Here) -> Response:
    """Cancel a job if it is open, and delete it with all its files."""
    _find(job_id, service)
    service.delete_job(job_id)
    return Response(status_code=204)


@router.get(
    "/jobs/{job_id}/heatmaps/{name}",
    response_class=FileResponse,
    responses={200: {"content": {"image/jpeg": {}}, "description": "The image"}, **describe(404)},
)
def send_drawing(job_id: JobId, name: str, service: Here) -> FileResponse:
    """Send a crop or heat map, as listed in the result of the job."""
    _find(job_id, service)
    path = service.store.drawings_of(job_id) / name
    if not _DRAWING.fullmatch(name) or not path.is_file():
        raise Problem(404, "no_drawing", "The job has no such image. Its result lists them under 'heatmaps'.")
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/model", response_model=Model)
def describe_model(service: Here) -> dict[str, Any]:
    """Describe the model, its decision rule and the limits of the service."""
    return service.model


def _find(job_id: str, service: Service) -> Job:
    job = service.store.find(job_id)
    if job is None:
        raise Problem(404, "no_job", f"There is no job '{job_id}'. It was deleted, or it has expired.")
    return job


def _report(job: Job, service: Service, root_path: str) -> dict[str, Any]:
    kept = service.settings.limits.keep_hours * 3600
    if job.error is not None:
        job.error["detail"] = place_routes(job.error["detail"], root_path)
    for drawing in job.result["heatmaps"] if job.result is not None else ():
        drawing |= {kind: root_path + drawing[kind] for kind in ("crop", "heatmap") if kind in drawing}
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "created": job.created,
        "finished": job.finished,
        "expires": None if job.finished is None else job.finished + kept,
        "progress": {"done": job.done, "total": job.total},
        "result": job.result,
        "error": job.error,
    }
