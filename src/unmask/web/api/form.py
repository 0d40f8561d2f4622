"""A form whose files are written to their place as they come in."""

import math
import re
from pathlib import Path, PurePosixPath

from fastapi import Request
from starlette.formparsers import MultiPartParser

from unmask.web.api.problems import Problem


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
