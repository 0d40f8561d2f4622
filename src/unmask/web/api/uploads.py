"""Files of the service on disk: uploads, its folder and its copy of the model."""

import asyncio
import fcntl
import math
import re
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NoReturn

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from unmask.errors import ConfigError, OutputError
from unmask.inference.bundle import is_bundle, load_bundle
from unmask.inference.loading import find_model
from unmask.models.bundle import SPEC_FILE
from unmask.web.api.responses import Problem
from unmask.web.api.settings import ModelSettings
from unmask.writing import describe_refusal, is_of_disk, writing


def clean_name(name: str | None) -> str:
    """Return the last part of a name without what could be a path, markup or control sequence."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    return re.sub(r"[^\w.,=+ ()@-]", "_", last)[-120:].strip(" .") or "upload"


class FileForm(MultiPartParser):
    """Writes each file of a form into a folder, and stops in the middle of the first that is too large.

    Starlette's own parser writes what it is sent to the system's temporary folder, without a limit to a file.

    Args:
        request: Of multipart/form-data.
        folder: Is there; the files are named 1, 2, ... in the order of the form.
        max_files: Files; and so many fields of other kinds.
        max_bytes: Of one file.
    """

    def __init__(self, request: Request, folder: Path, *, max_files: int, max_bytes: int) -> None:
        super().__init__(request.headers, request.stream(), max_files=math.inf, max_fields=max_files)
        self._folder, self._max_files = folder, max_files
        self._max_bytes, self._num_bytes = max_bytes, 0

    def on_part_begin(self) -> None:
        """Count anew."""
        super().on_part_begin()
        self._num_bytes = 0

    def on_headers_finished(self) -> None:
        """Open the file of a part in the folder, in place of the temporary one.

        Raises:
            Problem: 400.
        """
        super().on_headers_finished()
        upload = self._current_part.file
        if upload is not None:
            if self._current_files > self._max_files:
                raise _too_many(self._max_files)
            self._files_to_close_on_error.pop().close()
            upload.file = (self._folder / str(self._current_files)).open("wb")
            self._files_to_close_on_error.append(upload.file)  # type: ignore[arg-type]

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Count what came in of a file.

        Raises:
            Problem: 413.
        """
        self._num_bytes += end - start
        upload = self._current_part.file
        if upload is not None and self._num_bytes > self._max_bytes:
            detail = f"'{clean_name(upload.filename)}' has more than the {self._max_bytes:,} bytes that are taken"
            keys = "service.image_bytes, service.video_bytes; see /v1/model"
            raise Problem(413, "file_too_large", f"{detail} of a file ({keys}). Send a smaller one.")
        super().on_part_data(data, start, end)


def _too_many(most: int) -> Problem:
    if most == 1:
        detail = "The request has more than one file. Send each video, or picture, in a request of its own."
    else:
        detail = f"The request has more than the {most} files that are taken at once (service.files). "
        detail += "Send the others in further requests."
    return Problem(400, "too_many_files", detail)


FIELD = "files"

_CLOSE = {"Connection": "close"}
_ENDS_FORM = ("file_too_large", "too_many_files")
# Python knows many more, some of which read nothing and fail in ways of their own ("undefined", "idna").
_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1", "windows-1252")
_READ_IN_VAIN = 5_000_000
_FORM_BYTES = 64_000
"""For the boundaries and headers of a body, beside its files."""


@dataclass(frozen=True)
class Upload:
    """One file of a request.

    Args:
        path: Where it lies, under a name of ours.
        name: As its sender calls it, cut down to harmless characters.
    """

    path: Path
    name: str


@asynccontextmanager
async def take_files(
    request: Request, folder: Path, *, most: int, max_bytes: int, seconds: float, idle_seconds: float
) -> AsyncIterator[list[Upload]]:
    """Read the files of a request into a folder of its own, which is removed at the end.

    Args:
        request: Of multipart/form-data.
        folder: Below which that folder lies.
        most: Files.
        max_bytes: Of one file.
        seconds: In which all must have come in.
        idle_seconds: In which the next piece must.

    Raises:
        Problem: 400, 408, 413, 415 or 422.
        OutputError: The disk is full, or the folder cannot be written to.
    """
    _check_kind(request.headers.get("content-type", ""))
    total = most * max_bytes + _FORM_BYTES
    _check_length(request, total)
    body = _Body(request.receive, total=total, seconds=seconds, idle_seconds=idle_seconds)
    home = folder / uuid.uuid4().hex
    try:
        with writing(home):
            home.mkdir(parents=True)
            uploads = await _read_form(Request(request.scope, body), home, body, most=most, max_bytes=max_bytes)
        yield uploads
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _read_form(request: Request, home: Path, body: "_Body", *, most: int, max_bytes: int) -> list[Upload]:
    try:
        form = await FileForm(request, home, max_files=most, max_bytes=max_bytes).parse()
    except MultiPartException as error:
        detail = f"{error.message} Send multipart/form-data, as curl -F {FIELD}=@photo.jpg does."
        raise Problem(400, "malformed_body", detail) from error
    except ClientDisconnect as error:  # nobody reads this but the log and the figures
        raise Problem(400, "broken_off", "The client hung up before the body was whole. Send it again.") from error
    except Problem as problem:
        if problem.code in _ENDS_FORM and not await body.throw_away(request.headers.get("content-length", "")):
            problem.headers |= _CLOSE
        raise
    parts = form.multi_items()
    files = [part for name, part in parts if name == FIELD and isinstance(part, UploadFile)]
    for _, part in parts:
        if isinstance(part, UploadFile):
            await part.close()
    if not files or len(files) < len(parts):
        detail = f"The request must have files in the field '{FIELD}' alone, as curl -F {FIELD}=@a.jpg sends."
        raise Problem(422, "unknown_field" if files else "no_file", detail)
    return [Upload(home / str(place), clean_name(file.filename)) for place, file in enumerate(files, start=1)]


async def refuse(request: Request, problem: Problem, *, seconds: float) -> NoReturn:
    """Raise a problem before the body is used, so that the client sees it.

    A client that still sends when the connection is closed sees that alone. So a short body is read and thrown away.

    Args:
        request: Whose body nobody has read.
        problem: To raise.
        seconds: To wait for the body.
    """
    length = request.headers.get("content-length", "" if "transfer-encoding" in request.headers else "0")
    if not length.isdigit() or int(length) > _READ_IN_VAIN:
        problem.headers |= _CLOSE
        raise problem
    body = _Body(request.receive, total=_READ_IN_VAIN, seconds=seconds, idle_seconds=seconds)
    await body.throw_away(length)
    raise problem


def _check_kind(header: str) -> None:
    kind, options = parse_options_header(header)
    if kind != b"multipart/form-data":
        raise Problem(
            415, "not_multipart", "The body is no multipart/form-data. Send it as curl -F files=@photo.jpg does."
        )
    charset = options.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in _CHARSETS:
        detail = f"Content-Type says that the names of files are written in '{charset[:40]}', which is not read here."
        raise Problem(400, "malformed_body", f"{detail} Leave charset out, or say charset=utf-8.")


def _check_length(request: Request, total: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > total:
        raise _too_large(total)


def _too_large(total: int) -> Problem:
    detail = f"The request is larger than the {total:,} bytes that are taken (see /v1/model). Send less at once."
    return Problem(413, "too_large", detail, headers=_CLOSE)


class _Body:
    """Receives a body, counts its bytes and looks at the clock.

    Args:
        receive: Of the server.
        total: Bytes.
        seconds: In which all must have come in.
        idle_seconds: In which the next piece must.
    """

    def __init__(self, receive: Receive, *, total: int, seconds: float, idle_seconds: float) -> None:
        self._receive, self._total, self._seconds, self._idle_seconds = receive, total, seconds, idle_seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._num_bytes, self._is_over = 0, False

    async def __call__(self) -> Message:
        left = self._deadline - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(self._idle_seconds, left)))
        except TimeoutError as error:
            waited = f"nothing for {self._idle_seconds:g} s, or not all of it in {self._seconds:g} s"
            raise Problem(408, "too_slow_upload", f"The body came in too slowly: {waited}.", headers=_CLOSE) from error
        self._num_bytes += len(message.get("body", b""))
        self._is_over = not message.get("more_body", False)
        if self._num_bytes > self._total:
            raise _too_large(self._total)
        return message

    async def throw_away(self, length: str) -> bool:
        """Read the rest of the body if it is short; return whether the body is over.

        Args:
            length: Header of the request.
        """
        is_short = length.isdigit() and int(length) - self._num_bytes <= _READ_IN_VAIN
        while is_short and not self._is_over:
            await self()
        return self._is_over


_LOCK, _COPY = "unmask.lock", ".model-"
_OF_DISKS = frozenset({"lost+found"})  # which stands in the root of a volume


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Have a folder alone: two services in one would take each other's jobs.

    Args:
        folder: Of the service; it is made if need be.

    Raises:
        ConfigError: Another service has it, it holds something else, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strange = sorted({path.name for path in folder.iterdir()} - _OF_DISKS)
        if strange and _LOCK not in strange:  # what a service deletes must be its own
            raise ConfigError(
                f"folder={folder} holds '{strange[0]}' and is no service's. Give one that is empty or not there."
            )
        file = (folder / _LOCK).open("w")
    except OSError as error:
        raise ConfigError(f"The service cannot write in folder={folder}: {error}. Give another folder.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go of by the system, however the service ends
        except BlockingIOError as error:
            raise ConfigError(
                f"Another service works in folder={folder}. Stop it, or give this one a folder of its own."
            ) from error
        except OSError as error:
            raise ConfigError(f"The disk of folder={folder} knows no locks: {error}. Give another folder.") from error
        yield


@contextmanager
def copied_model(model: ModelSettings, folder: Path) -> Iterator[ModelSettings]:
    """Copy the model for as long as a service runs, and longer where it is killed: until the next one starts.

    A process that starts late, since the one before it ended, would otherwise load what lies at the path by then:
    half of the verdicts would be another training's.

    Args:
        model: Its path names the original.
        folder: Of the service.

    Raises:
        BundleError: It is a bundle, and not whole.
        ConfigError: The model cannot be copied.
        OutputError: The folder's disk is full.
    """
    for old in folder.glob(f"{_COPY}*"):
        shutil.rmtree(old, ignore_errors=True)
    with writing(folder):
        copy = Path(tempfile.mkdtemp(prefix=_COPY, dir=folder))
    try:
        yield replace(model, path=str(_copy(find_model(model.path), copy)))
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _copy(original: Path, copy: Path) -> Path:
    files = [original]
    if is_bundle(original):
        bundle = load_bundle(original)
        files = [bundle.model, bundle.folder / SPEC_FILE]
    elif not original.is_file():
        return original  # whoever loads it says what is wrong
    try:
        for file in files:
            shutil.copyfile(file, copy / file.name)
    except OSError as error:
        if is_of_disk(error):
            raise OutputError(describe_refusal(error, copy / files[-1].name)) from error
        raise ConfigError(f"The model cannot be copied to '{copy}': {error}. Give another folder.") from error
    return copy / original.name if len(files) == 1 else copy
