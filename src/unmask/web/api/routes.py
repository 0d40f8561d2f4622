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
    """A face of a picture, or a person of a video."""

    track: int = Field(description="From 0; pages and messages call it face 1")
    box: Box = Field(description="x1, y1, x2, y2 in pixels; of a video where the person is seen best")
    confidence: float = Field(description="Of the face detector")
    score: float = Field(description="P(fake) as the network says it, from 0 to 1")
    verdict: Verdict
    num_frames: int
    decides: bool = Field(description="Whether it counts for the verdict of the file")
    landmarks: list[tuple[float, float]] | None = Field(
        None, description="Of a picture's face, in its pixels: eyes, nose, corners of the mouth"
    )
    crop: str | None = Field(None, description="What the network saw, a JPEG as data URI")
    heatmap: str | None = Field(None, description="Colours to lay over the crop: red looks fake; a JPEG as data URI")


class Source(BaseModel):
    """A source of what the model was trained on."""

    name: str
    forgeries: Literal["drawn", "self_made", "external", "unknown"] = Field(
        description="Who made its fakes: Unmask, of faces it drew or of real ones; others; or nobody recorded it"
    )


class Judged(BaseModel):
    """What is said of a file."""

    name: str
    kind: Literal["picture", "video"]
    verdict: Verdict = Field(
        description="That of the score; but uncertain where the score says real and a deciding face looks fake for a "
        "while"
    )
    headline: str = Field("", description="The verdict and what it rests on, in one line of plain English")
    reason: str = Field("", description="How the verdict came about, in sentences with numbers")
    score: float | None = Field(description="Of the most fake face; null without a face")
    probability: float | None = Field(
        description="Calibrated on the validation split, fakes and real ones being equally frequent; null if it was not"
    )
    threshold: float = Field(description="A score from here on is fake")
    faces: list[Face]
    num_examined: int = Field(0, description="Frames that were decoded and searched for faces; 1 for an image")
    num_frames: int = Field(0, description="Frames in the file; 1 for an image")
    notes: list[str] = Field(description="What was left out, and what the score cannot be trusted for")
    trained_on: list[Source] = Field([], description="What the model was trained on")
    warning: str | None = Field(None, description="Why no verdict of this model can be relied on, by `trained_on`")


class PictureResult(Judged):
    """What is said of a picture."""


class FileError(BaseModel):
    """Why nothing is said of a file."""

    name: str
    code: str
    error: str


class Pictures(BaseModel):
    """A row for each file, in the order they came in."""

    results: list[PictureResult | FileError]


class SeenFace(BaseModel):
    """A face in one frame."""

    track: int
    box: Box
    confidence: float
    score: float
    verdict: Verdict | None = Field(None, description="Of this score alone")


class Frame(BaseModel):
    """A frame that was looked at."""

    index: int
    time_seconds: float
    faces: list[SeenFace]


class Stretch(BaseModel):
    """A stretch that looks fake."""

    start_seconds: float
    end_seconds: float
    score: float


class Drawing(BaseModel):
    """Where the pictures of a face in one frame are found."""

    frame: int
    time_seconds: float
    track: int
    crop: str
    heatmap: str | None = None


class VideoResult(Judged):
    """What is said of a video."""

    frames: list[Frame]
    suspicious: list[Stretch]
    key_frames: list[int] = Field(description="Indices of the frames that weighed most, the weightiest first")
    heatmaps: list[Drawing]


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    detail: str


class JobProgress(BaseModel):
    """How far a job is."""

    done: int = Field(description="Frames examined")
    total: int = Field(description="Frames to examine; 0 while unknown, and more where too few of them show a face")


class JobStatus(BaseModel):
    """Where a job stands."""

    id: str
    name: str
    state: Literal["queued", "running", "done", "failed"]
    created: float = Field(description="Seconds since 1970")
    finished: float | None
    expires: float | None = Field(description="When it and its files are deleted; null while it is not finished")
    progress: JobProgress
    result: VideoResult | None
    error: JobError | None


class Formats(BaseModel):
    """What files are taken; a file is told by its content, whatever it is called."""

    pictures: list[str]
    videos: list[str]
    video_suffixes: list[str] = Field(description="By which a client may tell videos from pictures")


class Model(BaseModel):
    """Which model answers, and within which limits."""

    name: str = Field(description="Of the network")
    title: str = Field(description="What people call it: its run, its network, and what it was trained on")
    run_name: str | None
    version: str
    trained_on: list[Source]
    warning: str | None = Field(description="Why none of its verdicts can be relied on; null where nothing is known")
    formats: Formats
    decision: dict[str, Any]
    preprocessing: dict[str, Any]
    provenance: dict[str, Any]
    limits: dict[str, Any]


class Health(BaseModel):
    """That the service runs, or is ready."""

    status: Literal["ok"]


JobId = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{32}$")]
_DRAWING = re.compile(r"(crop|heatmap)_\d{1,12}_\d{1,6}\.jpg")
_RETRY = {"Retry-After": "5"}


def find_service(request: Request) -> Service:
    """Return the service that a request came to."""
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(find_service)]


def _read_key(request: Request) -> str:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return (given if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")).strip()


def check_key(request: Request, service: Here) -> None:
    """Let a request in: everyone's, or that of somebody with a key."""
    hashes = service.settings.api_keys
    if hashes and not is_known(_read_key(request), hashes):
        detail = "This service needs a key it knows: Authorization: Bearer <key>, or X-API-Key: <key>."
        raise Problem(401, "unknown_key", detail, headers={"WWW-Authenticate": "Bearer"})


def name_client(request: Request, service: Here) -> str:
    """Return what stands for whoever asks: the key, where keys are asked for, else the address."""
    if service.settings.api_keys:
        return hash_key(_read_key(request))
    return name_address(request.client.host if request.client else "")


Client = Annotated[str, Depends(name_client)]

router = APIRouter(prefix="/v1", dependencies=[Depends(check_key)], responses=describe(401, 422))


def _describe_body(what: str) -> dict[str, Any]:
    """Describe the files of a request; `unmask.web.api.app` adds how many there may be."""
    file = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1, "description": what}
    schema = {"type": "object", "properties": {FIELD: files}, "required": [FIELD], "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@router.post(
    "/images",
    response_model=Pictures,
    response_model_exclude_unset=True,
    responses=describe(400, 408, 413, 415, 429, 503, 507),
    openapi_extra=_describe_body("Pictures"),
)
async def judge_pictures(
    request: Request,
    service: Here,
    client: Client,
    heatmaps: Annotated[bool, Query(description="Whether faces come with crop and heat map")] = True,
) -> dict[str, Any]:
    """Judge one or many pictures; a file that cannot be read has an error in its row.

    Where none can be read, the answer is a problem with status 422.
    """
    limits = service.settings.limits
    async with (
        _one_of_many(request, service, client),
        take_files(
            request, service.uploads, most=limits.files, max_bytes=limits.image_bytes,
            seconds=limits.upload_seconds, idle_seconds=limits.idle_seconds,
        ) as uploads,
    ):  # fmt: skip
        results = await service.workers.score_pictures(uploads, heatmaps=heatmaps, client=client)
    errors = [result for result in results if "error" in result]
    for result in results:
        service.figures.verdicts.labels("picture", result.get("verdict", "error")).inc()
    for error in errors:
        error["error"] = place_routes(error["error"], request.scope["root_path"])
    if len(errors) == len(results):
        detail = errors[0]["error"] if len(errors) == 1 else f"None of the {len(errors)} files can be read."
        raise Problem(422, errors[0]["code"], detail, errors=errors)
    return {"results": results}


@asynccontextmanager
async def _one_of_many(request: Request, service: Service, client: str) -> AsyncIterator[None]:
    """Hold one of the places for picture requests."""
    await _check_ready(request, service)
    if not service.take_place(client):
        await refuse(request, service.places_full(client), seconds=service.settings.limits.idle_seconds)
    try:
        yield
    finally:
        service.give_place(client)


async def _check_ready(request: Request, service: Service) -> None:
    if not service.workers.is_ready:
        problem = Problem(503, "not_ready", "The workers load the model. Try again in some seconds.", headers=_RETRY)
        await refuse(request, problem, seconds=service.settings.limits.idle_seconds)


@router.post(
    "/videos",
    status_code=202,
    response_model=JobStatus,
    responses=describe(400, 408, 413, 415, 429, 503, 507),
    openapi_extra=_describe_body("One video"),
)
async def accept_video(request: Request, response: Response, service: Here, client: Client) -> dict[str, Any]:
    """Take a video as a job; ask for it at the address in `Location`."""
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
    return _tell(job, service, root_path)


@router.get("/jobs/{job_id}", response_model=JobStatus, responses=describe(404))
def tell_job(request: Request, job_id: JobId, service: Here) -> dict[str, Any]:
    """Tell where a job stands, and its result once it is done."""
    return _tell(_find(job_id, service), service, request.scope["root_path"])


@router.delete("/jobs/{job_id}", status_code=204, responses=describe(404))
def delete_job(job_id: JobId, service: Here) -> Response:
    """Cancel a job that waits or runs, and delete it with all its files."""
    _find(job_id, service)
    service.delete_job(job_id)
    return Response(status_code=204)


@router.get(
    "/jobs/{job_id}/heatmaps/{name}",
    response_class=FileResponse,
    responses={200: {"content": {"image/jpeg": {}}, "description": "The picture"}, **describe(404)},
)
def send_drawing(job_id: JobId, name: str, service: Here) -> FileResponse:
    """Send a crop, or the colours to lay over it; their names stand in the result of the job."""
    _find(job_id, service)
    path = service.store.drawings_of(job_id) / name
    if not _DRAWING.fullmatch(name) or not path.is_file():
        raise Problem(404, "no_drawing", "The job has no such picture. Its result lists them under 'heatmaps'.")
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/model", response_model=Model)
def tell_model(service: Here) -> dict[str, Any]:
    """Tell which model answers, how it decides, and within which limits."""
    return service.model


def _find(job_id: str, service: Service) -> Job:
    job = service.store.find(job_id)
    if job is None:
        raise Problem(404, "no_job", f"There is no job '{job_id}'. It was deleted, or its time was over.")
    return job


def _tell(job: Job, service: Service, root_path: str) -> dict[str, Any]:
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
