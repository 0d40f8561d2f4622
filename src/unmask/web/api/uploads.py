"""Take files from a request: counted while they come in, on time, and under names of our own."""

import asyncio
import re
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.types import Message, Receive

from unmask.web.api.problems import Problem

FIELD = "files"

_CLOSE = {"Connection": "close"}
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


def clean_name(name: str | None) -> str:
    """Return the last part of a name without what could be a path, markup or control sequence."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    return re.sub(r"[^\w.,=+ ()@-]", "_", last)[-120:].strip(" .") or "upload"


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
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Problem(
            415, "not_multipart", "The body is no multipart/form-data. Send it as curl -F files=@photo.jpg does."
        )
    total = most * max_bytes + _FORM_BYTES
    _check_length(request, total)
    bounded = Request(request.scope, _bound(request.receive, total=total, seconds=seconds, idle_seconds=idle_seconds))
    home = folder / uuid.uuid4().hex
    try:
        async with bounded.form(max_files=most, max_fields=most) as form:
            found = [part for name, part in form.multi_items() if name == FIELD and isinstance(part, UploadFile)]
            if not found or len(found) < len(form.multi_items()):
                detail = f"The request must have files in the field '{FIELD}' alone, as curl -F {FIELD}=@a.jpg sends."
                raise Problem(422, "no_file" if not found else "unknown_field", detail)
            home.mkdir(parents=True)
            yield [await _store(part, home / str(place), max_bytes) for place, part in enumerate(found)]
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def refuse(request: Request, problem: Problem, *, seconds: float) -> NoReturn:
    """Raise a problem before the body is used, so that the client sees it.

    A client that still sends when the connection is closed sees that alone. So a short body is read and thrown away.

    Args:
        request: Whose body nobody has read.
        problem: To raise.
        seconds: To wait for the body.
    """
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > _READ_IN_VAIN:
        problem.headers |= _CLOSE
        raise problem
    receive = _bound(request.receive, total=_READ_IN_VAIN, seconds=seconds, idle_seconds=seconds)
    async for _ in Request(request.scope, receive).stream():
        pass
    raise problem


def _check_length(request: Request, total: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > total:
        raise _too_large(total)


def _too_large(total: int) -> Problem:
    detail = f"The request is larger than the {total:,} bytes that are taken (see /v1/model). Send less at once."
    return Problem(413, "too_large", detail, headers=_CLOSE)


def _bound(receive: Receive, *, total: int, seconds: float, idle_seconds: float) -> Receive:
    """Return a receiver that counts bytes and looks at the clock."""
    num_bytes, deadline = 0, asyncio.get_running_loop().time() + seconds

    async def receive_bounded() -> Message:
        nonlocal num_bytes
        left = deadline - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, min(idle_seconds, left)))
        except TimeoutError as error:
            detail = f"The body came in too slowly: nothing for {idle_seconds:g} s, or not all of it in {seconds:g} s."
            raise Problem(408, "too_slow_upload", detail, headers=_CLOSE) from error
        num_bytes += len(message.get("body", b""))
        if num_bytes > total:
            raise _too_large(total)
        return message

    return receive_bounded


async def _store(part: UploadFile, path: Path, max_bytes: int) -> Upload:
    name = clean_name(part.filename)
    if (part.size or 0) > max_bytes:
        detail = f"'{name}' has {part.size:,} bytes, more than the {max_bytes:,} that are taken (see /v1/model)."
        raise Problem(413, "file_too_large", detail)
    with path.open("wb") as file:
        await asyncio.to_thread(shutil.copyfileobj, part.file, file, 1 << 20)
    return Upload(path, name)
