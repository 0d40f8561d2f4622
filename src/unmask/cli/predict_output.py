"""What `predict.py` writes and prints."""

import csv
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

    from unmask.inference.results import Prediction

_COLOURS = {"fake": "red", "real": "green", "uncertain": "yellow", "no_face": "dim"}

_COLUMNS = ("path", "kind", "verdict", "score", "threshold", "faces", "frames", "notes", "error")


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
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    # A file name need not be UTF-8. The escapes of Python's stand-ins for such bytes are those of JSON too.
    path.write_bytes(text.encode("utf-8", "backslashreplace"))


def _write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a row per file, with the numbers of its faces and frames."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            counts = {"faces": len(row["faces"]), "frames": len(row["frames"])}
            cells = {"path": _no_formula(row["path"]), "notes": " ".join(row["notes"])}
            writer.writerow(row | counts | cells)


def _no_formula(path: str) -> str:
    """Return the same path so that no spreadsheet takes it for a formula and runs it."""
    return f"./{path}" if path.startswith(("=", "+", "-", "@", "\t", "\r")) else path


def print_table(predictions: "Sequence[Prediction]") -> None:
    """Print a row per file, one per face where there are several, and below what else there is to say."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("verdict")
    for heading in ("score", "threshold", "faces", "frames"):
        table.add_column(heading, justify="right")
    for row in predictions:
        path = Text(_printable(row.path))
        if row.verdict is None:
            table.add_row(path, Text("error", style="red"), "", "", "", "")
            continue
        frames = f"{sum(bool(frame.faces) for frame in row.frames)}/{len(row.frames)}"
        table.add_row(path, _colour(row.verdict), _show(row.score), f"{row.threshold:.4f}", str(len(row.faces)), frames)
        for face in row.faces if len(row.faces) > 1 else ():
            name = Text(f"  face {face.track}" + ("" if face.decides else " (too brief to decide)"), style="dim")
            table.add_row(name, _colour(face.verdict), _show(face.score), "", "", str(face.num_frames))
    console = Console()
    console.print(table)
    for row in predictions:
        for note in row.notes:
            text = f"note: '{_printable(row.path)}': {note}"
            console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
        if row.error:
            text = f"error: {_printable(row.error)}"
            console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


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


def _show(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
