"""What a visitor's session holds: the results of the files on its pages, not the files."""

from collections.abc import Sequence

import streamlit as st

from unmask.web.app.loading import Model
from unmask.web.app.scoring import Upload, look_at
from unmask.web.app.settings import MAX_FILES
from unmask.web.app.text import plain, shorten
from unmask.web.app.views import Looked

_RESULTS = "results"


def look_at_all(models: Sequence[Model], uploads: Sequence[Upload], *, page: str) -> list[list[Looked]]:
    """Score files by models, showing how far it is; what was scored before is taken from the session.

    Args:
        models: Each scores every file.
        uploads: The first `MAX_FILES` are looked at.
        page: Results of a page are forgotten once its files are taken away.

    Returns:
        A list per model.
    """
    if len(uploads) > MAX_FILES:
        st.warning(f"{len(uploads)} files at once are too many: the first {MAX_FILES} are shown.")
    wanted = [(model, upload) for model in models for upload in uploads[:MAX_FILES]]
    known = st.session_state.setdefault(f"{_RESULTS}-{page}", {})
    keys = {_key(model, upload) for model, upload in wanted}
    for stale in known.keys() - keys:
        del known[stale]
    missing = [pair for pair in wanted if _key(*pair) not in known]
    if missing:
        place = st.empty()
        for number, (model, upload) in enumerate(missing):
            known[_key(model, upload)] = _look(model, upload, place, number=number, total=len(missing))
        place.empty()
    return [[known[_key(model, upload)] for upload in uploads[:MAX_FILES]] for model in models]


def _key(model: Model, upload: Upload) -> tuple[str, float, str]:
    return model.file.path, model.file.stamp, upload.key


def _look(
    model: Model, upload: Upload, place: "st.delta_generator.DeltaGenerator", *, number: int, total: int
) -> Looked:
    start = f"File {number + 1} of {total}: " if total > 1 else ""
    name = plain(shorten(upload.name))
    bar = place.progress(number / total, text=f"{start}{name}")

    def step(done: int, frames: int) -> None:
        share = min(done / max(frames, 1), 1.0)
        bar.progress((number + share) / total, text=f"{start}{name}, frame {done} of {max(frames, done)}")

    return look_at(model, upload, on_step=step)
