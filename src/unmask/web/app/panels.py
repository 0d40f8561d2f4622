"""The parts that pages share: model line, gauge, verdict card, and a frame with its faces."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from unmask.decision import Decision, show_score
from unmask.forgeries import warn_of_training
from unmask.inference.annotate import draw_heat, hex_of, list_heat_colours
from unmask.inference.results import FaceScore
from unmask.inference.words import name_face, show_probability
from unmask.media.image import decode_jpeg
from unmask.types import MediaKind, Verdict
from unmask.web.app.models import Model
from unmask.web.app.views import (
    NO_PROOF,
    SAYINGS,
    FrameView,
    Looked,
    explain_contradiction,
    explain_coverage,
    explain_numbers,
    find_map,
    mark,
    plain,
    say,
    shorten,
)


def show_model_line(model: Model) -> None:
    """Show the model's title and date."""
    st.markdown(f"Model **{plain(model.title)}**, {plain(model.file.made)}")


def warn_of_models(*models: Model) -> None:
    """Show each warning about the models' training data once."""
    for warning in dict.fromkeys(warn_of_training(model.predictor.trained_on) for model in models):
        show_warning(warning)


def show_warning(warning: str | None) -> None:
    """Show why a model's verdicts are unreliable, if a reason is known."""
    if warning is not None:
        st.warning(plain(warning), icon=":material/science:")


_STYLE = """
.unmask-gauge { position: relative; height: 3.4rem; margin: 0.4rem 0.5rem 0 0.5rem; font-size: 0.875rem; }
.unmask-gauge .bar { position: absolute; top: 1.25rem; left: 0; right: 0; height: 0.7rem; border-radius: 0.35rem;
  overflow: hidden; }
.unmask-gauge .bar span { position: absolute; top: 0; bottom: 0; }
.unmask-gauge .needle { position: absolute; top: 0.95rem; width: 0.3rem; height: 1.3rem; margin-left: -0.15rem;
  border-radius: 0.15rem; background: currentColor; }
.unmask-gauge .tick { position: absolute; top: 1.15rem; width: 0.1rem; height: 1.1rem; margin-left: -0.05rem;
  background: currentColor; }
.unmask-gauge .note { position: absolute; width: 7rem; text-align: center; line-height: 1; }
.unmask-gauge .top { top: 0; font-weight: 600; }
.unmask-gauge .low { top: 2.35rem; opacity: 0.75; }
"""


def style_gauge() -> str:
    """Return the style sheet of the gauge, in the colours of the verdicts."""
    parts = (Verdict.REAL, Verdict.UNCERTAIN, Verdict.FAKE)
    colours = "\n".join(f".unmask-gauge .{verdict} {{ background: {hex_of(verdict)}; }}" for verdict in parts)
    return f"<style>{_STYLE}{colours}\n</style>"


def draw_gauge(score: float, *, threshold: float, margin: float) -> str:
    """Return the gauge as HTML, which contains numbers only.

    Args:
        score: Score in [0, 1].
        threshold: Lowest score that is fake.
        margin: Fraction of the way from the threshold to 0, and to 1, that is `uncertain`.
    """
    low, high = threshold * (1 - margin), threshold + (1 - threshold) * margin
    return (
        f'<div class="unmask-gauge" role="img" '
        f'aria-label="score {show_score(score)}, threshold {show_score(threshold)}">'
        f'<div class="bar">{_part("real", 0, low)}{_part("uncertain", low, high)}{_part("fake", high, 1)}</div>'
        f'<div class="tick" style="left:{threshold:.2%}"></div><div class="needle" style="left:{score:.2%}"></div>'
        f'<div class="note top" style="{_place(score)}">score {show_score(score)}</div>'
        f'<div class="note low" style="{_place(threshold)}">threshold {show_score(threshold)}</div>'
        "</div>"
    )


def _part(name: str, start: float, end: float) -> str:
    return f'<span class="{name}" style="left:{start:.2%};width:{end - start:.2%}"></span>'


def _place(value: float) -> str:
    """Centre a note on a value, but keep it inside the gauge."""
    return f"left:clamp(-1rem,calc({value:.2%} - 3.5rem),calc(100% - 6rem))"


def show_card(model: Model, looked: Looked, *, with_numbers: bool = True) -> None:
    """Show the verdict, the score on its gauge, and what they mean.

    Args:
        model: Model that scored the file.
        looked: Result of the file.
        with_numbers: Whether to add an expander that explains all numbers.
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
    if not decision.is_calibrated:
        return "Unknown: the scores of this model were not calibrated against known outcomes."
    return (
        "Of 100 faces with such a score in the validation data, about that many were fakes, with real and fake equally "
        "frequent."
    )


_FEW = 6


def show_frame(looked: Looked, view: FrameView, *, key: str, alt: str, is_narrow: bool = False) -> None:
    """Show a frame with boxes beside a face with its heat map; stacked on a phone.

    Args:
        looked: Result of the file.
        view: One of its frames.
        key: Key of the widgets.
        alt: Alternative text of the frame.
        is_narrow: Whether to stack frame and face on every screen.
    """
    whole, face = (st.container(), st.container()) if is_narrow else st.columns([3, 2], gap="medium")
    with whole:
        st.image(mark(looked, view), width="stretch", alt=alt)
        _list_faces(looked.frames[view.index].faces, is_video=looked.prediction.kind is MediaKind.VIDEO)
    with face:
        _show_face(looked, view, key=key)


def _list_faces(faces: Sequence[FaceScore], *, is_video: bool) -> None:
    """Repeat the labels of the boxes as text, since a phone shows them small."""
    if not faces:
        return
    worst = sorted(faces, key=lambda face: -face.score)[:_FEW]
    more = f", and {len(faces) - len(worst)} more" if len(faces) > len(worst) else ""
    st.markdown(", ".join(show_face_score(face, name=f"{name_face(face.track)}: ") for face in worst) + more)
    also = "and its score and colour in this frame, not in the whole video" if is_video else "and its score"
    st.caption(f"Each box shows the number of the face {also}.")


def show_face_score(face: FaceScore, *, name: str) -> str:
    """Return Markdown with the score of a face in a frame, and its coloured verdict there.

    Args:
        face: Face in the frame.
        name: Text before the score, such as `face 1: `.
    """
    verdict = f" {SAYINGS[face.verdict].head()}" if face.verdict is not None else ""
    return f"{name}{show_score(face.score)}{verdict}"


def say_dropped() -> None:
    """Explain why a readable file has no images."""
    st.info(
        "The images of this file were dropped to make room for newer files. Its verdict and scores stand. To see the "
        "images, drop the file again.",
        icon=":material/hide_image:",
    )


def _show_face(looked: Looked, view: FrameView, *, key: str) -> None:
    faces = looked.frames[view.index].faces
    places = sorted(view.crops, key=lambda place: -faces[place].score)
    if not places:
        st.info("No face was found in this frame.", icon=":material/face_retouching_off:")
        return
    place = _choose(places, faces, key=key)
    crop, activation_map = decode_jpeg(view.crops[place], where="a kept face"), find_map(looked, view, place)
    if activation_map is None:
        st.image(crop, width="stretch", alt=name_face(faces[place].track))
        st.caption("This model has no heat map.")
        return
    shown, heat = st.columns(2, gap="small", wrap=False)
    opacity = st.slider("Opacity of the heat map", 0, 100, 50, step=5, format="%d%%", key=f"opacity-{key}")
    shown.image(crop, width="stretch", alt=name_face(faces[place].track))
    heat.image(draw_heat(crop, activation_map, opacity=opacity / 100), width="stretch", alt="heat map")
    if not np.any(activation_map > 0):
        st.caption("The map is empty: nothing in this face points to a forgery.")
    else:
        st.html(_draw_legend())
        st.caption(
            "Each map is scaled to its own peak, so real faces have red spots too: it shows where the score comes "
            "from, not how high it is."
        )


def _draw_legend() -> str:
    """Return the colour scale of a heat map with its ends labelled."""
    ramp = ", ".join(list_heat_colours(7))
    return (
        '<div style="display:flex;align-items:center;gap:0.5rem;font-size:0.875rem">no trace'
        '<span role="img" aria-label="From blue over green and yellow to red" style="flex:0 1 10rem;height:0.8rem;'
        f'border-radius:0.2rem;background:linear-gradient(90deg, {ramp})"></span>looks forged</div>'
    )


def _choose(places: list[int], faces: tuple[FaceScore, ...], *, key: str) -> int:
    """Let the visitor choose a face by its position in the frame's list, most suspicious first."""
    if len(places) == 1:
        return places[0]

    def name(place: int) -> str:
        return f"{name_face(faces[place].track)}: {show_score(faces[place].score)}"

    key = f"face-{key}-{'-'.join(map(str, places))}"
    if len(places) <= _FEW:
        place: int = st.segmented_control("Face", places, default=places[0], required=True, format_func=name, key=key)
    else:
        place = st.selectbox("Face", places, format_func=name, key=key)
    return place
