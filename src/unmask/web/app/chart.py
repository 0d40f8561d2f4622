"""The timeline of a video as an Altair chart."""

import json
import math
from typing import Any

from unmask.decision import show_score
from unmask.inference.colours import PERSONS, hex_of
from unmask.inference.results import FaceResult
from unmask.inference.timeline import choose_persons
from unmask.inference.words import name_face, show_clock
from unmask.types import Verdict
from unmask.web.app.views import Looked

PICKED = "picked"
"""Name of the selection that a click makes."""

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
"""Seconds between the marks of the axis of time; beyond them whole hours."""

_MAX_MARKS = 8

_LETTERS = 13
"""Pixels: a chart is not scaled, so what can be read on a desk can be read on a phone."""

_MANY = 100
"""Frames from which on dots are small."""


def list_persons(looked: Looked) -> list[FaceResult]:
    """Return the persons that the chart shows, the most suspicious ones, by their number."""
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

    Dots are not joined: nothing is known between the examined frames. Over a large dot its frame is shown; a click on
    it selects it (`PICKED`, by its field `frame`). Frames that are not kept have a small, faint one.

    Args:
        looked: A video.
        chosen: Index of the frame that is open below the chart; None where none is kept.
    """
    import altair as alt

    prediction = looked.prediction
    points = list_points(looked)
    length = max(prediction.frames[-1].time_seconds, 0.01)
    pad = length / 60  # the first and the last dot are whole
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
    """Draw what can be pointed at and clicked."""
    import altair as alt

    hover = alt.selection_point(name="hovered", on="pointerover", nearest=True, fields=["frame"], empty=False)
    picked = alt.selection_point(name=PICKED, on="click", nearest=True, fields=["frame"], empty=False)
    # Pictures come once a frame, not once a person and frame: eight persons would make a page of many megabytes.
    pictures = [{"frame": index, "image": image} for index, image in looked.thumbnails.items()]
    return (
        alt.Chart({"values": [point for point in points if point["frame"] in looked.thumbnails]})
        .transform_lookup("frame", alt.LookupData({"values": pictures}, key="frame", fields=["image"]))
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
    """Mark round moments, written as on a clock."""
    import altair as alt

    hours = 3600 * math.ceil(length / (3600 * _MAX_MARKS))
    step = next((step for step in _STEPS if length / step <= _MAX_MARKS), hours)
    moments = [round(number * step, 1) for number in range(int(length / step) + 1)]
    tail = ".0" if step >= 1 else ""
    names = {f"{moment:.1f}".removesuffix(".0"): show_clock(moment).removesuffix(tail) for moment in moments}
    return alt.Axis(grid=False, values=moments, labelExpr=f"{json.dumps(names)}[datum.value]")


def _shade(looked: Looked) -> Any:
    """Shade the stretches in which every frame looked at is fake; one frame alone has a little width too."""
    import altair as alt

    if not looked.prediction.suspicious:
        return None
    length = looked.prediction.frames[-1].time_seconds
    pad = length / 200
    rows: list[dict[str, float]] = []
    for stretch in looked.prediction.suspicious:
        start, end = max(stretch.start_seconds - pad, 0), min(stretch.end_seconds + pad, length)
        if rows and start <= rows[-1]["end"]:  # two shades upon each other would look like something worse
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
    """Mark the moment of the frame that is open."""
    import altair as alt

    data = {"values": [{"here": looked.frames[index].time_seconds}]}
    return alt.Chart(data).mark_rule(color="#2f6fed", strokeWidth=2, opacity=0.7).encode(x="here:Q")
