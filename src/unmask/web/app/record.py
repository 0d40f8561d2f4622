"""What is on disk about a model: its training, its data, its evaluations."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Evaluated:
    """Figures of a model on a dataset.

    Args:
        dataset: Its name.
        split: Of the dataset.
        figures: `frame`, `video`, `by_method` and `coverage` as in `result.json`.
        path: Of the `result.json`.
    """

    dataset: str
    split: str
    figures: dict[str, Any]
    path: Path


def read_training(model: Path) -> dict[str, Any]:
    """Return the `result.json` of the run that a bundle or checkpoint lies in; empty where there is none."""
    run = model.parent.parent if model.suffix in (".ckpt", ".onnx", ".json") else model.parent
    result = _read(run / "result.json")
    return result if "best_checkpoint" in result else {}


def read_dataset(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the `dataset.json` that a model was trained on; empty where it is gone, or was prepared anew since."""
    root = provenance.get("dataset_root")
    found = _read(Path(root) / "dataset.json") if isinstance(root, str) and root else {}
    same = found.get("preprocessing_hash") == provenance.get("preprocessing_hash")
    return found if same and found.get("name") == provenance.get("dataset") else {}


def find_evaluations(run_id: str | None, checkpoint: str | None, folders: Iterable[Path]) -> list[Evaluated]:
    """Find what `evaluate.py` wrote of a model, newest first.

    Args:
        run_id: Of its training.
        checkpoint: Its file.
        folders: Searched to the bottom.
    """
    paths = [path for folder in folders for path in folder.glob("**/result.json")]
    found = []
    for path in sorted(paths, key=_written, reverse=True):
        result = _read(path)
        if isinstance(result.get("datasets"), dict) and _is_of(result.get("provenance"), run_id, checkpoint):
            found += [
                Evaluated(str(name), str(figures.get("split", "test")), figures, path)
                for name, figures in result["datasets"].items()
                if isinstance(figures, dict)
            ]
    return found


def _is_of(provenance: Any, run_id: str | None, checkpoint: str | None) -> bool:
    if not isinstance(provenance, dict):
        return False
    if run_id and provenance.get("training: run id") == run_id:
        return True
    named = provenance.get("checkpoint")
    return bool(checkpoint and named) and Path(str(named)).resolve() == Path(str(checkpoint)).resolve()


def _written(path: Path) -> float:
    """When a file was written; one that was deleted since it was found comes last, and holds nothing."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; what is absent or damaged holds nothing."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
