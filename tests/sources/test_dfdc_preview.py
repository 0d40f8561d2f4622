import json
from pathlib import Path

import pytest

from unmask.data.splits import check_groups, find_groups
from unmask.errors import ConfigError, SourceError
from unmask.sources.dfdc_preview import DFDCPreview
from unmask.types import Label, MediaKind

# Keys and values as SCLBD/DeepfakeBench, preprocessing/rearrange.py, and a public `pdfdc_utils.py` read them: labels in
# lower case, sets train and test, `target_id` in real and `swapped_id` in fake videos.
REAL, FAKE_A = "original_videos/643049/643049_A_001.mp4", "method_A/643049/643049_A/1523373_643049_A_001.mp4"
TEST_REAL, FAKE_B = "original_videos/1260311/1260311_C_001.mp4", "method_B/1260311/1260311_C/1255229_1260311_C_001.mp4"
ENTRIES = {
    FAKE_A: {"label": "fake", "set": "train", "target_id": 643049, "swapped_id": 1523373, "augmentations": []},
    REAL: {"label": "real", "set": "train", "target_id": 643049, "swapped_id": None, "augmentations": []},
    FAKE_B: {"label": "fake", "set": "test", "target_id": 1260311, "swapped_id": 1255229, "augmentations": ["fps"]},
    TEST_REAL: {"label": "real", "set": "test", "target_id": 1260311, "augmentations": []},
}


def _lay_out(root: Path, *names: str, entries: object = ENTRIES) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "dataset.json").write_text(json.dumps(entries))
    return root


def test_rows_hold_label_method_people_and_the_published_test_set(tmp_path: Path) -> None:
    videos = DFDCPreview(_lay_out(tmp_path, *ENTRIES), val_fraction=0).list_videos()
    rows = {(v.video_id, v.label, v.method, v.split, v.identities, v.original, v.is_there) for v in videos}
    real, test_real = "dfdc_preview/original/643049/643049_A_001", "dfdc_preview/original/1260311/1260311_C_001"
    assert rows == {
        (real, Label.REAL, "original", "train", ("643049",), None, True),
        ("dfdc_preview/method_A/643049/643049_A/1523373_643049_A_001", Label.FAKE, "method_A", "train",
         ("643049", "1523373"), real, True),
        (test_real, Label.REAL, "original", "test", ("1260311 (test list)",), None, True),
        ("dfdc_preview/method_B/1260311/1260311_C/1255229_1260311_C_001", Label.FAKE, "method_B", "test",
         ("1260311 (test list)", "1255229 (test list)"), test_real, True),
    }  # fmt: skip


def test_a_half_finished_download_lists_what_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = DFDCPreview(_lay_out(tmp_path, REAL, FAKE_A, "method_A/643049/extra.mp4")).list_videos()
    assert {video.method for video in videos if not video.is_there} == {"original", "method_B"}
    assert sum(video.is_there for video in videos) == 2
    assert "'method_B'" in caplog.text
    assert "'method_A/643049/extra.mp4'" in caplog.text


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("method_A/videos/643049/643049_A/1523373_643049_A_001.mp4", MediaKind.VIDEO),
        ("method_A/frames/1523373_643049_A_001/000.png", MediaKind.FRAMES),  # of DeepfakeBench, without the actor
        ("method_A/frames/643049/643049_A/1523373_643049_A_001/000.png", MediaKind.FRAMES),
    ],
)
def test_nested_videos_and_frames_are_found(tmp_path: Path, place: str, kind: MediaKind) -> None:
    (found,) = (video for video in DFDCPreview(_lay_out(tmp_path, place)).list_videos() if video.is_there)
    assert (found.method, found.kind) == ("method_A", kind)


def test_validation_shows_other_people_than_training(tmp_path: Path) -> None:
    entries: dict[str, dict[str, object]] = {}
    for circle in (range(5), range(5, 10)):
        for one in circle:
            entries[f"original_videos/{one}/{one}_A_001.mp4"] = {"label": "real", "set": "train", "target_id": one}
            for other in circle:
                if other != one:
                    entry = {"label": "fake", "set": "train", "target_id": one, "swapped_id": other}
                    entries[f"method_A/{one}/{one}_A/{other}_{one}_A_001.mp4"] = entry
    videos = DFDCPreview(_lay_out(tmp_path, entries=entries), val_fraction=0.3).list_videos()
    people = {split: {p for v in videos if v.split == split for p in v.identities} for split in ("train", "val")}
    assert people["val"]
    assert not people["train"] & people["val"]
    for split in ("train", "val"):
        assert {video.label for video in videos if video.split == split} == set(Label)
    check_groups([v.video_id for v in videos], find_groups(videos), [v.split for v in videos])


def test_an_absent_table_is_named(tmp_path: Path) -> None:
    (_lay_out(tmp_path, REAL, FAKE_A) / "dataset.json").unlink()
    with pytest.raises(SourceError, match=r"dataset\.json"):
        DFDCPreview(tmp_path).list_videos()


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ([], r"dataset\.json"),
        ({}, "0 entries"),
        ({FAKE_A: 7}, r"dataset\.json"),
        ({FAKE_A: {"label": "maybe", "set": "train"}}, "label 'maybe'"),
        ({FAKE_A: {"label": "fake", "set": "third"}}, "set 'third'"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, entries: object, word: str) -> None:
    with pytest.raises(SourceError, match=word):
        DFDCPreview(_lay_out(tmp_path, REAL, FAKE_A, entries=entries)).list_videos()


def test_a_face_dataset_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"name": "ffpp", "spec": {}}')
    assert DFDCPreview.recognize(tmp_path) is None
    with pytest.raises(SourceError, match="original_videos"):
        DFDCPreview(tmp_path).list_videos()


def test_an_invalid_fraction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.val_fraction=1"):
        DFDCPreview(tmp_path, val_fraction=1)
