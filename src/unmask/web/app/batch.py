"""A table of many files, and one of them in full."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import streamlit as st

from unmask.decision import show_score
from unmask.inference.results import Prediction
from unmask.inference.words import show_examined, show_probability
from unmask.types import MediaKind, Verdict
from unmask.web.app.exports import write_csv, write_json
from unmask.web.app.loading import Model
from unmask.web.app.model_line import warn_of_models
from unmask.web.app.text import plain, shorten
from unmask.web.app.views import Looked
from unmask.web.app.words import SAYINGS, UNREAD, say

_CHOSEN = "chosen-file"

_MAX_ERRORS = 5

_ORDER = (Verdict.FAKE, Verdict.UNCERTAIN, Verdict.NO_FACE, Verdict.REAL, None)


def show_table(model: Model, files: Sequence[Looked]) -> Looked:
    """Show a sortable row per file, and return the one that the visitor wants to see in full.

    Args:
        model: That scored them.
        files: At least two.
    """
    _count(files)
    warn_of_models(model)
    files = sorted(files, key=_rank)
    key = f"table-{len(files)}-{files[0].key}"
    st.dataframe(
        [_row(looked) for looked in files],
        hide_index=True,
        column_config={
            "verdict": st.column_config.TextColumn(width="large"),
            "score": st.column_config.ProgressColumn(width="small", format="%.3f", min_value=0.0, max_value=1.0),
            "probability": st.column_config.TextColumn(width="small", help="Calibrated probability of a fake"),
        },
        placeholder="",
        key=key,
        on_select=lambda: _take_over(key),
        selection_mode="single-cell",  # a row could be selected by a tick in its first column alone
    )
    threshold = model.predictor.decision.threshold
    st.caption(
        f"Scores from {show_score(threshold)} on are called fake. Click a row to open it below, a heading to sort."
    )
    show_downloads(model, files)
    _say_errors(files)
    places = range(len(files))
    if st.session_state.get(_CHOSEN) not in places:
        st.session_state[_CHOSEN] = 0
    place: int = st.selectbox(
        "Look closer at",
        places,
        format_func=lambda place: f"{shorten(files[place].name)} ({say(files[place].prediction).word})",
        key=_CHOSEN,
    )
    return files[place]


def show_downloads(model: Model, files: Sequence[Looked]) -> None:
    """Offer the results as CSV and JSON."""
    with st.container(horizontal=True):
        for label, write, name, mime in (
            ("CSV", write_csv, "unmask.csv", "text/csv"),
            ("JSON", write_json, "unmask.json", "application/json"),
        ):
            st.download_button(
                f"Download {label}",
                write(model, files),
                file_name=name,
                mime=mime,
                on_click="ignore",
                icon=":material/download:",
                key=f"download-{label}",
            )


def _take_over(key: str) -> None:
    """Look closer at the row that was clicked."""
    cells = st.session_state[key]["selection"]["cells"]
    if cells:
        st.session_state[_CHOSEN] = cells[0][0]


def _count(files: Sequence[Looked]) -> None:
    counts = Counter(looked.prediction.verdict for looked in files)
    sayings = [(SAYINGS[verdict] if verdict else UNREAD, counts[verdict]) for verdict in _ORDER if counts[verdict]]
    with st.container(horizontal=True, gap="medium"):
        for saying, number in sayings:
            st.markdown(f"#### {number} :{saying.colour}[{saying.icon} {saying.word}]", width="content")


def _rank(looked: Looked) -> tuple[int, float]:
    return _ORDER.index(looked.prediction.verdict), -(looked.prediction.score or 0)


def _row(looked: Looked) -> dict[str, Any]:
    prediction = looked.prediction
    return {
        "file": looked.name,
        "verdict": prediction.headline,
        "score": prediction.score,
        "probability": None if prediction.score is None else show_probability(prediction.probability),
        "faces": len(prediction.faces),
        "examined": _say_examined(prediction),
        "notes": prediction.error or " ".join(prediction.notes),
    }


def _say_examined(prediction: Prediction) -> str | None:
    if prediction.kind is not MediaKind.VIDEO:
        return None
    return show_examined(prediction.num_examined, prediction.num_frames).removeprefix("examined ")


def _say_errors(files: Sequence[Looked]) -> None:
    errors = [looked.prediction.error for looked in files if looked.prediction.error is not None]
    for error in errors[:_MAX_ERRORS]:
        st.error(plain(error), icon=":material/broken_image:")
    if len(errors) > _MAX_ERRORS:
        st.error(f"And {len(errors) - _MAX_ERRORS} more: the downloads hold all messages.")
