"""Read tables of scores that any detector gave: csv, tsv or parquet, plain or gzipped."""

import gzip
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unmask.errors import ConfigError, DatasetError, LeakageError, list_problems, suggest
from unmask.sources.folders import quote_some
from unmask.sources.labels import read_split
from unmask.sources.table import MEANINGS
from unmask.types import ORIGINAL, Label

logger = logging.getLogger(__name__)

COLUMNS = {
    "video": ("video", "video_id"),
    "label": ("label",),
    "score": ("score",),
    "frame": ("frame", "frame_index"),
    "track": ("track",),
    "method": ("method",),
    "group": ("group",),
    "dataset": ("dataset",),
    "detector": ("detector",),
    "split": ("split",),
}
"""Accepted names of each column, in any case; the first three columns are required."""

_REQUIRED = ("video", "label", "score")
_NEVER_EMPTY = ("video", "frame", "track", "dataset", "detector", "split")
_EMPTY = frozenset({"", "nan", "na", "n/a", "none", "null"})

UNNAMED = "unnamed"
"""Dataset of a table that has no such column."""

TRANSFORMS = ("none", "sigmoid", "percent", "invert")
"""Values as they are; logits; values from 0 to 100; or P(real) instead of P(fake)."""

MISSING = ("refuse", "count")
"""What to do with an empty score: stop, or count the video as unscored."""


def read_score_tables(
    paths: Sequence[Path],
    *,
    columns: Mapping[str, str | None] = MappingProxyType({}),
    transform: str = "none",
    missing: str = "refuse",
    dataset: str | None = None,
) -> pd.DataFrame:
    """Read and check score tables.

    Args:
        paths: Tables; those without a column `detector` are named after their files.
        columns: The tables' own column name for keys of `COLUMNS`. A pattern with one `*` for the score, such as
            `prob_*`, reads one detector per matching column, named by what the star stands for.
        transform: One of `TRANSFORMS`.
        missing: One of `MISSING`.
        dataset: Name of the dataset of tables without such a column; None for `UNNAMED`.

    Returns:
        One row per score with `detector`, `dataset`, `video_id`, `label`, `score` (NaN if empty), `method`, `group`
        and `split` ("" if not given), `file` and `line`; `frame_index` and `track` only if a table has them.

    Raises:
        ConfigError: An unknown key, transform or policy.
        DatasetError: A table is not readable, empty, or has invalid or contradictory rows, each named.
    """
    _check_options(columns, transform, missing)
    table = pd.concat(
        [
            _read_table(path, columns=columns, transform=transform, missing=missing, dataset=dataset or UNNAMED)
            for path in paths
        ],
        ignore_index=True,
    )
    for name in ("frame_index", "track"):
        if name in table and table[name].isna().any():
            raise DatasetError(f"Some of the score tables have a column for {name}, and some do not: {_quote(paths)}.")
    _check_labels(table)
    _check_duplicates(table)
    return table


def check_apart(judged: pd.DataFrame, chosen_on: pd.DataFrame) -> None:
    """Raise a LeakageError if a video or group of the validation rows is judged too.

    Without the names of both datasets, an equal name is taken for the same video.

    Args:
        judged: Rows that are judged, from `read_score_tables`.
        chosen_on: Rows that the threshold is chosen on.
    """
    by = ["video_id"]
    if UNNAMED not in set(judged["dataset"]) | set(chosen_on["dataset"]):
        by = ["dataset", "video_id"]
    first = chosen_on.drop_duplicates(by)
    shared = first.merge(judged.drop_duplicates(by)[by], on=by)
    problems = [f"video '{row.video_id}' ({row.file}, {row.line})" for row in shared.itertuples()]
    by = [*by[:-1], "group"]
    grouped = chosen_on[chosen_on["group"] != ""].drop_duplicates(by)
    shared = grouped.merge(judged.drop_duplicates(by)[by], on=by)
    problems += [f"group '{row.group}' ({row.file}, {row.line})" for row in shared.itertuples()]
    if problems:
        raise LeakageError(
            f"The threshold would be chosen on data that it is judged on:\n{list_problems(problems)}\n"
            f"Use validation scores of other videos, or give decision.threshold=0.5. Equal names in different datasets "
            f"are told apart by a column for the dataset."
        )


def _check_options(columns: Mapping[str, str | None], transform: str, missing: str) -> None:
    for name in columns:
        if name not in COLUMNS:
            raise ConfigError(
                f"Unknown key columns.{name}.{suggest(name, COLUMNS)} Choose one of: {', '.join(COLUMNS)}."
            )
    for key, value, choices in (("scores_transform", transform, TRANSFORMS), ("missing_scores", missing, MISSING)):
        if value not in choices:
            meant = suggest(value, choices, key=key)
            raise ConfigError(f"Unknown {key} '{value}'.{meant} Choose one of: {', '.join(choices)}.")


def _read_table(
    path: Path, *, columns: Mapping[str, str | None], transform: str, missing: str, dataset: str
) -> pd.DataFrame:
    content, unit, start = _read_file(path)
    header = [str(name) for name in content]
    content.columns = pd.Index(header)
    places = _find_columns(path, header, columns)
    used = content[[column for found in places.values() for column in found]].apply(_as_text)
    numbers = pd.Series(np.arange(start, start + len(used)), index=used.index)
    is_filled = (used != "").any(axis=1)
    used, lines = used[is_filled], f"{unit} " + numbers[is_filled].astype(str)
    if len(used) == 0:
        raise DatasetError(f"The score table '{path}' has no rows.")
    scores = {name: used[name] for name in places.pop("score")}
    texts = {name: used[found[0]] for name, found in places.items()}
    for name in _NEVER_EMPTY:
        if name in texts:
            empty = lines[texts[name] == ""]
            _refuse(path, f"have an empty {name}", [f"{line}: column '{places[name][0]}'" for line in empty])
    rows = pd.DataFrame({"video_id": texts["video"], "label": _read_labels(path, texts["label"], lines)})
    rows["dataset"] = texts.get("dataset", dataset)
    rows["group"] = texts.get("group", "")
    rows["split"] = texts["split"].map(lambda name: read_split(name) or name) if "split" in texts else ""
    usual = pd.Series(np.where(rows["label"] == Label.REAL, ORIGINAL, "fake"), index=rows.index)
    rows["method"] = texts["method"].mask(texts["method"] == "", usual) if "method" in texts else usual
    for name, column in (("frame", "frame_index"), ("track", "track")):
        if name in texts:
            rows[column] = _as_numbers(texts[name])
    rows["file"], rows["line"] = str(path), lines
    detectors = {name: texts.get("detector", path.name.partition(".")[0]) for name in scores}
    if is_wide(columns):
        before, _, after = str(columns["score"]).partition("*")
        detectors |= {name: name[len(before) : len(name) - len(after)] for name in scores}
    return pd.concat(
        [
            rows.assign(detector=detectors[name], score=_read_scores(path, column, lines, transform, missing))
            for name, column in scores.items()
        ],
        ignore_index=True,
    )


def is_wide(columns: Mapping[str, str | None]) -> bool:
    """Tell whether the columns name one score column per detector."""
    return "*" in str(columns.get("score"))


def _read_file(path: Path) -> tuple[pd.DataFrame, str, int]:
    """Return the content, how its rows are counted, and the number of the first one."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if data[:4] == b"PAR1":
            return pd.read_parquet(io.BytesIO(data)), "row", 1
        return _parse_text(data.decode("utf-8-sig")), "line", 2
    except FileNotFoundError as error:
        raise DatasetError(f"No such score table: scores='{path}'.") from error
    except (OSError, EOFError, ValueError, pd.errors.ParserWarning) as error:  # pandas' own errors are ValueErrors
        raise DatasetError(
            f"Cannot read the score table '{path}': {error}. It must be UTF-8 text (csv, tsv) or parquet, gzipped "
            f"or not."
        ) from error


def _parse_text(text: str) -> pd.DataFrame:
    text = text.lstrip("\r\n")
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more cells than the header
        content: pd.DataFrame = pd.read_csv(
            io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, skip_blank_lines=False, index_col=False
        )
    return content.fillna("")


def _as_text(column: "pd.Series[Any]") -> "pd.Series[str]":
    filled = column.astype(object).where(column.notna(), "")
    return filled.map(lambda value: str(value).strip())


def _as_numbers(texts: "pd.Series[str]") -> "pd.Series[Any]":
    """Return whole numbers where all are, so that they sort as such."""
    numbers = pd.to_numeric(texts, errors="coerce")
    is_whole = numbers.notna().all() and (numbers % 1 == 0).all()
    return numbers.astype(np.int64) if is_whole else texts


def _find_columns(path: Path, header: Sequence[str], columns: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Return the table's own name of each column, by the keys of `COLUMNS`."""
    plain = {name.strip().lower(): name for name in reversed(header)}
    found: dict[str, list[str]] = {}
    for name, synonyms in COLUMNS.items():
        own = columns.get(name)
        if own is None:
            known = [plain[synonym] for synonym in synonyms if synonym in plain][:1]
        elif name == "score" and own.count("*") == 1:
            known = [column for column in header if fnmatchcase(column, own)]
        else:
            known = [column for column in header if column.strip() == own]
        if own is not None and not known:
            raise DatasetError(
                f"columns.{name}='{own}' is not in the score table '{path}', whose columns are "
                f"{quote_some(list(header), limit=40)}."
            )
        if known:
            found[name] = known
    lacking = [name for name in _REQUIRED if name not in found]
    if lacking:
        raise DatasetError(
            f"The score table '{path}' has no column {' and '.join(lacking)}; its columns are "
            f"{quote_some(list(header), limit=40)}. Choose one: " + " ".join(f"columns.{name}=..." for name in lacking)
        )
    if is_wide(columns) and "detector" in found:
        raise ConfigError(
            f"The pattern '{columns['score']}' of columns.score names a detector per column; '{path}' has the column "
            f"'{found['detector'][0]}' for it too. Choose one score column."
        )
    return found


def _read_labels(path: Path, texts: "pd.Series[str]", lines: "pd.Series[str]") -> "pd.Series[int]":
    labels = texts.str.lower().map(MEANINGS)
    unknown = labels.isna()
    _refuse(
        path,
        "have an unknown label; labels are 0 or real, 1 or fake",
        [f"{line}: '{text}'" for line, text in zip(lines[unknown], texts[unknown], strict=True)],
    )
    return labels.astype(int)


def _read_scores(
    path: Path, texts: "pd.Series[str]", lines: "pd.Series[str]", transform: str, missing: str
) -> npt.NDArray[np.float64]:
    is_empty = texts.str.lower().isin(_EMPTY).to_numpy(bool)

    def refuse(is_refused: npt.NDArray[np.bool_], what: str) -> None:
        found = zip(lines[is_refused], texts[is_refused], strict=True)
        _refuse(path, what, [f"{line}: column '{texts.name}', '{text}'" for line, text in found])

    if missing == "refuse":
        refuse(is_empty, "have no score; missing_scores=count counts their videos as unscored")
    values = pd.to_numeric(texts.where(~is_empty), errors="coerce").to_numpy(np.float64)
    refuse(~is_empty & ~np.isfinite(values), "have a score that is not a number")
    scores = _transform(values, transform)
    refuse(
        ~is_empty & ~((scores >= 0) & (scores <= 1)),
        "have a score outside 0 to 1, where 1 is fake; scores_transform=sigmoid maps logits, scores_transform=percent "
        "maps 0 to 100, scores_transform=invert maps P(real)",
    )
    return scores


def _transform(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    if name == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-np.clip(values, -500, 500))))
    if name == "percent":
        return values / 100
    return 1 - values if name == "invert" else values


def _refuse(path: Path, what: str, problems: Sequence[str]) -> None:
    if problems:
        raise DatasetError(f"{len(problems)} rows of '{path}' {what}:\n{list_problems(problems)}")


def _check_labels(table: pd.DataFrame) -> None:
    seen = table.drop_duplicates(["dataset", "video_id", "label"])
    twice = seen[seen.duplicated(["dataset", "video_id"], keep=False)].sort_values(["dataset", "video_id", "label"])
    if len(twice):
        names = twice["label"].map(lambda label: Label(label).name.lower())
        places = zip(twice["video_id"], names, twice["file"], twice["line"], strict=True)
        problems = [f"'{video}': {label} in '{file}', {line}" for video, label, file, line in places]
        raise DatasetError(
            f"{len(twice) // 2} videos have both labels:\n{list_problems(problems)}\n"
            f"If these are different videos, add the folder or method to their names, or name the column "
            f"of their datasets with columns.dataset."
        )


def _check_duplicates(table: pd.DataFrame) -> None:
    keys = [name for name in ("detector", "dataset", "video_id", "frame_index", "track") if name in table]
    is_double = table.duplicated(keys)
    if not is_double.any():
        return
    again = table[is_double]
    problems = [
        f"'{row.video_id}'" + (f", frame {row.frame_index}" if "frame_index" in table else "")
        + f" of detector '{row.detector}': again in '{row.file}', {row.line}"
        for row in again.head(11).itertuples()
    ]  # fmt: skip
    frames = (
        ""
        if "frame_index" in table
        else " If the rows are frames, name the column of their numbers with columns.frame."
    )
    shown = list_problems(problems[:10]) + (f"\n  ... and {len(again) - 10} more" if len(again) > 10 else "")
    raise DatasetError(
        f"{len(again)} rows repeat a video that has a score already:\n{shown}\nKeep one of each.{frames}"
    )


def _quote(paths: Sequence[Path]) -> str:
    return quote_some([str(path) for path in paths], limit=10)
