"""Which model speaks, and whether it should be listened to."""

import streamlit as st

from unmask.forgeries import name_sources, warn_of_training
from unmask.web.app.loading import Model
from unmask.web.app.text import code, plain


def show_model_line(model: Model) -> None:
    """Name the model and what it was trained on, and warn where its verdicts cannot be relied on."""
    trained = name_sources(model.predictor.trained_on)
    st.markdown(f"Model {code(model.file.name)}, {plain(model.file.made)}, trained on {code(trained)}")
    warn_of_models(model)


def warn_of_models(*models: Model) -> None:
    """Show each warning of what models were trained on once."""
    warnings = (warn_of_training(model.predictor.trained_on) for model in models)
    for warning in dict.fromkeys(filter(None, warnings)):
        st.warning(plain(warning), icon=":material/science:")
