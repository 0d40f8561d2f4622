import pytest

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.forgeries import Forgeries, SourceRecord, name_model
from unmask.inference.deciding import Deciding, conclude
from unmask.inference.results import FaceScore, FrameResult, Prediction
from unmask.inference.words import compare, name_face, show_clock, show_probability, show_seconds
from unmask.types import MediaKind, Verdict

BOX = (0.0, 0.0, 90.0, 90.0)


def judge(*tracks: list[float | None], step: float = 0.125, deciding: Deciding | None = None) -> Prediction:
    """Conclude a video whose persons have these scores in its frames, None where they are absent."""
    frames = []
    for at, scores in enumerate(zip(*tracks, strict=True)):
        faces = [FaceScore(track, BOX, 0.9, score) for track, score in enumerate(scores) if score is not None]
        frames.append(FrameResult(at, at * step, tuple(faces)))
    rules = {"decision": Decision(), "deciding": deciding or Deciding(), "margin": 0.05}
    return conclude("a.mp4", MediaKind.VIDEO, frames, notes=[], num_frames=500, **rules)  # type: ignore[arg-type]


def judge_image(*scores: float, face: str = "most_fake") -> Prediction:
    faces = tuple(FaceScore(track, BOX, 0.9, score) for track, score in enumerate(scores))
    frames = [FrameResult(0, 0.0, faces)]
    return conclude(
        "a.jpg", MediaKind.IMAGE, frames, decision=Decision(), deciding=Deciding(face), margin=0.05, notes=[]
    )


def test_half_a_video_that_looks_forged_is_uncertain_and_says_how_much() -> None:
    told = judge([0.01] * 16 + [0.6] * 17)
    assert (told.score or 1) < 0.4
    assert told.verdict is Verdict.UNCERTAIN
    assert told.faces[0].verdict is Verdict.UNCERTAIN
    assert told.headline.startswith("Uncertain: 2.1 of 4 seconds look forged")
    assert "below the threshold 0.500" in told.reason
    assert "0:02.0 to 0:04.0" in told.reason


def test_a_short_run_needs_to_last_and_a_single_frame_is_noise() -> None:
    for fake, expected in (([3, 9, 20, 31], "real"), ([3, 4, 5, 6], "real"), (range(3, 11), "uncertain")):
        told = judge([0.9 if at in fake else 0.05 for at in range(33)])
        assert told.verdict == expected, fake
        assert told.suspicious
        assert f"{len(fake) * 0.125:g}" in told.headline
    long = judge([0.9 if at in (3, 4, 5, 6) else 0.05 for at in range(33)], step=1.0)
    assert (long.verdict, long.headline) == ("uncertain", "Uncertain: 4 of 32 seconds look forged")


def test_runs_are_of_neighbouring_frames_and_of_one_face() -> None:
    broken = [0.9, 0.9, None, 0.9, 0.9] + [0.05] * 20
    assert judge(broken, step=1.0).verdict is Verdict.REAL
    first, second = [0.9, 0.9, 0.05, 0.05] + [0.05] * 20, [0.05, 0.05, 0.9, 0.9] + [0.05] * 20
    assert judge(first, second, step=1.0).verdict is Verdict.REAL


def test_the_rule_is_set_and_switched_off_by_its_keys() -> None:
    scores: list[float | None] = [0.9 if at < 5 else 0.05 for at in range(33)]
    for deciding, expected in (
        (Deciding(), "uncertain"),
        (Deciding(suspicious_frames=6), "real"),
        (Deciding(suspicious_seconds=6), "real"),
        (Deciding(suspicious_frames=None), "real"),
        (Deciding(suspicious_frames=None, suspicious_share=0.15), "uncertain"),
    ):
        assert judge(scores, step=1.0, deciding=deciding).verdict == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("suspicious_share", 0), ("suspicious_share", 1.2), ("suspicious_frames", 0), ("suspicious_frames", 2.5),
        ("suspicious_seconds", -1), ("suspicious_seconds", float("nan")),
    ],
)  # fmt: skip
def test_a_number_that_the_rule_cannot_use_is_told_by_its_key(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"deciding\.{key}={value}"):
        Deciding(**{key: value})  # type: ignore[arg-type]


def test_a_fake_that_mostly_looks_real_says_which_part_it_is() -> None:
    told = judge([0.999] * 8 + [0.45] * 25)
    assert told.verdict is Verdict.FAKE
    assert told.headline == "Fake: 0.9 of 4 seconds look forged"
    assert "0:00.0 to 0:00.9" in told.reason


def test_a_face_that_does_not_decide_but_looks_fake_is_said() -> None:
    passer_by = [0.97] + [None] * 32
    told = judge([0.05] * 33, passer_by)
    assert told.verdict is Verdict.REAL
    assert "face 2, which does not decide, looks forged" in told.headline
    assert "Face 2 does not decide" in told.reason
    assert "0.970" in told.reason


def test_short_videos_are_told_in_frames() -> None:
    assert judge([0.9] * 3 + [0.05] * 9, step=0.1).headline == "Real, though 3 of 12 examined frames look forged"


def test_faces_of_an_image_are_named_from_1() -> None:
    assert judge_image(0.1, 0.9, 0.2).headline == "Fake: 1 of 3 faces looks forged (face 2)"
    assert judge_image(0.9).headline == "Fake: the face looks forged"
    assert judge_image(0.1).headline.startswith("Real: the face shows no sign")
    assert "face 2" in judge_image(0.1, 0.9, face="main").headline
    assert name_face(0) == "face 1"


def test_no_face_is_not_called_real() -> None:
    told = judge([None, None])
    assert told.headline == "No face found: nothing was judged"
    assert "does not mean it is real" in told.reason


def test_every_face_has_the_verdict_of_its_own_frame() -> None:
    told = judge([0.9, 0.5, 0.1])
    assert [frame.faces[0].verdict for frame in told.frames] == ["fake", "uncertain", "real"]
    assert [frame["faces"][0]["verdict"] for frame in told.to_dict()["frames"]] == ["fake", "uncertain", "real"]


def test_scores_on_either_side_of_the_threshold_never_read_alike() -> None:
    assert compare(0.49996, 0.5) == "0.49996, below the threshold 0.50000"
    assert compare(0.4, 0.5) == "0.400, below the threshold 0.500"
    assert compare(0.5, 0.5) == "0.500, at the threshold 0.500"


@pytest.mark.parametrize(
    ("probability", "said"), [(None, "unknown"), (0.001, "under 1 %"), (0.999, "over 99 %"), (0.25, "25 %")]
)
def test_probabilities_claim_no_certainty(probability: float | None, said: str) -> None:
    assert show_probability(probability) == said


def test_times_are_written_as_players_do() -> None:
    assert [show_clock(seconds) for seconds in (0, 59.96, 3723.04)] == ["0:00.0", "1:00.0", "1:02:03.0"]
    assert [show_seconds(seconds) for seconds in (4.0, 2.55, 90.4)] == ["4", "2.5", "90"]


def test_a_model_is_called_by_its_run_and_its_training_data() -> None:
    known = {"run_name": "trial", "run_id": "0123abcd", "trained_on": [SourceRecord("a", Forgeries.DRAWN).to_dict()]}
    assert name_model(known, network="tiny") == "trial (tiny), trained on a (drawn faces)"
    assert name_model({}, network="tiny").startswith("tiny, trained on unnamed")


def test_an_uncertain_video_shows_the_frames_that_made_it_so() -> None:
    half: list[float | None] = [0.01] * 16 + [0.6] * 17
    told = judge([0.45] * 33, half)
    assert told.verdict is Verdict.UNCERTAIN
    assert "Face 2, the most suspicious," in told.reason
    assert min(told.key_frames) >= 16
