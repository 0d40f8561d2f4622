"""Which model speaks, and whether it should be listened to."""

import streamlit as st

from unmask.web.app.loading import Model
from unmask.web.app.record import SELF_MADE
from unmask.web.app.text import code, plain


def show_model_line(model: Model) -> None:
    """Name the model, and warn of one that learned from fakes of our own making."""
    dataset = model.provenance.get("dataset")
    trained = f", trained on {code(dataset)}" if dataset else ", trained on *unknown* data"
    st.markdown(f"Model {code(model.file.name)}, {plain(model.file.made)}{trained}")
    if dataset in SELF_MADE:
        warn_of_self_made(str(dataset))


def warn_of_self_made(dataset: str) -> None:
    """Say that a model is a demonstration.

    Args:
        dataset: Name of the data it was trained on.
    """
    st.warning(
        f"A demonstration: this model learned from fakes that Unmask made itself ({code(dataset)}). On real pictures "
        "and videos its verdicts mean next to nothing.",
        icon=":material/science:",
    )
