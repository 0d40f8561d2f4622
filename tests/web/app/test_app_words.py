from dataclasses import replace

import pytest

from unmask.decision import Decision
from unmask.inference.annotate import hex_of
from unmask.inference.deciding import Deciding
from unmask.inference.results import FaceResult, FaceScore, FrameResult, Prediction
from unmask.inference.words import show_clock, show_probability
from unmask.types import MediaKind, Verdict
from unmask.web.app.panels import draw_gauge, style_gauge
from unmask.web.app.views import (
    code,
    explain_contradiction,
    explain_coverage,
    explain_no_stretch,
    explain_numbers,
    plain,
    printable,
    say,
    shorten,
)


def film(*others: float) -> Prediction:
    """A video of ten frames, in which face 1 decides and scores 0.1, with others at seconds 1, 2 ... of it."""
    rows = [FaceResult(0, (0, 0, 9, 9), 1.0, 0.1, Verdict.REAL, num_frames=10)]
    rows += [FaceResult(n, (0, 0, 9, 9), 1.0, score, Verdict.FAKE, decides=False) for n, score in enumerate(others, 1)]
    frames = []
    for second in range(10):
        faces = [FaceScore(0, (0, 0, 9, 9), 1.0, 0.1)]
        faces += [FaceScore(n, (0, 0, 9, 9), 1.0, score) for n, score in enumerate(others, 1) if n == second]
        frames.append(FrameResult(second, float(second), tuple(faces)))
    return Prediction("a.mp4", MediaKind.VIDEO, Verdict.REAL, 0.1, 0.5, tuple(rows), tuple(frames))


def test_a_video_without_a_stretch_says_who_reaches_the_threshold_without_deciding() -> None:
    assert explain_no_stretch(film()) == "none. No face in the examined frames reaches the threshold."
    assert explain_no_stretch(film(0.4)) == explain_no_stretch(film())
    said = explain_no_stretch(film(0.99))
    assert said.startswith("none. No deciding face reaches the threshold")
    assert said.endswith("does: face 2, with 0.990 at 0:01.0.")
    assert explain_no_stretch(film(0.6, 0.99, 0.2)).endswith("face 3, with 0.990 at 0:02.0, and 1 more.")


def image(verdict: Verdict | None, score: float | None, *, num_faces: int = 1, name: str = "a.png") -> Prediction:
    faces = tuple(FaceResult(n, (0, 0, 9, 9), 1.0, (score or 0) / (n + 1), Verdict.FAKE) for n in range(num_faces))
    return Prediction(name, MediaKind.IMAGE, verdict, score, 0.5, faces if score is not None else ())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a_b*c.png", "a\\_b\\*c.png"),
        ("<img src=x onerror=alert(1)>", "\\<img src=x onerror=alert\\(1\\)\\>"),
        ("![x](u)", "\\!\\[x\\]\\(u\\)"),
        (":red[x] $a$ &lt;", "\\:red\\[x\\] \\$a\\$ \\&lt;"),
        ("two\nlines\u202egpj.exe", "two\ufffdlines\ufffdgpj.exe"),
    ],
)
def test_text_is_shown_literally(name: str, shown: str) -> None:
    assert plain(name) == shown


@pytest.mark.parametrize("name", ["www.evil.example", "HTTPS://evil.example", "http://evil.example", "me@evil.example"])
def test_addresses_in_text_do_not_become_links(name: str) -> None:
    assert "\u2060" in plain(name)
    assert name.replace(":", "\\:") not in plain(name)


def test_code_fences_are_longer_than_those_in_the_text() -> None:
    assert code("a``b`c") == "``` a``b`c ```"


def test_long_names_keep_start_and_suffix() -> None:
    assert shorten("x" * 100 + "end.png", length=20) == "x" * 9 + "…" + "xxx" + "end.png"
    assert printable(shorten("short.png")) == "short.png"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0:00.0"), (59.96, "1:00.0"), (723.04, "12:03.0"), (3723, "1:02:03.0")]
)
def test_times_are_formatted_as_a_clock(seconds: float, said: str) -> None:
    assert show_clock(seconds) == said


@pytest.mark.parametrize(
    ("probability", "said"), [(None, "unknown"), (0.0, "under 1 %"), (0.934, "93 %"), (0.9999, "over 99 %")]
)
def test_probabilities_never_claim_certainty(probability: float | None, said: str) -> None:
    assert show_probability(probability) == said


def test_a_headline_is_shown_literally_in_the_colour_of_its_verdict() -> None:
    unsure = replace(image(Verdict.UNCERTAIN, 0.3), headline="Uncertain: 2 of 4 seconds look forged")
    assert say(unsure).head(unsure.headline).startswith(":orange[")
    assert say(unsure).head(unsure.headline).endswith(" Uncertain\\: 2 of 4 seconds look forged]")
    assert say(unsure).head().endswith(" Uncertain]")


def test_numbers_of_an_uncalibrated_model_are_not_called_probabilities() -> None:
    text = explain_numbers(Decision(), Deciding(), num_frames=8, margin=0.05)
    assert "not calibrated" in text
    assert "default, since nothing was chosen" in text
    decision = Decision(calibration=(1, 0), criterion="eer")
    calibrated = explain_numbers(decision, Deciding("main"), num_frames=8, margin=0.05)
    assert "not calibrated" not in calibrated
    assert "both kinds of error are equally frequent" in calibrated
    assert "and the most suspicious person decides" in text
    assert "and the person seen most often decides" in calibrated


def test_a_video_shows_how_much_was_examined() -> None:
    frames = tuple(FrameResult(second, float(second), ()) for second in (0, 3600))
    prediction = Prediction(
        "a", MediaKind.VIDEO, Verdict.NO_FACE, None, 0.5, frames=frames, num_examined=2, num_frames=9000
    )
    assert explain_coverage(prediction).startswith("Examined 2 of 9,000 frames, from 0:00.0 to 1:00:00.0.")
    assert explain_coverage(replace(prediction, frames=frames[1:])).endswith("frames, at 1:00:00.0.")
    assert explain_coverage(replace(prediction, kind=MediaKind.IMAGE)) == ""


@pytest.mark.parametrize(
    ("verdict", "probability", "said"),
    [
        (Verdict.REAL, 0.67, "The verdict is real, but the calibrated probability leans to fake"),
        (Verdict.FAKE, 0.4, "The verdict is fake, but the calibrated probability leans to real"),
        (Verdict.REAL, 0.3, ""),
        (Verdict.FAKE, 0.5, ""),
        (Verdict.FAKE, None, ""),
        (Verdict.UNCERTAIN, 0.9, ""),
    ],
)
def test_a_probability_that_contradicts_the_verdict_is_explained(
    verdict: Verdict, probability: float | None, said: str
) -> None:
    text = explain_contradiction(replace(image(verdict, 0.5), probability=probability))
    assert text.startswith(said)
    assert bool(text) == bool(said)


def test_an_unreadable_file_is_called_unreadable() -> None:
    assert say(Prediction("a", None, None, None, 0.5, error="broken")).word == "Cannot be read"


def test_the_gauge_has_the_colours_of_verdicts() -> None:
    for verdict in (Verdict.REAL, Verdict.UNCERTAIN, Verdict.FAKE):
        assert f".unmask-gauge .{verdict} {{ background: {hex_of(verdict)}; }}" in style_gauge()


def test_the_gauge_shows_score_threshold_and_the_uncertain_part() -> None:
    html = draw_gauge(0.25, threshold=0.8, margin=0.05)
    assert 'class="uncertain" style="left:76.00%;width:5.00%"' in html
    assert 'class="needle" style="left:25.00%"' in html
    assert "threshold 0.800" in html
