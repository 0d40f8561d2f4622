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
from unmask.web.app.words import NO_PROOF, code, explain_numbers, plain, say_who_decides


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


def show_model_page(model: Model, settings: Settings) -> None:
    """Show where a model comes from, how it decides, how good it was, and where it fails.

    Args:
        model: The one chosen in the side bar.
        settings: Of the app.
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
        points.append("How often it errs is **unknown**: no evaluation of it was found on this machine (see below).")
    points += [
        "It knows the methods of forging that it was trained on. What it was not shown, such as fakes of a newer "
        "method or whole images made by a generator, may look real to it.",
        "It was not measured here on images that were sent through messengers or social media: expect more errors on "
        "what was compressed, scaled or filmed off a screen.",
        "It looks at faces alone: not at sound, text, hands, or at who or where somebody is.",
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
    if dataset:  # on another machine, which may show the app to anyone, paths of this one are nobody's business
        rows["Folder"] = known.get("dataset_root")
    _show_pairs(rows)
    if not dataset:
        st.caption(
            "The dataset itself is not on this machine, so its methods and numbers are not known here. Its folder and "
            "the command of the training stand in the file of the model."
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
            "On the validation split, by which the best epoch and the threshold were chosen, so a little flattering:"
        )
        _show_pairs({key: f"{value:.3f}" for key, value in sorted(metrics.items())})
    for evaluated in evaluations:
        st.markdown(f"On {code(evaluated.dataset)}, split {code(evaluated.split)}, by `evaluate.py`:")
        st.dataframe(_rows(evaluated), hide_index=True, column_config=_columns())
        coverage = evaluated.figures.get("coverage")
        if isinstance(coverage, dict):
            st.caption(_say_coverage(coverage))
    if not evaluations:
        st.markdown("Nobody has evaluated it yet, as far as this machine knows. Figures per method come from:")
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
        f"Of the methods it was tested on in {code(evaluated.dataset)} it is weakest on {code(name)}: ROC-AUC "
        f"{value:.3f} per video, where 0.5 is guessing and 1 is perfect."
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
    aligned = ", turned so that the eyes lie level" if spec.aligned else ""
    _show_pairs(
        {
            "Network": f"{model.network}, sees {size} x {size} px",
            "Runs on": "ONNX Runtime" if predictor.backend.name == "onnx" else "PyTorch",
            "Face detector": spec.detector,
            "Crop": f"square, {spec.margin:g} times as wide as the face{aligned}, {spec.crop_size} px",
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
    """Show names and values below each other, which fits a phone; what is not known is said to be unknown."""
    lines = [f"| {plain(name)} | {_value(value)} |" for name, value in rows.items()]
    st.markdown("\n".join(["| | |", "|---|---|", *lines]))


def _value(value: Any) -> str:
    return "*unknown*" if value in (None, "") else plain(value)
