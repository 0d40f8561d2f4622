import json

from unmask.forgeries import Forgeries, SourceRecord
from unmask.inference.results import FaceResult, FaceScore, FrameResult, Prediction
from unmask.types import MediaKind, Verdict


def test_a_prediction_becomes_a_row_of_plain_values() -> None:
    box = (1.0, 2.0, 30.0, 40.0)
    prediction = Prediction(
        "clip.mp4",
        MediaKind.VIDEO,
        Verdict.FAKE,
        0.8,
        0.5,
        faces=(FaceResult(0, box, 0.9, 0.8, Verdict.FAKE, num_frames=1),),
        trained_on=(SourceRecord("mine", Forgeries.DRAWN),),
        frames=(FrameResult(3, 0.12, (FaceScore(0, box, 0.9, 0.8, verdict=Verdict.FAKE),)),),
    )
    row = json.loads(json.dumps(prediction.to_dict()))
    assert set(row) == {
        "path",
        "kind",
        "verdict",
        "score",
        "threshold",
        "faces",
        "frames",
        "error",
        "suspicious",
        "key_frames",
        "notes",
        "probability",
        "num_examined",
        "num_frames",
        "headline",
        "reason",
        "trained_on",
        "warning",
    }
    assert (row["kind"], row["verdict"], row["error"]) == ("video", "fake", None)
    assert row["trained_on"] == [{"name": "mine", "forgeries": "drawn"}]
    assert "'mine'" in row["warning"]
    assert row["faces"][0]["verdict"] == "fake"
    assert type(prediction.to_dict()["verdict"]) is str
    assert row["frames"][0] == {
        "index": 3,
        "time_seconds": 0.12,
        "faces": [{"track": 0, "box": [1.0, 2.0, 30.0, 40.0], "confidence": 0.9, "score": 0.8, "verdict": "fake"}],
    }


def test_a_file_without_a_verdict_keeps_its_error() -> None:
    row = Prediction("x.jpg", None, None, None, 0.5, error="0 bytes").to_dict()
    assert (row["kind"], row["verdict"], row["score"], row["error"]) == (None, None, None, "0 bytes")
