"""The timeline of a video as an Altair chart."""

import base64
from typing import Any

import numpy as np

from unmask.inference.results import FaceResult
from unmask.media.picture import encode_jpeg
from unmask.web.app.text import clock
from unmask.web.app.views import FrameView, Looked, mark, resize

MAX_PERSONS = 8
"""Persons in the chart: the most suspicious ones."""

PICKED = "picked"
"""Name of the selection that a click makes."""

_THUMBNAIL_SIDE = 200

_LINES = ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d", "#72b7b2", "#eeca3b", "#ff9da6"]


def choose_persons(looked: Looked) -> list[FaceResult]:
    """Return the persons that the chart shows: those that decide first, then by score."""
    faces = sorted(looked.prediction.faces, key=lambda face: (not face.decides, -face.score))
    return sorted(faces[:MAX_PERSONS], key=lambda face: face.track)


def list_points(looked: Looked) -> list[dict[str, Any]]:
    """List a point per person and frame; those of kept frames come with a small picture of the frame."""
    shown = {face.track for face in choose_persons(looked)}
    thumbnails = {view.index: draw_thumbnail(looked, view) for view in looked.views}
    return [
        {
            "seconds": frame.time_seconds,
            "score": round(face.score, 4),
            "person": f"face {face.track}",
            "frame": frame.index,
            "time": clock(frame.time_seconds),
            "image": thumbnails.get(frame.index, ""),
        }
        for frame in looked.prediction.frames
        for face in frame.faces
        if face.track in shown
    ]


def draw_thumbnail(looked: Looked, view: FrameView) -> str:
    """Return a frame with its boxes as the address of a small JPEG that holds its own bytes."""
    image = mark(looked, view)
    small = resize(np.ascontiguousarray(image), _THUMBNAIL_SIDE / max(image.shape[:2]))
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(small, quality=72)).decode()


def draw_timeline(looked: Looked, *, chosen: int) -> Any:
    """Draw a line per person, the threshold and the suspicious stretches.

    Over a point its frame is shown; a click on it selects it (`PICKED`, by its field `frame`).

    Args:
        looked: A video.
        chosen: Index of the frame that is open below the chart.
    """
    import altair as alt

    prediction = looked.prediction
    points = {"values": list_points(looked)}
    length = max(prediction.frames[-1].time_seconds, 0.01)
    scale = alt.Scale(domain=[0, length], nice=False)
    time = alt.X("seconds:Q", title="seconds", axis=alt.Axis(grid=False), scale=scale)
    score = alt.Y(
        "score:Q", title="score", scale=alt.Scale(domain=[-0.03, 1.05], nice=False), axis=alt.Axis(values=[0, 0.5, 1])
    )
    persons = [f"face {face.track}" for face in choose_persons(looked)]
    legend = alt.Legend(orient="bottom", title=None, columns=4) if len(persons) > 1 else None
    colour = alt.Color("person:N", scale=alt.Scale(domain=persons, range=_LINES[: len(persons)]), legend=legend)
    hover = alt.selection_point(name="hovered", on="pointerover", nearest=True, fields=["frame"], empty=False)
    picked = alt.selection_point(name=PICKED, on="click", nearest=True, fields=["frame"], empty=False)

    lines = alt.Chart(points).mark_line(strokeWidth=2).encode(x=time, y=score, color=colour)
    dots = (
        alt.Chart(points)
        .mark_point(filled=True, opacity=1)
        .encode(
            x=time,
            y=score,
            color=colour,
            size=alt.when(hover).then(alt.value(150)).otherwise(alt.value(45)),
            tooltip=[
                alt.Tooltip("time:N"),
                alt.Tooltip("person:N"),
                alt.Tooltip("score:Q", format=".3f"),
                alt.Tooltip("image:N"),
            ],
        )
        .add_params(hover, picked)
    )
    layers = [_shade(looked), *_threshold(prediction.threshold), _here(looked, chosen), lines, dots]
    return alt.layer(*[layer for layer in layers if layer is not None]).properties(height=320)


def _shade(looked: Looked) -> Any:
    """Shade the stretches in which every frame looked at is fake; one frame alone has a little width too."""
    import altair as alt

    if not looked.prediction.suspicious:
        return None
    length = looked.prediction.frames[-1].time_seconds
    pad = length / 200
    rows = [
        {"start": max(stretch.start_seconds - pad, 0), "end": min(stretch.end_seconds + pad, length)}
        for stretch in looked.prediction.suspicious
    ]
    return alt.Chart({"values": rows}).mark_rect(color="#d6453d", opacity=0.14).encode(x="start:Q", x2="end:Q")


def _threshold(threshold: float) -> list[Any]:
    import altair as alt

    chart = alt.Chart({"values": [{"threshold": threshold, "said": f"threshold {threshold:.2f}"}]})
    rule = chart.mark_rule(strokeDash=[5, 4], color="#888888", strokeWidth=1.5).encode(y="threshold:Q")
    below = 11 if threshold > 0.5 else -9
    text = chart.mark_text(align="left", x=4, dy=below, color="#888888").encode(y="threshold:Q", text="said:N")
    return [rule, text]


def _here(looked: Looked, index: int) -> Any:
    """Mark the moment of the frame that is open."""
    import altair as alt

    data = {"values": [{"here": looked.frames[index].time_seconds}]}
    return alt.Chart(data).mark_rule(color="#2f6fed", strokeWidth=2, opacity=0.7).encode(x="here:Q")
