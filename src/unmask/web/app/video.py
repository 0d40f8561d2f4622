"""A video below its verdict: timeline, frames and persons."""

import json
import math
from typing import Any

import streamlit as st

from unmask.decision import show_score
from unmask.inference.annotate import PERSONS, hex_of
from unmask.inference.results import FaceResult, find_main
from unmask.inference.timeline import MAX_PERSONS, choose_persons
from unmask.inference.words import name_face, show_clock, show_stretch
from unmask.types import Verdict
from unmask.web.app.models import Model
from unmask.web.app.panels import say_dropped, show_face_score, show_frame
from unmask.web.app.views import SAYINGS, Looked, explain_no_stretch, find_suspect, mark_small, plain

PICKED = "picked"
"""Name of the chart's click selection."""

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
"""Tick intervals of the time axis in seconds; longer ones are whole hours."""

_MAX_MARKS = 8

_LETTERS = 13
"""Font size in pixels; charts are not scaled, so it is as legible on a phone as on a desktop."""

_MANY = 100
"""Number of frames from which dots are small."""


def list_persons(looked: Looked) -> list[FaceResult]:
    """Return the most suspicious persons, which the chart shows, sorted by number."""
    return sorted(choose_persons(looked.prediction.faces), key=lambda face: face.track)


def list_points(looked: Looked) -> list[dict[str, Any]]:
    """List a point per person and frame."""
    shown = {face.track for face in list_persons(looked)}
    return [
        {
            "seconds": frame.time_seconds,
            "score": round(face.score, 4),
            "person": name_face(face.track),
            "frame": frame.index,
            "time": show_clock(frame.time_seconds),
        }
        for frame in looked.prediction.frames
        for face in frame.faces
        if face.track in shown
    ]


def draw_timeline(looked: Looked, *, chosen: int | None) -> Any:
    """Draw a dot per person and examined frame, the threshold and the suspicious stretches.

    Dots are not joined, because nothing is known between examined frames. Hovering over a large dot shows its frame, a
    click selects it (`PICKED`, by its field `frame`). Frames that were not kept have a small, faint dot.

    Args:
        looked: Result of a video.
        chosen: Index of the frame open below the chart; None if no frame was kept.
    """
    import altair as alt

    prediction = looked.prediction
    points = list_points(looked)
    length = max(prediction.frames[-1].time_seconds, 0.01)
    pad = length / 60  # keeps the first and last dot whole
    persons = [name_face(face.track) for face in list_persons(looked)]
    legend = alt.Legend(orient="bottom", title=None, columns=3) if len(persons) > 1 else None
    channels = {
        "x": alt.X(
            "seconds:Q", title="time", axis=_time_axis(length), scale=alt.Scale(domain=[-pad, length + pad], nice=False)
        ),
        "y": alt.Y(
            "score:Q",
            title="score",
            scale=alt.Scale(domain=[-0.03, 1.05], nice=False),
            axis=alt.Axis(values=[0, 0.5, 1]),
        ),
        "color": alt.Color(
            "person:N", scale=alt.Scale(domain=persons, range=list(PERSONS[: len(persons)])), legend=legend
        ),
    }
    others = [point for point in points if point["frame"] not in looked.thumbnails]
    style = {"opacity": 0.5, "size": 12} if looked.views else {"opacity": 1, "size": _size(looked)}
    faint = alt.Chart({"values": others}).mark_point(filled=True, **style).encode(**channels)
    dots = _dots(looked, points, channels) if looked.views else None
    here = None if chosen is None else _here(looked, chosen)
    layers = [_shade(looked), *_threshold(prediction.threshold), here, faint if others else None, dots]
    chart = alt.layer(*[layer for layer in layers if layer is not None]).properties(height=320)
    return chart.configure_axis(labelFontSize=_LETTERS, titleFontSize=_LETTERS).configure_legend(labelFontSize=_LETTERS)


def _size(looked: Looked) -> int:
    return 45 if len(looked.prediction.frames) < _MANY else 12


def _dots(looked: Looked, points: list[dict[str, Any]], channels: dict[str, Any]) -> Any:
    """Draw the dots that react to hovering and clicks."""
    import altair as alt

    hover = alt.selection_point(name="hovered", on="pointerover", nearest=True, fields=["frame"], empty=False)
    picked = alt.selection_point(name=PICKED, on="click", nearest=True, fields=["frame"], empty=False)
    # One image per frame, not per person and frame: eight persons would make a page of many megabytes.
    images = [{"frame": index, "image": image} for index, image in looked.thumbnails.items()]
    return (
        alt.Chart({"values": [point for point in points if point["frame"] in looked.thumbnails]})
        .transform_lookup("frame", alt.LookupData({"values": images}, key="frame", fields=["image"]))
        .mark_point(filled=True, opacity=1)
        .encode(
            **channels,
            size=alt.when(hover).then(alt.value(150)).otherwise(alt.value(_size(looked))),
            tooltip=[
                alt.Tooltip("time:N"),
                alt.Tooltip("person:N"),
                alt.Tooltip("score:Q", format=".3f"),
                alt.Tooltip("image:N"),
            ],
        )
        .add_params(hover, picked)
    )


def _time_axis(length: float) -> Any:
    """Place ticks at round times, formatted as on a clock."""
    import altair as alt

    hours = 3600 * math.ceil(length / (3600 * _MAX_MARKS))
    step = next((step for step in _STEPS if length / step <= _MAX_MARKS), hours)
    moments = [round(number * step, 1) for number in range(int(length / step) + 1)]
    tail = ".0" if step >= 1 else ""
    names = {f"{moment:.1f}".removesuffix(".0"): show_clock(moment).removesuffix(tail) for moment in moments}
    return alt.Axis(grid=False, values=moments, labelExpr=f"{json.dumps(names)}[datum.value]")


def _shade(looked: Looked) -> Any:
    """Shade the stretches in which every examined frame is fake; a single frame gets some width too."""
    import altair as alt

    if not looked.prediction.suspicious:
        return None
    length = looked.prediction.frames[-1].time_seconds
    pad = length / 200
    rows: list[dict[str, float]] = []
    for stretch in looked.prediction.suspicious:
        start, end = max(stretch.start_seconds - pad, 0), min(stretch.end_seconds + pad, length)
        if rows and start <= rows[-1]["end"]:  # overlapping shades would look like a stronger signal
            rows[-1]["end"] = end
        else:
            rows.append({"start": start, "end": end})
    return (
        alt.Chart({"values": rows}).mark_rect(color=hex_of(Verdict.FAKE), opacity=0.14).encode(x="start:Q", x2="end:Q")
    )


def _threshold(threshold: float) -> list[Any]:
    import altair as alt

    chart = alt.Chart({"values": [{"threshold": threshold, "said": f"threshold {show_score(threshold)}"}]})
    rule = chart.mark_rule(strokeDash=[5, 4], color="#888888", strokeWidth=1.5).encode(y="threshold:Q")
    below = 11 if threshold > 0.5 else -9
    text = chart.mark_text(align="left", x=4, dy=below, color="#888888", fontSize=_LETTERS).encode(
        y="threshold:Q", text="said:N"
    )
    return [rule, text]


def _here(looked: Looked, index: int) -> Any:
    """Mark the time of the open frame."""
    import altair as alt

    data = {"values": [{"here": looked.frames[index].time_seconds}]}
    return alt.Chart(data).mark_rule(color="#2f6fed", strokeWidth=2, opacity=0.7).encode(x="here:Q")


_KEY_FRAME_WIDTH = 150

_MAX_STRETCHES = 12

_ALT = "A dot per person and examined frame at its score, with the threshold as a dashed line"


def show_video(model: Model, looked: Looked) -> None:
    """Show the timeline with its selected frame, the suspicious stretches, key frames and persons."""
    if not looked.prediction.faces:
        return
    st.fragment(show_moments)(model, looked)
    _show_key_frames(looked)
    _show_persons(looked)


def show_moments(model: Model, looked: Looked, *, is_narrow: bool = False) -> None:
    """Show the timeline and one frame, chosen by the slider or a click in the chart.

    Args:
        model: Model that scored the video.
        looked: Result of a video with a face.
        is_narrow: Whether to stack frame and face on every screen.
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
    st.caption("Hover over a dot to see its frame; click or tap it to open the frame below.")

    def pick() -> None:
        frame = _picked_frame(st.session_state[f"chart-{key}"])
        if frame in indices:  # a click between dots clears the selection without naming a frame
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
        st.caption(f"Only the {MAX_PERSONS} most suspicious of {len(looked.prediction.faces)} persons are shown.")
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
    """Return the time of a frame and the score of the main person in it."""
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
            "A face that does not decide was seen in too few frames, such as a false detection or a passer-by, or is "
            "not the main face where only that one decides."
        )
