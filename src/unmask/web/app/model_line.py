"""Which model speaks, and whether it should be listened to."""

import streamlit as st

from unmask.forgeries import warn_of_training
from unmask.web.app.loading import Model
from unmask.web.app.text import plain


def show_model_line(model: Model) -> None:
    """Name the model and what it was trained on."""
    st.markdown(f"Model **{plain(model.title)}**, {plain(model.file.made)}")


def warn_of_models(*models: Model) -> None:
    """Show each warning of what models were trained on once."""
    for warning in dict.fromkeys(warn_of_training(model.predictor.trained_on) for model in models):
        show_warning(warning)


def show_warning(warning: str | None) -> None:
    """Show why verdicts of a model cannot be relied on, where there is a reason."""
    if warning is not None:
        st.warning(plain(warning), icon=":material/science:")
