"""What a visitor's session holds: the results of the files on its pages, not the files."""

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from unmask.web.app.loading import Model
from unmask.web.app.scoring import DroppedFile, OnStep, look_at
from unmask.web.app.settings import MAX_FILES, Settings
from unmask.web.app.text import plain, shorten
from unmask.web.app.views import Looked

_RESULTS = "results"

_FILES_AT_ONCE = 4
"""How many videos can be shown in pictures whatever they hold: one takes no more than this part of the memory."""


def look_at_all(
    models: Sequence[Model], dropped: Sequence[DroppedFile], *, page: str, settings: Settings
) -> list[list[Looked]]:
    """Score files by models, showing how far it is; what was scored before is taken from the session.

    Args:
        models: Each scores every file.
        dropped: The first `MAX_FILES` are looked at.
        page: Results of a page are forgotten once its files are taken away.
        settings: Say how much memory pictures may take.

    Returns:
        A list per model.
    """
    if len(dropped) > MAX_FILES:
        st.warning(f"{len(dropped)} files at once are too many: the first {MAX_FILES} are shown.")
    wanted = [(model, file) for model in models for file in dropped[:MAX_FILES]]
    known = st.session_state.setdefault(f"{_RESULTS}-{page}", {})
    keys = {_key(model, file) for model, file in wanted}
    for stale in known.keys() - keys:
        del known[stale]
    missing = [pair for pair in wanted if _key(*pair) not in known]
    if missing:
        place = st.empty()
        for number, (model, file) in enumerate(missing):
            step = _show_progress(place, file, number=number, total=len(missing))
            max_bytes = settings.picture_bytes // _FILES_AT_ONCE
            known[_key(model, file)] = look_at(model, file, max_bytes=max_bytes, on_step=step)
            _drop_pictures(page, settings.picture_bytes)
        place.empty()
    _drop_pictures(page, settings.picture_bytes)  # thumbnails may have been drawn since
    return [[known[_key(model, file)] for file in dropped[:MAX_FILES]] for model in models]


def _key(model: Model, file: DroppedFile) -> tuple[str, float, str]:
    return model.file.path, model.file.stamp, file.key


def _drop_pictures(page: str, max_bytes: int) -> None:
    """Let the pictures go of what was scored longest ago, beyond a size; verdicts and scores stay.

    Args:
        page: Its results count as newer than those of other pages; the newest of all keeps its pictures.
        max_bytes: For all pages of the visitor.
    """
    current = f"{_RESULTS}-{page}"
    pages = [str(name) for name in st.session_state if str(name).startswith(f"{_RESULTS}-")]
    pages.sort(key=lambda name: name != current)
    newest_first = [(st.session_state[name], key) for name in pages for key in reversed(st.session_state[name])]
    taken = 0
    for place, (results, key) in enumerate(newest_first):
        taken += results[key].num_picture_bytes
        if taken > max_bytes and place > 0:
            results[key] = replace(results[key], views=())


def _show_progress(place: "st.delta_generator.DeltaGenerator", file: DroppedFile, *, number: int, total: int) -> OnStep:
    """Show which file is looked at, and return what tells its frames."""
    start = f"File {number + 1} of {total}: " if total > 1 else ""
    name = plain(shorten(file.name))
    bar = place.progress(number / total, text=f"{start}{name}")

    def step(done: int, frames: int) -> None:
        share = min(done / max(frames, 1), 1.0)
        bar.progress((number + share) / total, text=f"{start}{name}, frame {done} of {max(frames, done)}")

    return step
