"""Origin of the forgeries in a dataset or a model's training data, and the warnings that follow from it.

`prepare.py` records the origin for each source, `train.py` copies the record into the checkpoint, the bundle and
MLflow, and every command and page calls `warn_of_training` to decide whether a verdict needs a warning.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class Forgeries(StrEnum):
    """Origin of the fakes in a dataset."""

    DRAWN = "drawn"
    """Made by Unmask from faces that it drew itself."""
    SELF_MADE = "self_made"
    """Made by Unmask from faces in real images or videos."""
    EXTERNAL = "external"
    """Made by others, as in published datasets."""
    UNKNOWN = "unknown"
    """Not recorded."""


_LEGACY_NAMES = {"synthetic": Forgeries.DRAWN, "forge": Forgeries.SELF_MADE}
"""Sources whose fakes Unmask makes, for older datasets that recorded only the source's name."""

_WORDS = {
    Forgeries.DRAWN: "drawn faces",
    Forgeries.SELF_MADE: "forgeries made by Unmask",
    Forgeries.EXTERNAL: "",
    Forgeries.UNKNOWN: "forgeries of unknown origin",
}

_DOUBTFUL = (Forgeries.DRAWN, Forgeries.SELF_MADE, Forgeries.UNKNOWN)
"""Origins that need a warning, most serious first; the most serious one decides for mixed sources."""


@dataclass(frozen=True)
class SourceRecord:
    """Record of a source, stored in datasets, checkpoints, bundles and predictions.

    Args:
        name: Name of the source.
        forgeries: Origin of its fakes.
    """

    name: str
    forgeries: Forgeries

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a record from `to_dict`; origins added by later versions become `UNKNOWN`."""
        kind = str(values.get("forgeries"))
        known = Forgeries(kind) if kind in tuple(Forgeries) else Forgeries.UNKNOWN
        return cls(str(values.get("name") or "unnamed"), known)

    def to_dict(self) -> dict[str, str]:
        """Return plain values."""
        return {"name": self.name, "forgeries": self.forgeries.value}

    def __str__(self) -> str:
        words = _WORDS[self.forgeries]
        return f"{self.name} ({words})" if words else self.name


def read_sources(info: Mapping[str, Any]) -> tuple[SourceRecord, ...]:
    """Return the sources of a face dataset.

    Args:
        info: Content of `dataset.json`; older files hold only the source's name.
    """
    return _read(info.get("sources"), name=info.get("name"))


def read_trained_on(provenance: Mapping[str, Any]) -> tuple[SourceRecord, ...]:
    """Return the sources that a model was trained on.

    Args:
        provenance: Provenance of a checkpoint or bundle; older ones hold at most the dataset's name.
    """
    return _read(provenance.get("trained_on"), name=provenance.get("dataset"))


def _read(records: Any, *, name: Any) -> tuple[SourceRecord, ...]:
    if isinstance(records, Sequence) and records and all(isinstance(record, Mapping) for record in records):
        return tuple(map(SourceRecord.from_dict, records))
    name = str(name or "unnamed")
    return (SourceRecord(name, _LEGACY_NAMES.get(name, Forgeries.UNKNOWN)),)


def record_training(sources: Iterable[SourceRecord], *, makes_fakes: bool) -> tuple[SourceRecord, ...]:
    """Return the sources to record for a training run.

    Args:
        sources: Sources of the face dataset.
        makes_fakes: Whether training generates its fakes from real crops only (`augmentation=sbi`).
    """
    if not makes_fakes:
        return tuple(sources)
    return tuple(
        source if source.forgeries is Forgeries.DRAWN else SourceRecord(source.name, Forgeries.SELF_MADE)
        for source in sources
    )


def name_sources(sources: Iterable[SourceRecord]) -> str:
    """List sources with the origin of their fakes, such as `ffpp, synthetic (drawn faces)`."""
    return ", ".join(map(str, sources)) or "unknown data"


def name_model(provenance: Mapping[str, Any], *, network: str) -> str:
    """Return a display name for a model: run name, architecture and training data.

    Args:
        provenance: Provenance of the checkpoint or bundle; older ones hold no run name.
        network: Name of the architecture.
    """
    run = str(provenance.get("run_name") or "")
    trained = f"trained on {name_sources(read_trained_on(provenance))}"
    return f"{run} ({network}), {trained}" if run else f"{network}, {trained}"


def warn_of_training(sources: Sequence[SourceRecord]) -> str | None:
    """Return a warning that a model's verdicts are unreliable, or None if others made its training fakes.

    Args:
        sources: Sources that the model was trained on.
    """
    kind, names = _find_gravest(sources)
    if kind is None:
        return None
    part = "" if len(names) == len(sources) else "partly "
    quoted = ", ".join(f"'{name}'" for name in names)
    if kind is Forgeries.DRAWN:
        return (
            f"This model was trained {part}on faces that Unmask drew ({quoted}). It is a demonstration, and its "
            "verdicts say nothing about real images and videos."
        )
    if kind is Forgeries.SELF_MADE:
        return (
            f"This model was trained {part}on forgeries made by Unmask itself ({quoted}). How well it recognises "
            "deepfakes made by other tools is unknown, so its verdicts are not evidence."
        )
    return (
        f"This model was trained {part}on data of unknown origin ({quoted}). There is no record of who made the "
        "forgeries, so it is unknown which kinds the model recognises."
    )


def warn_in_short(sources: Sequence[SourceRecord]) -> str | None:
    """Return a short form of the warning, to be drawn into images, or None."""
    kind, _ = _find_gravest(sources)
    return None if kind is None else f"Model trained on {_WORDS[kind]}"


def qualify_figures(sources: Sequence[SourceRecord]) -> str | None:
    """Return a caveat for metrics on a dataset, or None if others made its fakes.

    Args:
        sources: Sources of the evaluated face dataset.
    """
    kind, names = _find_gravest(sources)
    if kind is None:
        return None
    quoted = ", ".join(f"'{name}'" for name in names)
    which = "The fakes of this dataset" if len(names) == len(sources) else f"The fakes of {quoted} in this dataset"
    if kind is Forgeries.UNKNOWN:
        return f"{which} are of unknown origin: there is no record of who made them."
    faces = ", from faces that it drew" if kind is Forgeries.DRAWN else ""
    return (
        f"{which} were made by Unmask itself{faces}. The metrics show that the pipeline works; they say nothing about "
        "how well the model recognises forgeries made by others."
    )


def _find_gravest(sources: Sequence[SourceRecord]) -> tuple[Forgeries | None, list[str]]:
    """Return the most serious origin among the sources, and the names of the sources of that origin."""
    for kind in _DOUBTFUL:
        names = [source.name for source in sources if source.forgeries is kind]
        if names:
            return kind, names
    return None, []
