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

_COLUMNS = (
    "path", "kind", "verdict", "headline", "score", "threshold", "probability", "faces", "num_examined",
    "num_frames", "notes", "warning", "trained_on", "error",
)  # fmt: skip


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
        "warnings": list(dict.fromkeys(row["warning"] for row in rows if row["warning"])),
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
    from unmask.forgeries import SourceRecord, name_sources
    from unmask.media.picture import write_bytes

    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        cells = {
            "path": _no_formula(row["path"]),
            "notes": " ".join(row["notes"]),
            "faces": len(row["faces"]),
            "trained_on": _no_formula(name_sources(map(SourceRecord.from_dict, row["trained_on"]))),
        }
        writer.writerow(row | cells)
    write_bytes(path, file.getvalue().encode("utf-8", "backslashreplace"))


def _no_formula(path: str) -> str:
    """Return the same path, or another name from outside, so that no spreadsheet takes it for a formula and runs it."""
    return f"./{path}" if path.startswith(("=", "+", "-", "@", "\t", "\r")) else path


def print_table(predictions: "Sequence[Prediction]") -> None:
    """Print a row per file, one per face where there are several, and below what else there is to say.

    First comes what the model was trained on where that makes its verdicts doubtful: it holds for every row.
    """
    from rich.console import Console

    console = Console()
    for warning in dict.fromkeys(row.warning for row in predictions if row.warning and row.error is None):
        text = f"warning: {_printable(warning)}"
        console.print(text, style="bold yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(_make_table(predictions))
    for row in predictions:
        notes = [f"'{row.path}': {row.headline}. {row.reason}"] if _needs_words(row) else []
        for note in notes + [f"note: '{row.path}': {note}" for note in row.notes]:
            console.print(_printable(note), style="yellow", markup=False, highlight=False, soft_wrap=True)
        if row.error:
            text = f"error: {_printable(row.error)}"
            console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def _make_table(predictions: "Sequence[Prediction]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from unmask.decision import show_score
    from unmask.inference.words import name_face, show_probability

    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("verdict")
    # Only a model that was calibrated on its validation split knows how probable a fake is.
    is_calibrated = any(row.probability is not None for row in predictions)
    for heading in ("score", "threshold", *["P(fake)"] * is_calibrated, "faces", "with a face", "examined"):
        table.add_column(heading, justify="right")
    for row in predictions:
        path = Text(_printable(row.path))
        if row.verdict is None:
            table.add_row(path, Text("error", style="red"))
            continue
        chance = [show_probability(row.probability)] * is_calibrated
        frames = (str(sum(bool(frame.faces) for frame in row.frames)), f"{row.num_examined} of {row.num_frames}")
        numbers = (show_score(row.score), show_score(row.threshold), *chance, str(len(row.faces)), *frames)
        table.add_row(path, _colour(row.verdict), *numbers)
        for face in row.faces if len(row.faces) > 1 else ():
            name = Text(f"  {name_face(face.track)}" + ("" if face.decides else " (does not decide)"), style="dim")
            numbers = (show_score(face.score), "", *[""] * is_calibrated, "", str(face.num_frames), "")
            table.add_row(name, _colour(face.verdict), *numbers)
    return table


def _needs_words(row: "Prediction") -> bool:
    """Tell whether a verdict needs more than its row: it is undecided, or something speaks against it."""
    odd = [face for face in row.faces if not face.decides and face.verdict != "real"]
    return bool(row.verdict == "uncertain" or row.suspicious or odd)


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
