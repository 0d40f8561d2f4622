"""Write the model card of an evaluated checkpoint, in the format of the Hugging Face Hub, from its `result.json`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unmask.decision import show_score
from unmask.errors import ConfigError
from unmask.evaluation.report import TRAINING
from unmask.forgeries import Forgeries
from unmask.page import show_figure
from unmask.paths import write_bytes

CARD = "model_card.md"

_METRICS = {
    "auroc": ("roc_auc", "ROC-AUC"),
    "auprc": ("average_precision", "PR-AUC"),
    "accuracy": ("accuracy", "Accuracy"),
    "balanced_accuracy": ("balanced_accuracy", "Balanced accuracy"),
    "precision": ("precision", "Precision"),
    "recall": ("recall", "Recall"),
    "f1": ("f1", "F1"),
}
"""Type and name of each metric on the card."""

_LEVELS = {"video": "video-classification", "frame": "image-classification"}
"""Task of the Hub for each level."""

_ORIGINS = {
    Forgeries.DRAWN: "Unmask drew its faces and forged them: it demonstrates the pipeline, and nothing else",
    Forgeries.SELF_MADE: "Unmask made its forgeries from real faces",
    Forgeries.EXTERNAL: "others made its forgeries",
    Forgeries.UNKNOWN: "there is no record of who made its forgeries",
}

_USE = """\
## Intended use

The model estimates whether the face in an image or video is forged. It is meant for research on deepfake detectors, for
comparing them, and as one hint among others for a person who examines a file.

It is not meant as the only ground for a decision about a person, for proof that a file is authentic, for sound, or for
images without a face. It does not recognise who is shown.
"""

_LIMITS = """\
- Figures hold for forgeries like those evaluated below. Methods that the training did not have may go unnoticed.
- A score is not the probability that a file is forged: that also depends on how common forgeries are.
- Compression, scaling and filters of platforms change scores.
- Inputs without a face that the detector finds get no score; the figures leave them out, and the coverage counts them.
"""


def write_card(result: Path) -> Path:
    """Write the card beside the `result.json` of an evaluation, and return its path.

    Args:
        result: Path of the `result.json`.

    Raises:
        ConfigError: It is of score tables, which say nothing about a model's training.
    """
    path = result.with_name(CARD)
    write_bytes(path, render_card(json.loads(result.read_text(encoding="utf-8"))).encode())
    return path


def render_card(result: Mapping[str, Any]) -> str:
    """Return the card: a metadata block in YAML, and Markdown.

    Args:
        result: Content of `result.json`.

    Raises:
        ConfigError: It is of score tables.
    """
    import yaml

    if result.get("checkpoint") is None:
        raise ConfigError("A model card needs a checkpoint: score tables say nothing about how a model was trained.")
    block = yaml.safe_dump(describe_card(result), sort_keys=False, allow_unicode=True, width=1000)
    parts = [
        f"# {_plain(_name(result))}",
        f"A detector of deepfake faces: {_plain(result['model'])}.",
        *(f"> {_plain(note)}" for note in result["notes"]),
        _USE.rstrip(),
        "## Limits\n\n" + _LIMITS.rstrip(),
        "## Training data\n\n" + "\n".join(_list_sources(result["trained_on"])),
        "## Preprocessing\n\n" + "\n".join(_list_preprocessing(result["preprocessing"])),
        "## Decision\n\n" + "\n".join(_list_decision(result["decision"])),
        *(_describe_dataset(name, figures) for name, figures in result["datasets"].items()),
        "## Origin\n\n" + "\n".join(_list_origin(result["provenance"])),
    ]
    return f"---\n{block}---\n\n" + "\n\n".join(parts) + "\n"


def describe_card(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata block as plain values, with the figures as a `model-index`.

    Args:
        result: Content of `result.json`.
    """
    results: list[dict[str, Any]] = []
    for name, figures in result["datasets"].items():
        for level, task in _list_levels(figures):
            metrics = [
                {"type": kind, "name": f"{shown} per {level}", "value": figures[level][key]}
                for key, (kind, shown) in _METRICS.items()
                if figures[level].get(key) is not None
            ]
            results.append(
                {
                    "task": {"type": task, "name": f"Deepfake detection per {level}"},
                    "dataset": {"name": name, "type": name, "split": figures["split"]},
                    "metrics": metrics,
                }
            )
    return {
        "library_name": "unmask",
        "pipeline_tag": "image-classification",
        "tags": ["deepfake-detection", "face-forgery-detection"],
        "metrics": sorted({metric["type"] for entry in results for metric in entry["metrics"]}),
        "model-index": [{"name": _name(result), "results": results}],
    }


def _name(result: Mapping[str, Any]) -> str:
    return str(result["provenance"].get(f"{TRAINING}run name") or result["network"])


def _list_levels(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the levels that differ, with their tasks; of single images, `video` means the image."""
    if figures["unit"] == "image":
        return [("video", _LEVELS["frame"])]
    return [(level, task) for level, task in _LEVELS.items() if figures.get(level) is not None]


def _list_sources(trained_on: list[dict[str, str]]) -> Iterator[str]:
    for source in trained_on:
        kind = Forgeries(source["forgeries"])
        yield f"- {_plain(source['name'])}: {_ORIGINS[kind]}."


def _list_preprocessing(preprocessing: Mapping[str, Any]) -> Iterator[str]:
    yield f"Training, evaluation and prediction find, cut out and resize a face alike ({preprocessing['hash']}):\n"
    for part in ("crop", "input"):
        for key, value in preprocessing[part].items():
            yield f"- {part} {key.replace('_', ' ')}: `{_plain(value)}`"


def _list_decision(decision: Mapping[str, Any]) -> Iterator[str]:
    is_chosen = decision["criterion"] != "default"
    origin = (
        f"chosen by {decision['criterion'].replace('_', ' ')} on the validation split" if is_chosen else "the default"
    )
    yield f"- A score of at least {show_score(decision['threshold'])} counts as fake ({origin})."
    yield f"- The score of a video is the {decision['aggregation']} of its frame scores."


def _describe_dataset(name: str, figures: Mapping[str, Any]) -> str:
    levels = [level for level, _ in _list_levels(figures)]
    coverage, unit = figures["coverage"], figures["unit"]
    lines = [
        f"## Evaluation on {_plain(name)}, {figures['split']} split\n",
        f"{coverage['num_scored']} of {coverage['num_videos']} {unit}s have a score. Fake is the positive class.\n",
        "| metric | " + " | ".join(f"per {unit if level == 'video' else level}" for level in levels) + " |",
        "|---|" + "---|" * len(levels),
    ]
    for key, (_, shown) in _METRICS.items():
        lines.append(f"| {shown} | " + " | ".join(_show(figures[level], key) for level in levels) + " |")
    counts = (f"{figures[level]['num_real']} / {figures[level]['num_fake']}" for level in levels)
    lines.append(f"| real / fake | {' | '.join(counts)} |")
    methods = {method: entry["video"] for method, entry in figures["by_method"].items()}
    if methods:
        lines += ["", f"| forgery method | {unit}s | ROC-AUC | recall |", "|---|---|---|---|"]
        for method, video in methods.items():
            values = (video["num_fake"], show_figure(video["auroc"]), show_figure(video["recall"]))
            lines.append(f"| {_plain(method)} | " + " | ".join(map(str, values)) + " |")
    return "\n".join(lines)


def _show(figures: Mapping[str, Any], key: str) -> str:
    """Return a metric, with its interval if there is one."""
    interval = (figures.get("intervals") or {}).get(key)
    shown = show_figure(figures[key])
    return f"{shown} ({show_figure(interval['low'])} to {show_figure(interval['high'])})" if interval else shown


_LOCAL = frozenset({"checkpoint", "dataset", f"{TRAINING}dataset root"})
"""Provenance that only names folders of this machine."""


def _list_origin(provenance: Mapping[str, str]) -> Iterator[str]:
    for name, value in provenance.items():
        if name not in _LOCAL:
            yield f"- {name}: `{_plain(value)}`"


def _plain(value: Any) -> str:
    """Return text that cannot break out of its line, table cell or code, nor be read as HTML."""
    text = " ".join(str(value).split())
    return text.replace("`", "'").replace("|", "/").replace("<", "&lt;")
