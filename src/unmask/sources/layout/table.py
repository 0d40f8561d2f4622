"""Read a table of media with labels: its text, its columns, its values."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import ConfigError, SourceError
from unmask.sources.folders import quote_some

SUFFIXES = (".csv", ".tsv")

SYNONYMS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "video_path", "image"),
    "label": ("label", "labels", "class", "target", "is_fake"),
    "video": ("video", "video_id"),
    "identity": ("identity", "identities", "subject", "person"),
    "method": ("method", "manipulation", "generator"),
    "split": ("split", "set", "subset", "fold"),
}
"""Names under which each column is found, whatever their case, with blanks for `_` too."""


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Args:
        line: Its number in the file, from 1.
        values: By our name of the column, stripped; only columns that are there.
        others: By the table's own name, for all other columns.
    """

    line: int
    values: Mapping[str, str]
    others: Mapping[str, str]


def read_table(path: Path, *, columns: Mapping[str, str | None]) -> list[Row]:
    """Read the rows of a table separated by commas, semicolons or tabs, with or without a byte order mark.

    Args:
        path: A text file whose first line names its columns.
        columns: The table's own name of each of our columns; None to find it by `SYNONYMS`.

    Raises:
        SourceError: Not text, empty, or without columns for path and label; names those that are there.
    """
    text = _read_text(path)
    first = text.lstrip("\n").partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise SourceError(f"'{path}' cannot be read as a table: {error} (line {reader.line_num}).") from error
    if not lines:
        raise SourceError(f"The table '{path}' is empty. It must begin with a line such as 'path,label'.")
    header = [cell.strip() for cell in lines[0][1]]
    places = find_columns(header, columns=columns)
    lacking = [name for name in ("path", "label") if name not in places]
    if lacking:
        raise SourceError(
            f"The table '{path}' has no column for {' and '.join(lacking)}; its first line names "
            f"{quote_some(header, limit=20)}. Say which it is: "
            + " ".join(f"source.columns.{name}=..." for name in lacking)
        )
    return [_make_row(line, cells, header, places) for line, cells in lines[1:]]


def find_columns(header: Sequence[str], *, columns: Mapping[str, str | None]) -> dict[str, int]:
    """Return the place of each of our columns in a table.

    Raises:
        SourceError: A column that was named is not there.
    """
    unknown = [name for name in columns if name not in SYNONYMS]
    if unknown:
        raise ConfigError(f"source.columns.{unknown[0]} is unknown. Choose of: {', '.join(SYNONYMS)}.")
    plain = [name.lower().replace(" ", "_") for name in header]
    places = {}
    for name, synonyms in SYNONYMS.items():
        own = columns.get(name)
        if own is not None:
            if own not in header:
                raise SourceError(
                    f"source.columns.{name}='{own}' is not in the table, whose first line names "
                    f"{quote_some(header, limit=20)}."
                )
            places[name] = header.index(own)
        else:
            found = [plain.index(synonym) for synonym in synonyms if synonym in plain]
            if found:
                places[name] = found[0]
    return places


def read_header(path: Path) -> list[str]:
    """Return the names in the first line of a table, or nothing where it is no text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline(10_000)
    except (OSError, UnicodeDecodeError):
        return []
    return next(csv.reader([first.strip()], delimiter=max(",;\t", key=first.count)), [])


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise SourceError(f"The table '{path}' is not UTF-8 text ({error}). Save it as UTF-8.") from error


def _make_row(line: int, cells: Sequence[str], header: Sequence[str], places: Mapping[str, int]) -> Row:
    padded = [*(cell.strip() for cell in cells), *[""] * (len(header) - len(cells))]
    others = {name: padded[place] for place, name in enumerate(header) if place not in places.values()}
    return Row(line, {name: padded[place] for name, place in places.items()}, others)
