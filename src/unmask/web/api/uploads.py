"""Take files from a request: counted while they come in, on time, and under names of our own."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from unmask.web.api.form import FileForm, clean_name
from unmask.web.api.problems import Problem
from unmask.writing import writing

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
