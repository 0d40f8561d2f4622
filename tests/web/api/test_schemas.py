from dataclasses import fields
from typing import Any

import pytest
from pydantic import BaseModel

from unmask.forgeries import SourceRecord
from unmask.inference.results import FaceResult, FaceScore, FrameResult, Prediction, TimeRange
from unmask.web.api.routes import Face, Frame, ImageResult, SeenFace, Source, Stretch, VideoResult

DRAWN = {"landmarks", "crop", "heatmap"}
OF_VIDEOS = {"frames", "suspicious", "key_frames"}
RENAMED = {"path", "error"}  # `name`; an unreadable file has a row or a job error of its own


@pytest.mark.parametrize(
    ("schema", "result", "left_out", "added"),
    [
        (Face, FaceResult, set(), DRAWN),
        (SeenFace, FaceScore, {"landmarks", "activation_map"}, set()),
        (Frame, FrameResult, set(), set()),
        (Stretch, TimeRange, set(), set()),
        (Source, SourceRecord, set(), set()),
        (ImageResult, Prediction, RENAMED | OF_VIDEOS, {"name", "warning"}),
        (VideoResult, Prediction, RENAMED, {"name", "warning", "heatmaps"}),
    ],
)
def test_a_field_of_a_result_reaches_the_clients(
    schema: type[BaseModel], result: Any, left_out: set[str], added: set[str]
) -> None:
    known = {field.name for field in fields(result)}
    assert left_out <= known
    assert set(schema.model_fields) == known - left_out | added
