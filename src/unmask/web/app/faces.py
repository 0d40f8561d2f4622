"""A frame with its faces marked, and the heat map of one of them."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from unmask.decision import show_score
from unmask.inference.heatmap import draw_heat, list_heat_colours
from unmask.inference.results import FaceScore
from unmask.inference.words import name_face
from unmask.media.picture import decode_jpeg
from unmask.types import MediaKind
from unmask.web.app.views import FrameView, Looked, find_map, mark
from unmask.web.app.words import SAYINGS

_FEW = 6


def show_frame(looked: Looked, view: FrameView, *, key: str, alt: str, is_narrow: bool = False) -> None:
    """Show a frame with boxes beside a face with its heat map; below each other on a phone.

    Args:
        looked: The file.
        view: One of its frames.
        key: Tells the widgets from those of other files.
        alt: What the frame is.
        is_narrow: Whether the face stands below the frame on every screen.
    """
    picture, face = (st.container(), st.container()) if is_narrow else st.columns([3, 2], gap="medium")
    with picture:
        st.image(mark(looked, view), width="stretch", alt=alt)
        _list_faces(looked.frames[view.index].faces, is_video=looked.prediction.kind is MediaKind.VIDEO)
    with face:
        _show_face(looked, view, key=key)


def _list_faces(faces: Sequence[FaceScore], *, is_video: bool) -> None:
    """Say in letters of the page what stands on the boxes, which a phone shows small."""
    if not faces:
        return
    worst = sorted(faces, key=lambda face: -face.score)[:_FEW]
    more = f", and {len(faces) - len(worst)} more" if len(faces) > len(worst) else ""
    st.markdown(", ".join(show_face_score(face, name=f"{name_face(face.track)}: ") for face in worst) + more)
    said = "with the score and the colour of this frame, not of the whole video" if is_video else "with its score"
    st.caption(f"Each box bears the number of the face, {said}.")


def show_face_score(face: FaceScore, *, name: str) -> str:
    """Return Markdown with the score of a face in a frame, and its verdict there in its colour.

    Args:
        face: As found in the frame.
        name: Before the score, such as `face 1: `.
    """
    verdict = f" {SAYINGS[face.verdict].head()}" if face.verdict is not None else ""
    return f"{name}{show_score(face.score)}{verdict}"


def say_dropped() -> None:
    """Say why a file that was read has no pictures."""
    st.info(
        "The images of this file were let go to make room for those of newer files. Its verdict and scores stand. "
        "To see it, drop the file again.",
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
        st.caption("This model gives no heat map.")
        return
    shown, heat = st.columns(2, gap="small", wrap=False)
    opacity = st.slider("Opacity of the heat map", 0, 100, 50, step=5, format="%d%%", key=f"opacity-{key}")
    shown.image(crop, width="stretch", alt=name_face(faces[place].track))
    heat.image(draw_heat(crop, activation_map, opacity=opacity / 100), width="stretch", alt="heat map")
    if not np.any(activation_map > 0):
        st.caption("Nothing in this face speaks for a forgery: the map is empty.")
    else:
        st.html(_draw_legend())
        st.caption(
            "Each map is scaled to its own peak, so a real face has red spots too: it shows where the score comes "
            "from, not how high it is."
        )


def _draw_legend() -> str:
    """Return the colours of a heat map in a row, and what both ends mean."""
    ramp = ", ".join(list_heat_colours(7))
    return (
        '<div style="display:flex;align-items:center;gap:0.5rem;font-size:0.875rem">no trace'
        '<span role="img" aria-label="From blue over green and yellow to red" style="flex:0 1 10rem;height:0.8rem;'
        f'border-radius:0.2rem;background:linear-gradient(90deg, {ramp})"></span>looks forged</div>'
    )


def _choose(places: list[int], faces: tuple[FaceScore, ...], *, key: str) -> int:
    """Let the visitor choose a face by its place in the frame's list; the most suspicious comes first."""
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
