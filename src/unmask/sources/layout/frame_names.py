"""Tell by their names which folders of pictures are videos that somebody took apart."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from unmask.media.kinds import PICTURE_SUFFIXES

_FRAME = re.compile(r"(?:frames?|img|image|f|frm)?[-_ ]?(\d+)", re.IGNORECASE)
"""A photograph's number is rarely all of its name, and seldom starts anew in the next folder."""


def find_frame_folders(folders: Mapping[Path, Sequence[Path]], *, frames_of: str | None) -> set[Path]:
    """Return the folders whose pictures are the frames of one video.

    Args:
        folders: Folders below a label with the media that lie in each itself.
        frames_of: `folder` for all that hold pictures alone, `none` for none, None to tell by the names: two or more
            folders in which nothing but numbers stands, and the same numbers in several.
    """
    pictures = {
        folder: files for folder, files in folders.items()
        if files and all(file.suffix.lower() in PICTURE_SUFFIXES for file in files)
    }  # fmt: skip
    if frames_of is not None:
        return set(pictures) if frames_of == "folder" else set()
    numbered = {folder: numbers for folder, files in pictures.items() if (numbers := _read_numbers(files)) is not None}
    folders_of = Counter(number for numbers in numbered.values() for number in numbers)
    return {folder for folder, numbers in numbered.items() if any(folders_of[number] > 1 for number in numbers)}


def _read_numbers(files: Sequence[Path]) -> set[int] | None:
    """Return the numbers of frames, or None where a name is something else."""
    found = [_FRAME.fullmatch(file.stem) for file in files]
    return {int(match.group(1)) for match in found if match} if all(found) else None
