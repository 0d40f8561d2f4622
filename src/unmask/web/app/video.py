"""What is shown of a video below its verdict."""

from typing import Any

import streamlit as st

from unmask.decision import show_score
from unmask.inference.results import find_main
from unmask.inference.timeline import MAX_PERSONS
from unmask.inference.words import name_face, show_clock, show_stretch
from unmask.web.app.chart import PICKED, draw_timeline
from unmask.web.app.faces import say_dropped, show_face_score, show_frame
from unmask.web.app.loading import Model
from unmask.web.app.text import plain
from unmask.web.app.views import Looked, find_suspect, mark_small
from unmask.web.app.words import SAYINGS, explain_no_stretch

_KEY_FRAME_WIDTH = 150

_MAX_STRETCHES = 12

_ALT = "A dot per person and examined frame at its score, with the threshold as a dashed line"


def show_video(model: Model, looked: Looked) -> None:
    """Show the timeline with the frame that is pointed at, the suspicious stretches, key frames and persons."""
    if not looked.prediction.faces:
        return
    st.fragment(show_moments)(model, looked)
    _show_key_frames(looked)
    _show_persons(looked)


def show_moments(model: Model, looked: Looked, *, is_narrow: bool = False) -> None:
    """Show the timeline and one frame, which a click in the chart or the slider chooses.

    Args:
        model: That scored it.
        looked: A video with a face.
        is_narrow: Whether the face stands below the frame on every screen.
    """
    st.subheader("Over time", anchor=False)
    if not looked.views:
        st.altair_chart(draw_timeline(looked, chosen=None), width="stretch", alt=_ALT)
        _say_ranges(looked)
        say_dropped()
        return
    key = f"frame-{model.file.key}-{looked.key}"
    indices = [view.index for view in looked.views]
    if st.session_state.get(key) not in indices:
        st.session_state[key] = find_suspect(looked.prediction, indices)
    st.caption("Point at a dot to see its frame; click or tap it to open the frame below.")

    def pick() -> None:
        frame = _picked_frame(st.session_state[f"chart-{key}"])
        if frame in indices:  # a click between the dots takes the choice away again, and says nothing
            st.session_state[key] = frame

    st.altair_chart(
        draw_timeline(looked, chosen=st.session_state[key]),
        width="stretch",
        key=f"chart-{key}",
        on_select=pick,
        selection_mode=[PICKED],
        alt=_ALT,
    )
    _say_ranges(looked)
    if len(indices) > 1:
        st.select_slider("Frame at", indices, format_func=lambda index: show_clock(_seconds(looked, index)), key=key)
    index = st.session_state[key]
    view = next(view for view in looked.views if view.index == index)
    alt = f"Frame at {show_clock(_seconds(looked, index))} with its faces marked"
    show_frame(looked, view, key=key, alt=alt, is_narrow=is_narrow)


def _picked_frame(event: Any) -> int | None:
    rows = event.get("selection", {}).get(PICKED) or []
    return int(rows[0]["frame"]) if rows and "frame" in rows[0] else None


def _seconds(looked: Looked, index: int) -> float:
    return looked.frames[index].time_seconds


def _say_ranges(looked: Looked) -> None:
    if len(looked.prediction.faces) > MAX_PERSONS:
        st.caption(f"The {MAX_PERSONS} most suspicious of {len(looked.prediction.faces)} persons are shown.")
    ranges = looked.prediction.suspicious
    if not ranges:
        st.markdown(f"**Suspicious stretches:** {plain(explain_no_stretch(looked.prediction))}")
        return
    strongest = sorted(ranges, key=lambda stretch: -stretch.score)[:_MAX_STRETCHES]
    num_more = len(ranges) - len(strongest)
    said = [
        f"{show_stretch(stretch)} (up to {show_score(stretch.score)})"
        for stretch in sorted(strongest, key=lambda stretch: stretch.start_seconds)
    ]
    more = f" and {num_more} weaker ones" if num_more else ""
    st.markdown("**Suspicious stretches:** " + ", ".join(said).replace(":", "\\:") + more)


def _show_key_frames(looked: Looked) -> None:
    views = {view.index: view for view in looked.views}
    shown = sorted(index for index in looked.prediction.key_frames if index in views)
    if not shown:
        return
    st.subheader("Frames that weighed most", anchor=False)
    with st.container(horizontal=True, gap="small"):
        for index in shown:
            with st.container(width=_KEY_FRAME_WIDTH, gap="xsmall"):
                small = mark_small(looked, views[index], side=2 * _KEY_FRAME_WIDTH)
                st.image(small, width="stretch", alt=f"Key frame at {show_clock(_seconds(looked, index))}")
                st.markdown(_caption_key_frame(looked, index))


def _caption_key_frame(looked: Looked, index: int) -> str:
    """Say when a frame is, and how the person whom the verdict is about scores in it."""
    main = find_main(looked.prediction.faces)
    seen = [face for face in looked.frames[index].faces if main is not None and face.track == main.track]
    return " ".join([plain(show_clock(_seconds(looked, index))), *(show_face_score(face, name="") for face in seen)])


def _show_persons(looked: Looked) -> None:
    if len(looked.prediction.faces) < 2:
        return
    st.subheader("Persons", anchor=False)
    rows = [
        {
            "face": name_face(face.track),
            "verdict": SAYINGS[face.verdict].word,
            "score": face.score,
            "frames": face.num_frames,
            "decides": face.decides,
        }
        for face in sorted(looked.prediction.faces, key=lambda face: -face.score)
    ]
    config = {"score": st.column_config.NumberColumn(format="%.3f")}
    st.dataframe(rows, hide_index=True, column_config=config)
    if not all(face.decides for face in looked.prediction.faces):
        st.caption(
            "A face that does not decide was seen in too few frames, as a false alarm or somebody passing by is, or is "
            "not the main one where that alone decides."
        )
