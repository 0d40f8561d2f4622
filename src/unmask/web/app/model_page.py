"""The page about a model: its training, its evaluations, and where it fails."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from unmask.decision import show_score
from unmask.forgeries import name_sources
from unmask.paths import show_command
from unmask.web.app.models import Model, Settings, place_of
from unmask.web.app.panels import show_model_line, warn_of_models
from unmask.web.app.views import NO_PROOF, code, explain_numbers, plain, say_who_decides


@dataclass(frozen=True)
class Evaluated:
    """Figures of a model on a dataset.

    Args:
        dataset: Name of the dataset.
        split: Split of the dataset.
        figures: `frame`, `video`, `by_method` and `coverage` as in `result.json`.
        path: Path of the `result.json`.
    """

    dataset: str
    split: str
    figures: dict[str, Any]
    path: Path


def read_training(model: Path) -> dict[str, Any]:
    """Return the `result.json` of the run that contains a bundle or checkpoint; empty if there is none."""
    run = model.parent.parent if model.suffix in (".ckpt", ".onnx", ".json") else model.parent
    result = _read(run / "result.json")
    return result if "best_checkpoint" in result else {}


def read_dataset(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the `dataset.json` that a model was trained on; empty if it is missing or was prepared again since."""
    root = provenance.get("dataset_root")
    found = _read(Path(root) / "dataset.json") if isinstance(root, str) and root else {}
    same = found.get("preprocessing_hash") == provenance.get("preprocessing_hash")
    return found if same and found.get("name") == provenance.get("dataset") else {}


def find_evaluations(run_id: str | None, checkpoint: str | None, folders: Iterable[Path]) -> list[Evaluated]:
    """Find a model's evaluations by `evaluate.py`, newest first.

    Args:
        run_id: ID of its training run.
        checkpoint: Path of its checkpoint.
        folders: Folders to search recursively.
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
    """Return the modification time of a file; 0 if it has been deleted meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def show_model_page(model: Model, settings: Settings) -> None:
    """Show where a model fails, its training data, its figures and how it decides.

    Args:
        model: Model chosen in the sidebar.
        settings: Settings of the app.
    """
    st.title("About the model", anchor=False)
    show_model_line(model)
    training = read_training(model.path)
    checkpoint = training.get("best_checkpoint") if model.path.suffix != ".ckpt" else str(model.path)
    evaluations = find_evaluations(model.provenance.get("run_id"), checkpoint, settings.folders)
    _show_limits(model, evaluations)
    _show_origin(model)
    _show_figures(training, evaluations, checkpoint)
    _show_decision(model)


def _show_limits(model: Model, evaluations: list[Evaluated]) -> None:
    st.subheader("Where it fails", anchor=False)
    warn_of_models(model)
    points = [_say_weakest(evaluated) for evaluated in evaluations if _by_method(evaluated)]
    if not evaluations:
        points.append("Its error rate is **unknown**: no evaluation of it was found on this machine (see below).")
    points += [
        "It knows the forgery methods that it was trained on. Others, such as newer methods or fully generated "
        "images, may look real to it.",
        "It was not tested here on images sent through messengers or social media: expect more errors on material "
        "that was compressed, scaled or filmed off a screen.",
        "It examines faces only: not sound, text, hands, identity or place.",
        NO_PROOF,
    ]
    st.markdown("\n".join(f"- {point}" for point in points))


def _show_origin(model: Model) -> None:
    st.subheader("What it was trained on", anchor=False)
    known, dataset = model.provenance, read_dataset(model.provenance)
    counts = dataset.get("counts", {})
    rows = {
        "Dataset": known.get("dataset"),
        "Sources": name_sources(model.predictor.trained_on),
        "Videos": ", ".join(f"{number} {outcome}" for outcome, number in counts.get("videos", {}).items()),
        "Crops for training": _list(counts.get("faces_by_split", {}).get("train", {})),
        "Crops by method": _list(counts.get("faces_by_method", {})),
        "Run": " ".join(filter(None, [model.run_name, known.get("run_id") and f"(id {known['run_id']})"])),
        "Commit": known.get("commit"),
        "Uncommitted changes": _yes_or_no(known.get("is_dirty")),
        "Seed": known.get("seed"),
        "Unmask": known.get("unmask_version"),
    }
    if dataset:  # another machine, perhaps public, must not reveal paths of this one
        rows["Folder"] = known.get("dataset_root")
    _show_pairs(rows)
    if not dataset:
        st.caption(
            "The dataset itself is not on this machine, so its methods and counts are unknown here. The model file "
            "records its folder and the training command."
        )
    elif known.get("command"):
        st.code(str(known["command"]), language="bash", wrap_lines=True)


def _yes_or_no(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def _list(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _show_figures(training: dict[str, Any], evaluations: list[Evaluated], checkpoint: str | None) -> None:
    st.subheader("How good it was", anchor=False)
    metrics = {
        key: value for key, value in training.get("metrics", {}).items() if key.startswith("val/") and key != "val/loss"
    }
    if metrics:
        st.markdown(
            "On the validation split, which also selected the best epoch and the threshold, so slightly optimistic:"
        )
        _show_pairs({key: f"{value:.3f}" for key, value in sorted(metrics.items())})
    for evaluated in evaluations:
        st.markdown(f"On {code(evaluated.dataset)}, split {code(evaluated.split)}, by `evaluate.py`:")
        st.dataframe(_rows(evaluated), hide_index=True, column_config=_columns())
        coverage = evaluated.figures.get("coverage")
        if isinstance(coverage, dict):
            st.caption(_say_coverage(coverage))
    if not evaluations:
        st.markdown("No evaluation of it was found on this machine. To get figures per method, run:")
        named = place_of(checkpoint) if checkpoint else ""
        named = named if named.endswith(".ckpt") else "outputs/train/<run>/checkpoints/best.ckpt"
        st.code(
            show_command("evaluate.py", f"checkpoint={named}", "dataset.root=data/celebdf"),
            language="bash",
            wrap_lines=True,
        )


def _by_method(evaluated: Evaluated) -> list[tuple[float, str]]:
    methods = evaluated.figures.get("by_method", {})
    found = [(values.get("video", {}).get("auroc"), str(name)) for name, values in methods.items()]
    return sorted((value, name) for value, name in found if value is not None)


def _say_weakest(evaluated: Evaluated) -> str:
    value, name = _by_method(evaluated)[0]
    return (
        f"Of the methods tested in {code(evaluated.dataset)} it is weakest on {code(name)}: ROC-AUC {value:.3f} per "
        f"video, where 0.5 is guessing and 1 is perfect."
    )


def _say_coverage(coverage: dict[str, Any]) -> str:
    scored = f"{coverage.get('num_scored')} of {coverage.get('num_videos')} could be scored"
    others = {name: number for name, number in coverage.get("outcomes", {}).items() if name != "ok"}
    return plain(scored + (f"; {_list(others)}" if others else "") + ".")


def _rows(evaluated: Evaluated) -> list[dict[str, Any]]:
    parts = {"all": evaluated.figures, **evaluated.figures.get("by_method", {})}
    return [
        {
            "fakes made by": name,
            "video ROC-AUC": part.get("video", {}).get("auroc"),
            "balanced accuracy": part.get("video", {}).get("balanced_accuracy"),
            "frame ROC-AUC": part.get("frame", {}).get("auroc"),
        }
        for name, part in parts.items()
    ]


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn(format="%.3f")
    return dict.fromkeys(("video ROC-AUC", "balanced accuracy", "frame ROC-AUC"), number)


def _show_decision(model: Model) -> None:
    st.subheader("How it decides", anchor=False)
    predictor = model.predictor
    spec, size = predictor.crop_spec, predictor.input_spec.size
    aligned = ", rotated to level the eyes" if spec.aligned else ""
    _show_pairs(
        {
            "Network": f"{model.network}, {size} x {size} px input",
            "Runs on": "ONNX Runtime" if predictor.backend.name == "onnx" else "PyTorch",
            "Face detector": spec.detector,
            "Crop": f"square, {spec.margin:g} times the width of the face{aligned}, {spec.crop_size} px",
            "Frames per video": predictor.num_frames,
            "Video score": f"{predictor.decision.aggregation} of the frames of {say_who_decides(predictor.deciding)}",
            "Threshold": f"{show_score(predictor.decision.threshold)}",
            "Preprocessing": spec.hash,
        }
    )
    with st.expander("What score, threshold, probability and verdict mean", icon=":material/info:"):
        rules = predictor.decision, predictor.deciding
        st.markdown(explain_numbers(*rules, num_frames=predictor.num_frames, margin=predictor.margin))


def _show_pairs(rows: dict[str, Any]) -> None:
    """Show names and values as a two-column table, which fits a phone; missing values are shown as unknown."""
    lines = [f"| {plain(name)} | {_value(value)} |" for name, value in rows.items()]
    st.markdown("\n".join(["| | |", "|---|---|", *lines]))


def _value(value: Any) -> str:
    return "*unknown*" if value in (None, "") else plain(value)
