"""What the API answers, for its OpenAPI description."""

from typing import Any, Literal

from pydantic import BaseModel, Field

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
