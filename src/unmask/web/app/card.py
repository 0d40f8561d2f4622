"""The verdict of a file: what is said first."""

import streamlit as st

from unmask.decision import Decision
from unmask.inference.words import show_probability
from unmask.web.app.gauge import draw_gauge, style_gauge
from unmask.web.app.loading import Model
from unmask.web.app.model_line import show_warning
from unmask.web.app.text import plain, shorten
from unmask.web.app.views import Looked
from unmask.web.app.words import NO_PROOF, explain_contradiction, explain_coverage, explain_numbers, say


def show_card(model: Model, looked: Looked, *, with_numbers: bool = True) -> None:
    """Show the verdict, where the score lies, and what that means.

    Args:
        model: That gave it.
        looked: The file.
        with_numbers: Whether the explanation of all numbers can be opened below.
    """
    prediction, decision, margin = looked.prediction, model.predictor.decision, model.predictor.margin
    with st.container(border=True, key=f"verdict-{model.file.key}-{looked.key}"):
        st.caption(plain(shorten(looked.name, length=80)))
        st.markdown(f"### {say(prediction).head(prediction.headline)}")
        if prediction.error is not None:
            st.markdown(plain(prediction.error))
            return
        show_warning(prediction.warning)
        st.markdown(plain(prediction.reason))
        if prediction.score is not None:
            st.html(style_gauge() + draw_gauge(prediction.score, threshold=prediction.threshold, margin=margin))
            chance = show_probability(prediction.probability)
            st.metric("Calibrated probability of a fake", chance, help=_help(decision), width="content")
        for note in (explain_contradiction(prediction), explain_coverage(prediction), *prediction.notes):
            if note:
                st.markdown(f":material/info: {plain(note)}")
        st.caption(NO_PROOF)
        if with_numbers:
            with st.expander("What do these numbers mean?", icon=":material/info:"):
                rules = decision, model.predictor.deciding
                st.markdown(explain_numbers(*rules, num_frames=model.predictor.num_frames, margin=margin))


def _help(decision: Decision) -> str:
    if decision.calibration is None:
        return "Unknown: the scores of this model were not calibrated against known outcomes."
    return (
        "Of 100 faces with such a score among the validation data, about that many were fakes, real and fake counted "
        "as equally frequent."
    )
