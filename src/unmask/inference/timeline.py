"""Plot the scores of a video over time."""

import io
from pathlib import Path

from unmask.inference.results import Prediction
from unmask.media.picture import write_bytes


def write_timeline(path: Path, prediction: Prediction) -> None:
    """Write a PNG: a line per person, the threshold, and the suspicious stretches shaded.

    Args:
        path: Ends in `.png`.
        prediction: Of a video.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")  # without pyplot, which keeps figures and wants a display
    axes = figure.add_subplot()
    for face in prediction.faces:
        points = [
            (frame.time_seconds, seen.score)
            for frame in prediction.frames
            for seen in frame.faces
            if seen.track == face.track
        ]
        axes.plot(*zip(*points, strict=True), marker=".", label=f"face {face.track}: {face.verdict} {face.score:.2f}")
    for stretch in prediction.suspicious:
        axes.axvspan(stretch.start_seconds, stretch.end_seconds, color="tab:red", alpha=0.12)
    axes.axhline(prediction.threshold, color="grey", linestyle="--", label=f"threshold {prediction.threshold:.2f}")
    axes.set(xlabel="seconds", ylabel="score", ylim=(-0.02, 1.02), title=f"{prediction.verdict}")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    data = io.BytesIO()
    figure.savefig(data, format="png")
    write_bytes(path, data.getvalue())
