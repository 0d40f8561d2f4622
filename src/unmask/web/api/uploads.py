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
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from unmask.errors import ConfigError, OutputError
from unmask.models.bundle import SPEC_FILE, is_bundle, load_bundle
from unmask.paths import describe_refusal, is_of_disk, writing
from unmask.tracking.addresses import fetch_model
from unmask.web.api.responses import Problem
from unmask.web.api.settings import ModelSettings


def clean_name(name: str | None) -> str:
    """Return the last path component of a name, without markup or control characters."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    return re.sub(r"[^\w.,=+ ()@-]", "_", last)[-120:].strip(" .") or "upload"


class FileForm(MultiPartParser):
    """Multipart parser that writes each file into a folder, and stops as soon as one is too large.

    Starlette's own parser writes to the system's temporary folder, without a size limit per file.

    Args:
        request: Request with a multipart/form-data body.
        folder: Existing folder; the files are named 1, 2, ... in the order of the form.
        max_files: Maximum number of files, and of other fields.
        max_bytes: Maximum size of a file.
    """

    def __init__(self, request: Request, folder: Path, *, max_files: int, max_bytes: int) -> None:
        super().__init__(request.headers, request.stream(), max_files=math.inf, max_fields=max_files)
        self._folder, self._max_files = folder, max_files
        self._max_bytes, self._num_bytes = max_bytes, 0

    def on_part_begin(self) -> None:
        """Reset the byte count."""
        super().on_part_begin()
        self._num_bytes = 0

    def on_headers_finished(self) -> None:
        """Open the file of a part in the folder instead of a temporary one.

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
        """Count the bytes of a file.

        Raises:
            Problem: 413.
        """
        self._num_bytes += end - start
        upload = self._current_part.file
        if upload is not None and self._num_bytes > self._max_bytes:
            detail = f"'{clean_name(upload.filename)}' is larger than the limit of {self._max_bytes:,} bytes per file"
            keys = "service.image_bytes, service.video_bytes; see /v1/model"
            raise Problem(413, "file_too_large", f"{detail} ({keys}). Send a smaller one.")
        super().on_part_data(data, start, end)


def _too_many(most: int) -> Problem:
    if most == 1:
        detail = "The request has more than one file. Send each file in a separate request."
    else:
        detail = f"The request has more than {most} files (service.files). Send the others in further requests."
    return Problem(400, "too_many_files", detail)


FIELD = "files"

_CLOSE = {"Connection": "close"}
_ENDS_FORM = ("file_too_large", "too_many_files")
# Python has many more codecs, some of which raise unexpected errors ("undefined", "idna").
_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1", "windows-1252")
_READ_IN_VAIN = 5_000_000
_FORM_BYTES = 64_000
"""Allowance for the boundaries and headers of a multipart body."""


@dataclass(frozen=True)
class Upload:
    """An uploaded file.

    Args:
        path: Path on disk, under a generated name.
        name: The client's file name, sanitized.
    """

    path: Path
    name: str


@asynccontextmanager
async def take_files(
    request: Request, folder: Path, *, most: int, max_bytes: int, seconds: float, idle_seconds: float
) -> AsyncIterator[list[Upload]]:
    """Read the files of a request into a temporary subfolder, which is removed at the end.

    Args:
        request: Request with a multipart/form-data body.
        folder: Parent of the subfolder.
        most: Maximum number of files.
        max_bytes: Maximum size of a file.
        seconds: Time for the whole body to arrive.
        idle_seconds: Time for the next chunk to arrive.

    Raises:
        Problem: 400, 408, 413, 415 or 422.
        OutputError: Full disk or unwritable folder.
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
    except (MultiPartException, FormParserError) as error:  # older Starlettes let the parser's own error through
        detail = f"{getattr(error, 'message', error)} Send multipart/form-data, as curl -F {FIELD}=@photo.jpg does."
        raise Problem(400, "malformed_body", detail) from error
    except ClientDisconnect as error:  # only the log and the metrics see this
        raise Problem(400, "broken_off", "The client disconnected before the body was complete. Retry.") from error
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
        detail = f"The form must hold files in the field '{FIELD}' only, as curl -F {FIELD}=@a.jpg sends."
        raise Problem(422, "unknown_field" if files else "no_file", detail)
    return [Upload(home / str(place), clean_name(file.filename)) for place, file in enumerate(files, start=1)]


async def refuse(request: Request, problem: Problem, *, seconds: float) -> NoReturn:
    """Raise a problem before the body is read, in a way that lets the client see it.

    A client whose connection is closed while it is sending sees a connection error, not the answer. So a short body is
    read and discarded first.

    Args:
        request: Request with an unread body.
        problem: Problem to raise.
        seconds: Time to wait for the body.
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
            415, "not_multipart", "The body is not multipart/form-data. Send it as curl -F files=@photo.jpg does."
        )
    charset = options.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in _CHARSETS:
        detail = f"Content-Type names the charset '{charset[:40]}', which is not supported."
        raise Problem(400, "malformed_body", f"{detail} Omit charset, or use charset=utf-8.")


def _check_length(request: Request, total: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > total:
        raise _too_large(total)


def _too_large(total: int) -> Problem:
    detail = f"The request is larger than the limit of {total:,} bytes (see /v1/model). Send fewer or smaller files."
    return Problem(413, "too_large", detail, headers=_CLOSE)


class _Body:
    """Receive channel of a body with limits on size and time.

    Args:
        receive: Receive channel of the server.
        total: Maximum number of bytes.
        seconds: Time for the whole body to arrive.
        idle_seconds: Time for the next chunk to arrive.
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
            limits = f"no data for {self._idle_seconds:g} s, or incomplete after {self._seconds:g} s"
            raise Problem(408, "too_slow_upload", f"The body arrived too slowly: {limits}.", headers=_CLOSE) from error
        self._num_bytes += len(message.get("body", b""))
        self._is_over = not message.get("more_body", False)
        if self._num_bytes > self._total:
            raise _too_large(self._total)
        return message

    async def throw_away(self, length: str) -> bool:
        """Discard the rest of the body if it is short; return whether the body is complete.

        Args:
            length: Content-Length header of the request.
        """
        is_short = length.isdigit() and int(length) - self._num_bytes <= _READ_IN_VAIN
        while is_short and not self._is_over:
            await self()
        return self._is_over


_LOCK, _COPY = "unmask.lock", ".model-"
_OF_DISKS = frozenset({"lost+found"})  # in the root of a volume


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Lock a folder for one service: two services in one folder would take each other's jobs.

    Args:
        folder: Folder of the service; created if missing.

    Raises:
        ConfigError: The folder is in use by another service, holds foreign files, or is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strange = sorted({path.name for path in folder.iterdir()} - _OF_DISKS)
        if strange and _LOCK not in strange:  # a service must only delete its own files
            raise ConfigError(
                f"folder={folder} holds '{strange[0]}' and does not belong to a service. Give an empty or new folder."
            )
        file = (folder / _LOCK).open("w")
    except OSError as error:
        raise ConfigError(f"The service cannot write in folder={folder}: {error}. Give another folder.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it however the service ends
        except BlockingIOError as error:
            raise ConfigError(
                f"Another service is using folder={folder}. Stop it, or give this one its own folder."
            ) from error
        except OSError as error:
            raise ConfigError(f"folder={folder} does not support file locks: {error}. Give another folder.") from error
        yield


@contextmanager
def copied_model(model: ModelSettings, folder: Path) -> Iterator[ModelSettings]:
    """Copy the model for the lifetime of the service; a killed service leaves the copy to the next one to delete.

    Otherwise a worker that is restarted later would load whatever is at the path by then, and half of the verdicts
    would come from another training.

    Args:
        model: Settings whose path names the original.
        folder: Folder of the service.

    Raises:
        BundleError: Incomplete bundle.
        ConfigError: The model cannot be copied.
        OutputError: Full disk.
    """
    for old in folder.glob(f"{_COPY}*"):
        shutil.rmtree(old, ignore_errors=True)
    with writing(folder):
        copy = Path(tempfile.mkdtemp(prefix=_COPY, dir=folder))
    try:
        yield replace(model, path=str(_copy(fetch_model(model.path), copy)))
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _copy(original: Path, copy: Path) -> Path:
    files = [original]
    if is_bundle(original):
        bundle = load_bundle(original)
        files = [bundle.model, bundle.folder / SPEC_FILE]
    elif not original.is_file():
        return original  # loading it will report the error
    try:
        for file in files:
            shutil.copyfile(file, copy / file.name)
    except OSError as error:
        if is_of_disk(error):
            raise OutputError(describe_refusal(error, copy / files[-1].name)) from error
        raise ConfigError(f"The model cannot be copied to '{copy}': {error}. Give another folder.") from error
    return copy / original.name if len(files) == 1 else copy
