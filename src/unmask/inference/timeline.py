"""Plot the scores of a video over time."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

from unmask.decision import show_score
from unmask.inference.annotate import PERSONS, hex_of
from unmask.inference.results import FaceResult, Prediction, TimeRange, find_main
from unmask.inference.words import entitle, name_face, show_examined
from unmask.paths import write_bytes
from unmask.types import Verdict

MAX_PERSONS = 8
"""Persons with a colour and a line in the legend: more would leave no room for the plot."""

_LETTERS = 58
"""Of a line of the title."""


def write_timeline(path: Path, prediction: Prediction) -> None:
    """Write a PNG: a dot per person and examined frame, the threshold, suspicious stretches, the weightiest frames.

    Dots are not joined: nothing is known between the examined frames.

    Args:
        path: Ends in `.png`.
        prediction: Prediction of a video.
    """
    data = io.BytesIO()
    _draw(prediction).savefig(data, format="png")
    write_bytes(path, data.getvalue())


def _draw(prediction: Prediction) -> Any:
    from matplotlib.figure import Figure

    # Without pyplot, which keeps figures and wants a display. Large letters: a phone shows it 390 pixels wide.
    figure = Figure(figsize=(6.4, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _draw_persons(axes, prediction)
    _draw_key_frames(axes, prediction)
    for start, end in _shade(prediction):
        axes.axvspan(start, end, color=hex_of(Verdict.FAKE), alpha=0.15, linewidth=0)
    threshold = f"threshold {show_score(prediction.threshold)}"
    axes.axhline(prediction.threshold, color="grey", linestyle="--", label=threshold)
    axes.set(xlabel=_say_time(prediction), ylabel="score", ylim=(-0.03, 1.03))
    title = [piece for line in entitle(prediction) for piece in wrap(line, _LETTERS)]
    axes.set_title("\n".join(title), fontsize=13)
    axes.xaxis.label.set_fontsize(13)
    axes.yaxis.label.set_fontsize(13)
    axes.tick_params(labelsize=13)
    figure.legend(loc="outside lower center", ncols=2, fontsize=12)
    return figure


def _say_time(prediction: Prediction) -> str:
    if not prediction.num_frames:
        return "seconds"
    return f"seconds ({show_examined(prediction.num_examined, prediction.num_frames)})"


def choose_persons(faces: Iterable[FaceResult]) -> list[FaceResult]:
    """Return those that get a line in the legend: those that decide first, then by score."""
    return sorted(faces, key=lambda face: (not face.decides, -face.score))[:MAX_PERSONS]


def _draw_persons(axes: Any, prediction: Prediction) -> None:
    chosen = choose_persons(prediction.faces)
    others = [face for face in prediction.faces if face not in chosen]
    axes.set_prop_cycle(color=PERSONS)
    for face in chosen:
        said = f"{name_face(face.track)}: {face.verdict} {show_score(face.score)}"
        axes.plot(*_list_points(prediction, face), linestyle="none", marker="o", markersize=5, label=said, zorder=2.5)
    for number, face in enumerate(others):
        said = "_" if number else f"and {len(others)} more"  # what begins with _ stays out of the legend
        axes.plot(
            *_list_points(prediction, face), color="silver", linestyle="none", marker=".", markersize=2, label=said
        )


def _list_points(prediction: Prediction, face: FaceResult) -> tuple[list[float], list[float]]:
    """Return the times and the scores of a person."""
    seen = [
        (frame.time_seconds, one.score) for frame in prediction.frames for one in frame.faces if one.track == face.track
    ]
    return [time for time, _ in seen], [score for _, score in seen]


def _draw_key_frames(axes: Any, prediction: Prediction) -> None:
    """Ring the frames that weighed most, which are those of the person that the verdict is about."""
    main = find_main(prediction.faces)
    points = [
        (frame.time_seconds, seen.score)
        for frame in prediction.frames
        for seen in frame.faces
        if main is not None and seen.track == main.track and frame.index in prediction.key_frames
    ]
    if not points:
        return
    axes.scatter(
        *zip(*points, strict=True), s=60, facecolors="none", edgecolors="black", label="weighed most", zorder=3
    )


def _shade(prediction: Prediction) -> Iterator[tuple[float, float]]:
    """Yield where the suspicious stretches begin and end, a little wider, so that one frame alone is seen too."""
    if not prediction.suspicious:
        return
    pad = ((prediction.frames[-1].time_seconds - prediction.frames[0].time_seconds) or 1.0) / 200
    start, end = _widen(prediction.suspicious[0], pad)
    for stretch in prediction.suspicious[1:]:
        next_start, next_end = _widen(stretch, pad)
        if next_start > end:  # two shades upon each other would look like something worse
            yield start, end
            start = next_start
        end = next_end
    yield start, end


def _widen(stretch: TimeRange, pad: float) -> tuple[float, float]:
    return stretch.start_seconds - pad, stretch.end_seconds + pad
