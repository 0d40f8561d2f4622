"""Tables of results to take away."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from unmask.forgeries import SourceRecord, name_sources
from unmask.web.app.loading import Model
from unmask.web.app.views import Looked

COLUMNS = (
    "path", "kind", "verdict", "headline", "reason", "score", "threshold", "probability", "faces", "num_examined",
    "num_frames", "notes", "warning", "trained_on", "error", "sha256", "model", "model_made",
)  # fmt: skip
"""Those of `predictions.csv`, and what a record of the check needs: of which file, by which model."""


def list_rows(model: Model, files: Sequence[Looked]) -> list[dict[str, Any]]:
    """Return a row per file as plain values: what `predictions.json` holds, and what a record needs."""
    return [
        looked.prediction.to_dict()
        | {
            "sha256": looked.sha256,
            "model": model.title,
            "model_made": model.file.made,
            "run_id": model.provenance.get("run_id"),
        }
        for looked in files
    ]


def write_json(model: Model, files: Sequence[Looked]) -> str:
    """Return the rows with all faces and frames as JSON."""
    return json.dumps(list_rows(model, files), indent=2, ensure_ascii=False) + "\n"


def write_csv(model: Model, files: Sequence[Looked]) -> str:
    """Return a row per file as CSV, with the numbers of its faces and frames."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in list_rows(model, files):
        trained_on = name_sources(map(SourceRecord.from_dict, row["trained_on"]))
        cells = {"faces": len(row["faces"]), "notes": " ".join(row["notes"]), "trained_on": trained_on}
        writer.writerow({key: _defuse(value) for key, value in (row | cells).items()})
    return text.getvalue()


def _defuse(value: Any) -> Any:
    """Keep a spreadsheet from running a name such as `=HYPERLINK(...)` as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
