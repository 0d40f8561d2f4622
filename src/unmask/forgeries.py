"""Who made the forgeries that a dataset holds or a model was trained on, and what follows for its verdicts.

The one place that decides whether a verdict needs a warning: `prepare.py` records it of the source, `train.py` carries
the record into checkpoint, bundle and MLflow, and every command and page asks `warn_of_training`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class Forgeries(StrEnum):
    """Who made the fakes of a dataset."""

    DRAWN = "drawn"
    """Unmask, of faces that it drew itself."""
    SELF_MADE = "self_made"
    """Unmask, of faces in real images or videos."""
    EXTERNAL = "external"
    """Others, as in published datasets."""
    UNKNOWN = "unknown"
    """Not recorded."""


_LEGACY_NAMES = {"synthetic": Forgeries.DRAWN, "forge": Forgeries.SELF_MADE}
"""Of the sources whose fakes Unmask makes, as datasets were recorded that held a name alone."""

_WORDS = {
    Forgeries.DRAWN: "drawn faces",
    Forgeries.SELF_MADE: "forgeries made by Unmask",
    Forgeries.EXTERNAL: "",
    Forgeries.UNKNOWN: "forgeries of unknown origin",
}

_DOUBTFUL = (Forgeries.DRAWN, Forgeries.SELF_MADE, Forgeries.UNKNOWN)
"""The gravest first: it decides where sources are mixed."""


@dataclass(frozen=True)
class SourceRecord:
    """What stays on record of a source, in datasets, checkpoints, bundles and predictions.

    Args:
        name: Of the source.
        forgeries: Who made its fakes.
    """

    name: str
    forgeries: Forgeries

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a record from `to_dict`; a kind that a later version added is unknown to this one."""
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
        info: Content of `dataset.json`; one that was written before sources were recorded holds the name alone.
    """
    return _read(info.get("sources"), name=info.get("name"))


def read_trained_on(provenance: Mapping[str, Any]) -> tuple[SourceRecord, ...]:
    """Return what a model was trained on.

    Args:
        provenance: Of a checkpoint or bundle; an older one holds the dataset's name alone, or not even that.
    """
    return _read(provenance.get("trained_on"), name=provenance.get("dataset"))


def _read(records: Any, *, name: Any) -> tuple[SourceRecord, ...]:
    if isinstance(records, Sequence) and records and all(isinstance(record, Mapping) for record in records):
        return tuple(map(SourceRecord.from_dict, records))
    name = str(name or "unnamed")
    return (SourceRecord(name, _LEGACY_NAMES.get(name, Forgeries.UNKNOWN)),)


def record_training(sources: Iterable[SourceRecord], *, makes_fakes: bool) -> tuple[SourceRecord, ...]:
    """Return what a training on these sources puts on record.

    Args:
        sources: Of the face dataset.
        makes_fakes: Whether the training made its fakes itself, of the real crops alone (`augmentation=sbi`).
    """
    if not makes_fakes:
        return tuple(sources)
    return tuple(
        source if source.forgeries is Forgeries.DRAWN else SourceRecord(source.name, Forgeries.SELF_MADE)
        for source in sources
    )


def name_sources(sources: Iterable[SourceRecord]) -> str:
    """Name sources and who made their fakes, as in `ffpp, synthetic (drawn faces)`."""
    return ", ".join(map(str, sources)) or "unknown data"


def name_model(provenance: Mapping[str, Any], *, network: str) -> str:
    """Call a model by its run and by what it was trained on, not by a hash.

    Args:
        provenance: Of the checkpoint or bundle; an older one does not know the name of its run.
        network: Name of the architecture.
    """
    run = str(provenance.get("run_name") or "")
    trained = f"trained on {name_sources(read_trained_on(provenance))}"
    return f"{run} ({network}), {trained}" if run else f"{network}, {trained}"


def warn_of_training(sources: Sequence[SourceRecord]) -> str | None:
    """Say why no verdict of a model can be relied on; None where its fakes were made by others.

    Args:
        sources: That the model was trained on.
    """
    kind, names = _find_gravest(sources)
    if kind is None:
        return None
    part = "" if len(names) == len(sources) else "in part "
    quoted = ", ".join(f"'{name}'" for name in names)
    if kind is Forgeries.DRAWN:
        return (
            f"This model was trained {part}on faces that Unmask drew ({quoted}): it is a demonstration, and its "
            "verdicts say nothing about real images and videos."
        )
    if kind is Forgeries.SELF_MADE:
        return (
            f"This model was trained {part}on forgeries that Unmask made itself ({quoted}): how well it recognises "
            "deepfakes made by other tools is not known, so its verdicts are not evidence."
        )
    return (
        f"This model was trained {part}on data of unknown origin ({quoted}): there is no record of who made the "
        "forgeries, so it is not known which ones it recognises."
    )


def warn_in_short(sources: Sequence[SourceRecord]) -> str | None:
    """Return the warning in a few words, for drawings; None where there is none."""
    kind, _ = _find_gravest(sources)
    return None if kind is None else f"Model trained on {_WORDS[kind]}"


def qualify_figures(sources: Sequence[SourceRecord]) -> str | None:
    """Say what figures on a dataset do not show; None where its fakes were made by others.

    Args:
        sources: Of the face dataset that was evaluated.
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
        f"{which} were made by Unmask itself{faces}. The figures show that the machinery works; they say nothing "
        "about how well forgeries made by others are recognised."
    )


def _find_gravest(sources: Sequence[SourceRecord]) -> tuple[Forgeries | None, list[str]]:
    """Return the kind of forgeries that tells least about others, and the sources of that kind."""
    for kind in _DOUBTFUL:
        names = [source.name for source in sources if source.forgeries is kind]
        if names:
            return kind, names
    return None, []
