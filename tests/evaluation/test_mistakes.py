import base64
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from unmask.decision import Decision
from unmask.evaluation import mistakes
from unmask.evaluation.mistakes import MAX_BYTES, NUM_LISTED, NUM_SHOWN, SIDE, embed_thumbnails, find_mistakes
from unmask.media.image import write_jpeg
from unmask.types import Label

Tables = tuple[pd.DataFrame, pd.DataFrame]


def make_tables(*, num: int) -> Tables:
    """Make reals and fakes with two crops each, all on the wrong side of 0.5, the farthest first."""
    frames, videos = [], []
    for label, side in ((0, 1), (1, -1)):
        for number in range(num):
            video_id, score = f"{label}/{number}", 0.5 + side * (0.45 - number / 1000)
            videos.append({"video_id": video_id, "label": label, "method": "any", "score": score})
            frames += [
                {"video_id": video_id, "crop": f"{video_id}/{place}.jpg", "label": label}
                | {"score": score + side * place / 50}
                for place in (0, 1)
            ]
    videos += [{"video_id": "right", "label": 0, "method": "any", "score": 0.1}]
    videos += [{"video_id": "faceless", "label": 1, "method": "any", "score": np.nan}]
    return pd.DataFrame(frames), pd.DataFrame(videos)


def write_crops(root: Path, tables: Tables, *, side: int = 300) -> None:
    rng = np.random.default_rng(0)
    for crop in tables[0]["crop"]:
        write_jpeg(root / crop, rng.integers(0, 255, (side, side, 3), dtype=np.uint8), quality=90)


def test_mistakes_are_listed_by_class_and_distance_with_the_most_misleading_crop() -> None:
    found = find_mistakes(*make_tables(num=NUM_LISTED + 5), decision=Decision())
    assert [mistake.truth for mistake in found] == [Label.REAL] * NUM_LISTED + [Label.FAKE] * NUM_LISTED
    assert [mistake.video_id for mistake in found[:3]] == ["0/0", "0/1", "0/2"]
    assert (found[0].crop, found[NUM_LISTED].crop) == ("0/0/1.jpg", "1/0/1.jpg")


def test_correct_predictions_give_no_mistakes() -> None:
    frames, videos = make_tables(num=3)
    assert find_mistakes(frames, videos.assign(label=1 - videos["label"]).head(6), decision=Decision()) == []


def test_thumbnails_are_limited_in_size_number_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = make_tables(num=NUM_SHOWN + 2)
    write_crops(tmp_path, tables)
    listed = find_mistakes(*tables, decision=Decision())
    shown = [mistake for mistake in embed_thumbnails(listed, root=tmp_path) if mistake.thumbnail]
    images = [base64.b64decode(mistake.thumbnail.removeprefix("data:image/jpeg;base64,")) for mistake in shown]
    assert [mistake.truth for mistake in shown] == [Label.REAL] * NUM_SHOWN + [Label.FAKE] * NUM_SHOWN
    assert sum(map(len, images)) <= MAX_BYTES
    assert cv2.imdecode(np.frombuffer(images[0], np.uint8), cv2.IMREAD_COLOR).shape == (SIDE, SIDE, 3)
    monkeypatch.setattr(mistakes, "MAX_BYTES", len(images[0]) * 3)
    assert 1 <= sum(bool(mistake.thumbnail) for mistake in embed_thumbnails(listed, root=tmp_path)) <= 3


def test_mistake_with_an_unreadable_crop_is_listed_without_an_image(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tables = make_tables(num=3)
    write_crops(tmp_path, tables, side=32)
    (tmp_path / "0/0/1.jpg").unlink()
    (tmp_path / "1/0/1.jpg").write_bytes(b"\xff\xd8")
    found = embed_thumbnails(find_mistakes(*tables, decision=Decision()), root=tmp_path)
    assert [bool(mistake.thumbnail) for mistake in found] == [False, True, True] * 2
    assert "0/0/1.jpg" in caplog.text
