"""The page that compares two models on the same file."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from unmask.decision import show_score
from unmask.inference.words import show_probability
from unmask.types import MediaKind, Verdict
from unmask.web.app.models import Model, ModelFile, Settings, load_model
from unmask.web.app.panels import say_dropped, show_card, show_frame, warn_of_models
from unmask.web.app.session import ask_files, look_at_all
from unmask.web.app.video import show_moments
from unmask.web.app.views import Looked
from unmask.web.app.words import plain, say, shorten


def show_compare_page(model: Model, others: Sequence[ModelFile], settings: Settings) -> None:
    """Ask for a second model and a file, and show both verdicts.

    Args:
        model: Model chosen in the sidebar.
        others: All other models.
        settings: Settings of the app.

    Raises:
        UnmaskError: The second model cannot be loaded.
    """
    st.title("Compare two models", anchor=False)
    if not others:
        st.info(
            "There is only one model here. Train another one with different data or settings, then reload this page:"
        )
        st.code("python train.py dataset.root=data/synthetic-faces augmentation=strong", language="bash")
        return
    st.markdown(f"**First model**, from the sidebar: {plain(model.title)}, {plain(model.file.made)}")
    by_path = {file.path: file for file in others}  # the path stays when a model is overwritten
    chosen: str = st.selectbox(
        "Second model", by_path, format_func=lambda path: by_path[path].label, key="second-model"
    )
    second = load_model(by_path[chosen], settings)
    st.markdown(f"**Second model**: {plain(second.title)}, {plain(second.file.made)}")
    dropped = ask_files(page="compare")
    if not dropped:
        warn_of_models(model, second)
        st.caption("Models trained on the same data make the same mistakes: agreement is not proof either.")
        return
    file = dropped[0]
    if len(dropped) > 1:
        file = st.selectbox("File", dropped, format_func=lambda file: shorten(file.name), key="compared-file")
    (one,), (two,) = look_at_all([model, second], [file], page="compare", settings=settings)
    st.markdown(f"### {_sum_up(one, two)}")
    _show_figures(((model, one), (second, two)))
    for column, name, (which, looked) in zip(
        st.columns(2, gap="medium"), ("First model", "Second model"), ((model, one), (second, two)), strict=True
    ):
        with column:
            st.markdown(f"#### {name}")
            show_card(which, looked, with_numbers=False)
            if looked.prediction.error is None:
                _show_detail(which, looked)


def _sum_up(one: Looked, two: Looked) -> str:
    first, second = one.prediction.verdict, two.prediction.verdict
    if first is None or second is None:
        return "This file cannot be read"
    if first is second:
        return f"Both say: {say(one.prediction).head()}"
    if {first, second} == {Verdict.REAL, Verdict.FAKE}:
        return ":orange[:material/call_split: The models contradict each other: look closer]"
    return ":orange[:material/call_split: The models differ]"


def _show_figures(pairs: Sequence[tuple[Model, Looked]]) -> None:
    rows: dict[str, list[Any]] = {"": ["verdict", "score", "threshold", "probability", "faces", "network", "detector"]}
    for name, (model, looked) in zip(("first model", "second model"), pairs, strict=True):
        prediction, predictor = looked.prediction, model.predictor
        rows[name] = [
            say(prediction).word,
            show_score(prediction.score),
            show_score(prediction.threshold),
            show_probability(prediction.probability),
            str(len(prediction.faces)),
            f"{model.network}, {predictor.input_spec.size} px",
            predictor.crop_spec.detector,
        ]
    st.table(rows)
    st.caption(
        "The scores of two models are on different scales: compare each with its own threshold, or compare "
        "probabilities."
    )


def _show_detail(model: Model, looked: Looked) -> None:
    if looked.prediction.kind is not MediaKind.VIDEO and not looked.views:
        say_dropped()
    elif looked.prediction.kind is not MediaKind.VIDEO:
        show_frame(looked, looked.views[0], key=f"{model.file.key}-{looked.key}", alt="The image", is_narrow=True)
    elif looked.prediction.faces:
        st.fragment(show_moments)(model, looked, is_narrow=True)
