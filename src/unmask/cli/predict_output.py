"""What `predict.py` writes and prints."""

import csv
import io
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from unmask.inference.results import Prediction

_COLOURS = {"fake": "red", "real": "green", "uncertain": "yellow", "no_face": "dim"}

_MOST_STRETCHES = 5

_COLUMNS = ("path", "kind", "verdict", "score", "threshold", "probability", "faces", "frames", "notes", "error")


def write_predictions(
    predictions: "Sequence[Prediction]",
    folder: Path,
    *,
    checkpoint: str,
    names: Sequence[str],
    extras: dict[str, list[str]],
) -> None:
    """Write `predictions.json`, `predictions.csv` and `result.json`.

    Args:
        predictions: A row each.
        folder: Of the run.
        checkpoint: As given.
        names: Of files, folders and patterns, as given.
        extras: Further files that were written, by path of the input.
    """
    from collections import Counter

    rows = [prediction.to_dict() for prediction in predictions]
    _write_json(rows, folder / "predictions.json")
    _write_csv(rows, folder / "predictions.csv")
    result = {
        "checkpoint": str(checkpoint),
        "inputs": list(names),
        "files": len(rows),
        "verdicts": dict(Counter(row["verdict"] for row in rows if row["verdict"])),
        "errors": sum(row["error"] is not None for row in rows),
        "predictions": str(folder / "predictions.json"),
        "table": str(folder / "predictions.csv"),
        "saved": extras,
    }
    _write_json(result, folder / "result.json")


def _write_json(values: Any, path: Path) -> None:
    from unmask.media.picture import write_bytes

    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    # A file name need not be UTF-8. The escapes of Python's stand-ins for such bytes are those of JSON too.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def _write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a row per file, with the numbers of its faces and frames."""
    from unmask.media.picture import write_bytes

    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        counts = {"faces": len(row["faces"]), "frames": len(row["frames"])}
        cells = {"path": _no_formula(row["path"]), "notes": " ".join(row["notes"])}
        writer.writerow(row | counts | cells)
    write_bytes(path, file.getvalue().encode("utf-8", "backslashreplace"))


def _no_formula(path: str) -> str:
    """Return the same path so that no spreadsheet takes it for a formula and runs it."""
    return f"./{path}" if path.startswith(("=", "+", "-", "@", "\t", "\r")) else path


def print_table(predictions: "Sequence[Prediction]") -> None:
    """Print a row per file, one per face where there are several, and below what else there is to say."""
    from rich.console import Console

    console = Console()
    console.print(_make_table(predictions))
    for row in predictions:
        stretches = _describe_stretches(row)
        notes = [f"suspicious: '{row.path}': {stretches}"] if stretches else []
        for note in notes + [f"note: '{row.path}': {note}" for note in row.notes]:
            console.print(_printable(note), style="yellow", markup=False, highlight=False, soft_wrap=True)
        if row.error:
            text = f"error: {_printable(row.error)}"
            console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def _make_table(predictions: "Sequence[Prediction]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("verdict")
    # Only a model that was calibrated on its validation split knows how probable a fake is.
    is_calibrated = any(row.probability is not None for row in predictions)
    for heading in ("score", "threshold", *["P(fake)"] * is_calibrated, "faces", "frames"):
        table.add_column(heading, justify="right")
    for row in predictions:
        path = Text(_printable(row.path))
        if row.verdict is None:
            table.add_row(path, Text("error", style="red"))
            continue
        chance = [_show(row.probability, "{:.0%}")] * is_calibrated
        frames = f"{sum(bool(frame.faces) for frame in row.frames)}/{len(row.frames)}"
        numbers = (_show(row.score), f"{row.threshold:.4f}", *chance, str(len(row.faces)), frames)
        table.add_row(path, _colour(row.verdict), *numbers)
        for face in row.faces if len(row.faces) > 1 else ():
            name = Text(f"  face {face.track}" + ("" if face.decides else " (does not decide)"), style="dim")
            numbers = (_show(face.score), "", *[""] * is_calibrated, "", str(face.num_frames))
            table.add_row(name, _colour(face.verdict), *numbers)
    return table


def _describe_stretches(row: "Prediction") -> str:
    """Say which parts of a video score as fake, the most fake first."""
    ranges = sorted(row.suspicious, key=lambda stretch: -stretch.score)
    parts = []
    for stretch in ranges[:_MOST_STRETCHES]:
        start, end = f"{stretch.start_seconds:.1f}", f"{stretch.end_seconds:.1f}"
        parts.append(f"{start if start == end else f'{start} to {end}'} s ({stretch.score:.2f})")
    if len(ranges) > _MOST_STRETCHES:
        parts.append(f"and {len(ranges) - _MOST_STRETCHES} more in predictions.json")
    return ", ".join(parts)


def _printable(text: str) -> str:
    """Write what would steer a terminal, turn the text around or not be UTF-8 as an escape."""
    is_odd = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return "".join(
        character.encode("unicode_escape").decode("ascii") if unicodedata.category(character) in is_odd else character
        for character in text
    )


def _colour(verdict: str) -> "Text":
    from rich.text import Text

    return Text(str(verdict), style=_COLOURS[str(verdict)])


def _show(score: float | None, pattern: str = "{:.4f}") -> str:
    return "-" if score is None else pattern.format(score)
