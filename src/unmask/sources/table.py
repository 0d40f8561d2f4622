"""Parse a table of labelled media: text, columns and labels."""

import csv
import io
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import ConfigError, SourceError, list_problems
from unmask.sources.folders import quote_some
from unmask.sources.labels import Words
from unmask.types import Label

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv")

SYNONYMS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "video_path", "image"),
    "label": ("label", "labels", "class", "target", "is_fake"),
    "video": ("video", "video_id"),
    "identity": ("identity", "identities", "subject", "person"),
    "method": ("method", "manipulation", "generator"),
    "split": ("split", "set", "subset", "fold"),
}
"""Accepted names of each column; case is ignored, and spaces match `_`."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        line: Line number in the file, from 1.
        values: Stripped values by the keys of `SYNONYMS`; only columns that the table has.
        others: Values of all other columns, by the table's own column names.
    """

    line: int
    values: Mapping[str, str]
    others: Mapping[str, str]


def read_table(path: Path, *, columns: Mapping[str, str | None]) -> list[Row]:
    """Read the rows of a table separated by commas, semicolons or tabs, with or without a byte order mark.

    Args:
        path: Text file with a header.
        columns: The table's column name for each key of `SYNONYMS`; None to find it by its synonyms.

    Raises:
        SourceError: The file is not text, is empty, or has no columns for path and label.
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
        raise SourceError(f"The table '{path}' is empty. It needs a header such as 'path,label'.")
    header = [cell.strip() for cell in lines[0][1]]
    places = find_columns(header, columns=columns)
    lacking = [name for name in ("path", "label") if name not in places]
    if lacking:
        raise SourceError(
            f"The table '{path}' has no column for {' and '.join(lacking)}; its columns are "
            f"{quote_some(header, limit=20)}. Choose one: " + " ".join(f"source.columns.{name}=..." for name in lacking)
        )
    return [_make_row(line, cells, header, places) for line, cells in lines[1:]]


def find_columns(header: Sequence[str], *, columns: Mapping[str, str | None]) -> dict[str, int]:
    """Return the position of each column, by the keys of `SYNONYMS`.

    Raises:
        ConfigError: `columns` has an unknown key.
        SourceError: A configured column is not in the table.
    """
    unknown = [name for name in columns if name not in SYNONYMS]
    if unknown:
        raise ConfigError(f"source.columns.{unknown[0]} is unknown. Choose one of: {', '.join(SYNONYMS)}.")
    plain = [name.lower().replace(" ", "_") for name in header]
    places = {}
    for name, synonyms in SYNONYMS.items():
        own = columns.get(name)
        if own is not None:
            if own not in header:
                raise SourceError(
                    f"source.columns.{name}='{own}' is not in the table, whose columns are "
                    f"{quote_some(header, limit=20)}."
                )
            places[name] = header.index(own)
        else:
            found = [plain.index(synonym) for synonym in synonyms if synonym in plain]
            if found:
                places[name] = found[0]
    return places


def read_header(path: Path) -> list[str]:
    """Return the column names of a table, or an empty list if it is not a text file."""
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


MEANINGS = {"0": Label.REAL, "0.0": Label.REAL, "real": Label.REAL, "false": Label.REAL,
             "1": Label.FAKE, "1.0": Label.FAKE, "fake": Label.FAKE, "true": Label.FAKE}  # fmt: skip

_WORDS = frozenset({"real", "fake"})


def read_labels(path: Path, rows: Sequence[Row], *, fake_label: str | None, real_label: str | None) -> list[Label]:
    """Return the label of each row, and log how each value was interpreted.

    In some tables 1 means real. If another column such as `label_str` has the words real and fake, they decide.

    Args:
        path: Path of the table, for error messages.
        rows: Rows of the table.
        fake_label: Value that means fake; None for `1` and `fake`.
        real_label: Value that means real; None for all values other than `fake_label` if that is set, otherwise for
            `0` and `real`.

    Raises:
        SourceError: A value is unknown, or the folders in most paths contradict the labels.
    """
    is_chosen = fake_label is not None or real_label is not None
    values = [row.values["label"].lower() for row in rows]
    told, column = (MEANINGS, "") if is_chosen else _find_meanings(rows)
    found = [_choose(value, fake_label, real_label) if is_chosen else told.get(value) for value in values]
    problems = [
        f"line {row.line}: '{row.values['label']}'" for row, label in zip(rows, found, strict=True) if label is None
    ]
    if problems:
        raise SourceError(
            f"{len(problems)} rows of '{path}' have an unknown label:\n{list_problems(problems)}\n"
            f"Labels are 0 or real, 1 or fake. For other values, set source.fake_label=... source.real_label=..."
        )
    labels = [label for label in found if label is not None]
    counts = Counter((row.values["label"], label.name.lower()) for row, label in zip(rows, labels, strict=True))
    logger.info(
        "Labels of '%s': %s%s.", path,
        ", ".join(f"'{value}' means {label} ({count:,} rows)" for (value, label), count in sorted(counts.items())),
        f", according to its column '{column}'" if column else "",
    )  # fmt: skip
    _check_against_folders(path, rows, labels, is_chosen=is_chosen)
    return labels


def _choose(value: str, fake_label: str | None, real_label: str | None) -> Label | None:
    if fake_label is not None and value == fake_label.lower():
        return Label.FAKE
    if real_label is not None and value == real_label.lower():
        return Label.REAL
    if fake_label is None:
        return Label.FAKE if value else None
    return Label.REAL if real_label is None and value else None


def _find_meanings(rows: Sequence[Row]) -> tuple[dict[str, Label], str]:
    """Return the label of each value, and the column of words that defines it, or "" for the default meanings."""
    for name in rows[0].others:
        words = [row.others[name].lower() for row in rows]
        if not _WORDS.issuperset(words):
            continue
        pairs = {(row.values["label"].lower(), word) for row, word in zip(rows, words, strict=True)}
        meanings = {value: MEANINGS[word] for value, word in pairs}
        if len(pairs) == len(meanings):
            usual = all(MEANINGS.get(value) == label for value, label in meanings.items())
            return (MEANINGS, "") if usual else (meanings, name)
    return MEANINGS, ""


def _check_against_folders(path: Path, rows: Sequence[Row], labels: Sequence[Label], *, is_chosen: bool) -> None:
    """Compare labels with the folder names in the paths; raise a SourceError if most of those contradict them."""
    words = Words()
    known = [
        (row, label, word) for row, label in zip(rows, labels, strict=True)
        if (word := _read_folders(row.values["path"], words)) is not None
    ]  # fmt: skip
    against = [row for row, label, word in known if word != label]
    if not against:
        return
    first = against[0]
    said = (
        f"{len(against)} of {len(rows)} rows of '{path}' contradict the folders of their paths, such as line "
        f"{first.line}: label '{first.values['label']}', path '{first.values['path']}'"
    )
    if is_chosen or 2 * len(against) <= len(known):
        logger.warning("%s. Using the label column.", said)
        return
    fakes = {row.values["label"] for row, label, _ in known if label == Label.FAKE}
    reals = {row.values["label"] for row, label, _ in known if label == Label.REAL}
    opposite = min(reals, default="0" if "1" in fakes else "1")
    raise SourceError(
        f"{said}. If the labels mean the opposite, set source.fake_label={opposite}; if they are correct, confirm "
        f"them with source.fake_label={min(fakes, default='1')}."
    )


def _read_folders(path: str, words: Words) -> Label | None:
    folders = path.replace("\\", "/").split("/")[:-1]
    found = {label for folder in folders if isinstance(label := words.read(folder), Label)}
    return found.pop() if len(found) == 1 else None
