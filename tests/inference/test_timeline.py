import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from unmask.forgeries import Forgeries, SourceRecord
from unmask.inference.results import FaceResult, FaceScore, FrameResult, Prediction, TimeRange
from unmask.inference.timeline import MAX_PERSONS, _draw, _shade, write_timeline
from unmask.media.image import read_image
from unmask.types import MediaKind, Verdict

BOX = (0.0, 0.0, 50.0, 50.0)


def predict(num_persons: int, *, num_frames: int = 12, fake: Collection[int] = (5,)) -> Prediction:
    """Every person looks real, less so the higher its number; the last one is fake in some frames."""
    real = [0.1 + 0.2 * person / num_persons for person in range(num_persons)]
    frames = []
    for index in range(num_frames):
        scores = [*real[:-1], 0.9 if index in fake else real[-1]]
        faces = (FaceScore(person, BOX, 0.9, score) for person, score in enumerate(scores))
        frames.append(FrameResult(10 * index, 0.5 * index, tuple(faces)))
    rows = tuple(FaceResult(person, BOX, 0.9, score, Verdict.REAL, num_frames) for person, score in enumerate(real))
    alone = tuple(TimeRange(0.5 * index, 0.5 * index, 0.9) for index in fake)
    weightiest = tuple(10 * index for index in [*fake][:5])
    return Prediction(
        "a.mp4", MediaKind.VIDEO, Verdict.REAL, real[-1], 0.5, rows, tuple(frames),
        suspicious=alone, key_frames=weightiest,
    )  # fmt: skip


def read_legend(prediction: Prediction) -> list[str]:
    return [text.get_text() for text in _draw(prediction).legends[0].get_texts()]


@pytest.mark.parametrize("num_persons", [1, 3, 23])
def test_a_crowd_leaves_room_for_the_plot_and_warns_of_nothing(tmp_path: Path, num_persons: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_timeline(tmp_path / "a.png", predict(num_persons))
    figure = _draw(predict(num_persons))
    figure.canvas.draw()
    assert figure.axes[0].get_position().width > 0.6
    assert read_image(tmp_path / "a.png").shape[2] == 3


def test_the_legend_names_the_most_suspicious_and_counts_the_rest() -> None:
    said = read_legend(predict(23))
    persons = [text for text in said if text.startswith("face ")]
    assert len(persons) == MAX_PERSONS == 8
    assert persons[0].startswith("face 23: ")
    assert "and 15 more" in said
    assert not [text for text in read_legend(predict(8)) if "more" in text]


def test_frames_that_weighed_most_are_ringed() -> None:
    prediction = predict(3, fake=(2, 5, 7))
    (rings,) = [part for part in _draw(prediction).axes[0].collections if part.get_label() == "weighed most"]
    times = {frame.index: frame.time_seconds for frame in prediction.frames}
    assert sorted(rings.get_offsets()[:, 0]) == sorted(times[index] for index in prediction.key_frames)


def test_one_suspicious_frame_is_shaded_and_neighbours_are_shaded_once() -> None:
    ((start, end),) = _shade(predict(1))
    assert (start, end) == pytest.approx((2.5 - 5.5 / 200, 2.5 + 5.5 / 200))
    assert len(list(_shade(predict(1, fake=(2, 8))))) == 2
    ((start, end),) = _shade(predict(1, num_frames=900, fake=range(0, 900, 2)))
    assert end - start > 440


def test_a_video_of_one_frame_or_without_faces_is_plotted(tmp_path: Path) -> None:
    write_timeline(tmp_path / "a.png", predict(1, num_frames=1, fake=(0,)))
    empty = Prediction("a.mp4", MediaKind.VIDEO, Verdict.NO_FACE, None, 0.5, frames=(FrameResult(0, 0.0, ()),))
    write_timeline(tmp_path / "b.png", empty)
    assert len(list(tmp_path.iterdir())) == 2


def test_examined_frames_are_dots_that_no_line_joins() -> None:
    lines = [line for line in _draw(predict(3)).axes[0].get_lines() if len(line.get_xdata()) > 2]
    assert [(line.get_linestyle(), line.get_marker()) for line in lines] == [("None", "o")] * 3


def test_the_drawing_is_headed_by_the_headline_and_what_the_model_was_trained_on() -> None:
    trained_on = (SourceRecord("mine", Forgeries.DRAWN),)
    told = replace(predict(1), headline="Real, though 0.5 of 6 seconds look forged", trained_on=trained_on)
    title = _draw(told).axes[0].get_title()
    assert told.headline in title
    assert "drawn faces" in title
