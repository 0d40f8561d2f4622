"""What `predict.py` writes beside the predictions: heat maps, annotated videos, timelines of each file."""

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.inference.predictor import Predictor
    from unmask.inference.results import Prediction


@dataclass(frozen=True)
class Saved:
    """What was written beside the prediction of one file.

    Args:
        prediction: With a note for each extra that could not be written.
        files: Those that were; None where there is no prediction.
        has_failed: Whether there is no prediction, or an extra is missing.
    """

    prediction: "Prediction"
    files: list[str] | None
    has_failed: bool


def list_extras(save: str | Sequence[str] | None) -> list[str]:
    """Return the names that `save` holds, as a list or as text: `save=heatmaps`, `'save="heatmaps,video"'`.

    Raises:
        ConfigError: There is no such extra, or it is no list.
    """
    from unmask.errors import ConfigError
    from unmask.inference.save import check_extras

    if not isinstance(save, str | Sequence | None):
        raise ConfigError(f"save={save} is no list of names. Write such as: save=[heatmaps,timeline]")
    names = [name.strip() for name in save.split(",")] if isinstance(save, str) else [str(name) for name in save or ()]
    names = list(dict.fromkeys(filter(None, names)))
    check_extras(names)
    return names


def save_all(
    predictions: "Sequence[Prediction]", folder: Path, *, extras: Sequence[str], predictor: "Predictor"
) -> list[Saved]:
    """Write the extras of every file, each into a folder of its own; what cannot be written is noted.

    Args:
        predictions: A row each.
        folder: Of the run.
        extras: Of `list_extras`.
        predictor: That made the predictions.
    """
    from rich.progress import track

    rows: Any = track(predictions, description="Saving", transient=True)
    with closing(rows):  # the threads of a bar that is left to the garbage collector may wait for each other for ever
        return [_save(row, _choose_folder(folder, row, at), extras, predictor) for at, row in enumerate(rows)]


def _save(row: "Prediction", home: Path, extras: Sequence[str], predictor: "Predictor") -> Saved:
    from unmask.errors import MediaError
    from unmask.inference.save import save_extras

    if row.error is not None:
        return Saved(row, None, has_failed=True)
    spec, max_pixels = predictor.crop_spec, predictor.limits.max_pixels
    written: list[Path] = []
    notes: list[str] = []
    failures: list[str] = []
    for name in extras:
        try:
            written += save_extras(row, home, names=[name], spec=spec, max_pixels=max_pixels, tell=notes.append)
        except MediaError as error:
            reason = str(error).replace(f"'{row.path}'", "the file")  # a note stands beside its name already
            failures.append(f"save=[{name}] was not done: {reason}")
    told = replace(row, notes=(*row.notes, *notes, *failures))
    return Saved(told, [str(path) for path in written], has_failed=bool(failures))


def _choose_folder(folder: Path, row: "Prediction", position: int) -> Path:
    """Return where the extras of a file go."""
    stem = re.sub(r"[^\w.,=+ -]", "_", Path(row.path).stem)[:60]  # anyone may have named it
    return folder / f"{position:04d}_{stem}"
