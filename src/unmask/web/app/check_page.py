"""The pages that judge: one model on dropped files, and two models on the same file."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import streamlit as st

from unmask.decision import show_score
from unmask.inference.results import Prediction, render_csv
from unmask.inference.words import show_examined, show_probability
from unmask.types import MediaKind, Verdict
from unmask.web.app.models import Model, ModelFile, Settings, load_model
from unmask.web.app.panels import say_dropped, show_card, show_frame, show_model_line, warn_of_models
from unmask.web.app.session import ask_files, look_at_all
from unmask.web.app.video import show_moments, show_video
from unmask.web.app.views import NO_PROOF, SAYINGS, UNREAD, Looked, plain, say, shorten


def show_check_page(model: Model, settings: Settings) -> None:
    """Ask for files and show their verdicts.

    Args:
        model: Model chosen in the sidebar.
        settings: Settings of the app.
    """
    st.title("Is this face real?", anchor=False)
    show_model_line(model)
    dropped = ask_files(page="check")
    (files,) = look_at_all([model], dropped, page="check", settings=settings)  # also forgets removed files
    if not files:
        warn_of_models(model)
        _explain()
        return
    if len(files) == 1:
        show_file(model, files[0])
        show_downloads(model, files)
    else:
        show_file(model, show_table(model, files))


def show_file(model: Model, looked: Looked) -> None:
    """Show everything about one file, the verdict first."""
    show_card(model, looked)
    if looked.prediction.error is not None:
        return
    if looked.prediction.kind is MediaKind.VIDEO:
        show_video(model, looked)
    elif looked.views:
        st.fragment(_show_image)(looked)
    else:
        say_dropped()


def _show_image(looked: Looked) -> None:
    found = looked.prediction.faces
    st.subheader("Where the score comes from" if found else "What was examined", anchor=False)
    show_frame(looked, looked.views[0], key=looked.key, alt="The image with its faces marked")


def _explain() -> None:
    st.markdown(
        "Drop images or a video with a face. You get a verdict, the score against its threshold, the faces found, a "
        "heat map of what looks forged, and the timeline of a video. Several files give a table that you can sort and "
        "download."
    )
    st.caption(NO_PROOF)


_CHOSEN = "chosen-file"

_MAX_ERRORS = 5

_ORDER = (Verdict.FAKE, Verdict.UNCERTAIN, Verdict.NO_FACE, Verdict.REAL, None)


def show_table(model: Model, files: Sequence[Looked]) -> Looked:
    """Show a sortable table of files, and return the one to show in full.

    Args:
        model: Model that scored them.
        files: Two or more files.
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
        selection_mode="single-cell",  # rows can only be selected by a checkbox in an extra column
    )
    threshold = model.predictor.decision.threshold
    st.caption(
        f"Scores of {show_score(threshold)} and above are fake. Click a row to open it below, or a heading to sort."
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
    """Open the row that was clicked."""
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
        st.error(f"And {len(errors) - _MAX_ERRORS} more; the downloads contain all messages.")


COLUMNS = (
    "path", "kind", "verdict", "headline", "reason", "score", "threshold", "probability", "faces", "num_examined",
    "num_frames", "notes", "warning", "trained_on", "error", "sha256", "model", "model_made",
)  # fmt: skip
"""Columns of `predictions.csv`, and those that identify the file and the model."""


def list_rows(model: Model, files: Sequence[Looked]) -> list[dict[str, Any]]:
    """Return a row per file as plain values: those of `predictions.json`, the file's hash and the model."""
    return [
        looked.prediction.to_dict()
        | {
            "sha256": looked.sha256,
            "model": model.title,
            "model_made": model.file.made,
            "run_id": model.provenance.get("run_id"),
        }
        for looked in files
    ]


def write_json(model: Model, files: Sequence[Looked]) -> str:
    """Return the rows with all faces and frames as JSON."""
    return json.dumps(list_rows(model, files), indent=2, ensure_ascii=False) + "\n"


def write_csv(model: Model, files: Sequence[Looked]) -> str:
    """Return a row per file as CSV, with the numbers of its faces and frames."""
    return render_csv(list_rows(model, files), COLUMNS)


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
