import json
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unmask.data.tables import FaceDataset
from unmask.errors import DatasetError, DetectorError, LeakageError
from unmask.faces.spec import CropSpec
from unmask.media.encode import write_video
from unmask.media.image import MAX_PIXELS, read_image, write_jpeg
from unmask.preparation.prepare import PrepareResult, prepare
from unmask.preparation.prepare_video import prepare_video
from unmask.sources.ffpp import FaceForensics
from unmask.types import Face, Image, Label, MediaKind, Outcome, Video

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}
SPEC = CropSpec("bright", crop_size=32, num_frames=4)


@dataclass
class BrightSpot:
    """Finds one face wherever the image is bright, and none in the dark; pickles, and needs no weights."""

    name: str = "bright"
    weights_sha256: str = ""

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> list[Face]:
        rows, columns = np.nonzero(image.mean(2) > 128)
        if len(rows) == 0:
            return []
        box = float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)
        return [Face(box, None, 0.9)]


@dataclass
class Deadly(BrightSpot):
    """Ends its process, as the kernel does when memory runs out."""

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        os._exit(1)


class Listed:
    """A source of given videos."""

    name = "listed"

    def __init__(self, videos: list[Video]) -> None:
        self.videos = videos

    def list_videos(self) -> list[Video]:
        return self.videos


def _spot(*, lit: bool = True, size: int = 96) -> Image:
    image = np.zeros((size, size, 3), np.uint8)
    if lit:
        image[30:60, 20:50] = 230
    return image


def _video(folder: Path, name: str, *, label: Label = Label.REAL, lit: bool = True, write: bool = True) -> Video:
    path = folder / f"{name}.mp4"
    if write:
        write_video(path, [_spot(lit=lit)] * 8, fps=25, crf=10)
    return Video(f"listed/{name}", path, label, "original" if label == Label.REAL else "FaceSwap", identities=(name,))


def _prepare(videos: list[Video], output: Path, **options: object) -> PrepareResult:
    chosen = {"detector": BrightSpot(), "spec": SPEC, "fractions": FRACTIONS, "seed": 0, "num_workers": 0} | options
    return prepare(Listed(videos), output=output, **chosen)  # type: ignore[arg-type]


def test_prepared_dataset_follows_its_contract(face_dataset: Path, synthetic_root: Path) -> None:
    dataset = FaceDataset.load(face_dataset)
    assert len(dataset.videos) == 8 + 4 * 8
    assert set(dataset.videos["outcome"]) == {"ok"}
    assert set(dataset.videos["codec"]) == {"h264"}
    assert set(dataset.videos["frames"]) == {4}
    assert (dataset.videos["width"] == 128).all()
    assert len(dataset.faces) == dataset.videos["faces"].sum() > 0.95 * 4 * 40
    for crop in dataset.faces["crop"]:
        assert read_image(face_dataset / crop).shape == (64, 64, 3)
    row = dataset.faces.iloc[0]
    assert row["crop"] == f"crops/{row['video_id']}/{row['frame_index']:06d}_0.jpg"
    assert set(dataset.faces["frame_index"]) == {0, 2, 3, 5}  # evenly spaced over the six frames
    assert len(row["landmarks"]) == 10
    assert dataset.info["preprocessing_hash"] == dataset.spec.hash
    assert dataset.info["counts"]["videos"] == {"ok": 40}
    assert dataset.info["sources"] == [{"name": "synthetic", "forgeries": "drawn"}]
    lists = {split: json.loads((synthetic_root / f"splits/{split}.json").read_text()) for split in FRACTIONS}
    for split, pairs in lists.items():
        names = {name for a, b in pairs for name in (a, b, f"{a}_{b}", f"{b}_{a}")}
        rows = dataset.videos[dataset.videos["split"] == split]
        assert {video_id.rpartition("/")[2] for video_id in rows["video_id"]} == names
    merged = dataset.faces.merge(dataset.videos, on="video_id", suffixes=("", "_of_video"))
    for column in ("label", "method", "split"):
        assert (merged[column] == merged[f"{column}_of_video"]).all()


def test_what_was_over_a_limit_is_tried_again_with_a_higher_one(tmp_path: Path) -> None:
    videos = [_video(tmp_path, "a"), _video(tmp_path, "b", label=Label.FAKE)]
    with pytest.raises(DatasetError, match=rf"limits\.max_pixels={96 * 96}\b"):
        _prepare(videos, tmp_path / "out", max_pixels=9000)
    result = _prepare(videos, tmp_path / "out", max_pixels=96 * 96)
    assert (result.outcomes, result.num_reused) == ({"ok": 2}, 0)


def test_crop_shows_the_face_with_its_margin(tmp_path: Path) -> None:
    _prepare([_video(tmp_path, "a"), _video(tmp_path, "b", label=Label.FAKE)], tmp_path / "out")
    dataset = FaceDataset.load(tmp_path / "out")
    row = dataset.faces.iloc[0]
    assert list(row["box"]) == pytest.approx([20, 30, 50, 60], abs=1)
    crop = read_image(tmp_path / "out" / row["crop"])
    assert crop.shape == (32, 32, 3)
    assert (crop > 128).mean() == pytest.approx(1 / 1.3**2, abs=0.06)


def test_every_bad_video_becomes_a_row_with_its_outcome(tmp_path: Path, audio_only: Path) -> None:
    broken, empty = _video(tmp_path, "broken", write=False), _video(tmp_path, "empty", write=False)
    broken.path.write_bytes(b"\x00\x00\x00\x18ftypmp42 and no more")
    empty.path.touch()
    song = replace(_video(tmp_path, "song", write=False), path=audio_only)
    videos = [
        _video(tmp_path, "good"), _video(tmp_path, "fake", label=Label.FAKE), broken, empty, song,
        _video(tmp_path, "dark", lit=False), _video(tmp_path, "gone", write=False),
    ]  # fmt: skip
    result = _prepare(videos, tmp_path / "out")
    assert result.outcomes == {"ok": 2, "decode_error": 3, "no_face": 1, "missing": 1}
    rows = FaceDataset.load(tmp_path / "out").videos.set_index("video_id")
    for name, outcome, words in (
        ("good", "ok", ""),
        ("broken", "decode_error", "broken.mp4' cannot be read as a video"),
        ("empty", "decode_error", "empty.mp4' is empty (0 bytes)"),
        ("song", "decode_error", "has no video stream, only audio"),
        ("dark", "no_face", "No face in any of the 8 of 8 frames"),
        ("gone", "missing", "No such file"),
    ):
        row = rows.loc[f"listed/{name}"]
        assert row["outcome"] == outcome
        assert words in row["message"]
    assert list(rows["faces"]) == [4, 4, 0, 0, 0, 0, 0]


def test_large_frames_are_held_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.faces.search._PIXELS_AT_ONCE", 2 * 96 * 96)
    held: list[int] = []
    detect = BrightSpot.detect

    def count(self: BrightSpot, images: Sequence[Image]) -> list[list[Face]]:
        held.append(len(images))
        return detect(self, images)

    monkeypatch.setattr(BrightSpot, "detect", count)
    frames = tmp_path / "frames"
    for index in range(5):
        write_jpeg(frames / f"{index}.jpg", _spot(), quality=90)
    folder = Video("listed/frames", frames, Label.FAKE, "FaceSwap", MediaKind.FRAMES)
    _prepare([_video(tmp_path, "a"), folder], tmp_path / "out", spec=replace(SPEC, num_frames=8))
    assert held == [2] * 4 + [2, 2, 1]


def test_video_is_opened_once_to_index_it_and_once_to_decode_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import av

    opened: list[str] = []
    open_file = av.open
    monkeypatch.setattr(
        av, "open", lambda file, *rest, **options: opened.append(file) or open_file(file, *rest, **options)
    )
    video = _video(tmp_path, "a")
    opened.clear()
    record = prepare_video(video, detector=BrightSpot(), spec=SPEC, root=tmp_path / "out", max_pixels=MAX_PIXELS)
    assert len(record.crops) == 4
    assert len(opened) == 2


def test_nothing_usable_ends_with_an_error_that_says_why(tmp_path: Path) -> None:
    videos = [_video(tmp_path, "dark", lit=False), _video(tmp_path, "gone", write=False, label=Label.FAKE)]
    with pytest.raises(DatasetError, match=r"(?s)2 videos of source 'listed'.*dark: no_face.*gone: missing"):
        _prepare(videos, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [_video(tmp_path, name, label=Label(name > "b")) for name in "abcd"]
    whole = _prepare(videos, tmp_path / "whole")
    done: list[int] = []
    detect = BrightSpot.detect

    def interrupted(self: BrightSpot, images: Sequence[Image]) -> list[list[Face]]:
        done.append(len(images))
        if len(done) == 3:
            raise KeyboardInterrupt
        return detect(self, images)

    monkeypatch.setattr(BrightSpot, "detect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _prepare(videos, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()
    result = _prepare(videos, tmp_path / "out")
    assert len(done) == 3 + 2  # two videos were finished, one interrupted, one not begun
    assert (whole.num_reused, result.num_reused, result.num_faces) == (0, 2, 16)
    _assert_same(tmp_path / "whole", tmp_path / "out")


def test_line_cut_off_by_an_interruption_costs_only_its_video(tmp_path: Path) -> None:
    videos = [_video(tmp_path, name, label=Label(name > "b")) for name in "abc"]
    _prepare(videos, tmp_path / "out")
    journal = tmp_path / "out" / "prepare.jsonl"
    journal.write_text(journal.read_text()[:-40])
    assert _prepare(videos, tmp_path / "out").num_reused == 2
    assert _prepare(videos, tmp_path / "out").num_reused == 3


def test_changed_file_or_spec_is_worked_on_again(tmp_path: Path) -> None:
    videos = [_video(tmp_path, name, label=Label(name > "a")) for name in "ab"]
    _prepare(videos, tmp_path / "out")
    assert _prepare(videos, tmp_path / "out").num_reused == 2
    write_video(videos[0].path, [_spot()] * 2, fps=25)
    result = _prepare(videos, tmp_path / "out")
    assert (result.num_reused, result.num_faces) == (1, 2 + 4)
    assert _prepare(videos, tmp_path / "out", spec=replace(SPEC, margin=1.5)).num_reused == 0


def test_crops_of_another_spec_are_never_taken_for_ones_own(tmp_path: Path) -> None:
    videos = [_video(tmp_path, name, label=Label(name > "a")) for name in "ab"]
    _prepare(videos, tmp_path / "wanted")
    for margin in (1.3, 2.6, 1.3):
        _prepare(videos, tmp_path / "out", spec=replace(SPEC, margin=margin))
    _assert_same(tmp_path / "wanted", tmp_path / "out")


def test_video_that_was_missing_is_tried_again(tmp_path: Path) -> None:
    videos = [_video(tmp_path, "a"), _video(tmp_path, "b", label=Label.FAKE, write=False)]
    assert _prepare(videos, tmp_path / "out").outcomes == {"ok": 1, "missing": 1}
    _video(tmp_path, "b")
    assert _prepare(videos, tmp_path / "out").outcomes == {"ok": 2}


def test_worker_processes_give_the_same_dataset(tmp_path: Path, synthetic_root: Path) -> None:
    from unmask.faces.haar import HaarCascade

    for name, num_workers in (("here", 0), ("there", 2)):
        prepare(
            FaceForensics(synthetic_root, methods=("FaceSwap",), splits=synthetic_root / "splits"),
            output=tmp_path / name, detector=HaarCascade(), spec=CropSpec("haar", crop_size=32, num_frames=2),
            fractions=FRACTIONS, seed=0, num_workers=num_workers, limit=3,
        )  # fmt: skip
    _assert_same(tmp_path / "here", tmp_path / "there")


def _assert_same(first: Path, second: Path) -> None:
    one, two = FaceDataset.load(first), FaceDataset.load(second)
    pd.testing.assert_frame_equal(one.videos, two.videos)
    pd.testing.assert_frame_equal(one.faces, two.faces)
    assert one.info == two.info
    for crop in one.faces["crop"]:
        assert (first / crop).read_bytes() == (second / crop).read_bytes()


def test_death_of_a_worker_names_what_was_in_work(tmp_path: Path) -> None:
    videos = [_video(tmp_path, "a"), _video(tmp_path, "b", label=Label.FAKE)]
    with pytest.raises(DatasetError, match=r"(?s)worker process.*a\.mp4.*num_workers=0"):
        _prepare(videos, tmp_path / "out", detector=Deadly(), num_workers=1)
    assert _prepare(videos, tmp_path / "out").outcomes == {"ok": 2}


def test_source_that_is_made_by_us_is_made_before_it_is_listed(tmp_path: Path) -> None:
    class Made(Listed):
        def create(self, *, num_workers: int) -> None:
            self.videos = [_video(tmp_path, "a"), _video(tmp_path, "b", label=Label.FAKE)]

    chosen = {"detector": BrightSpot(), "spec": SPEC, "fractions": FRACTIONS, "seed": 0, "num_workers": 0}
    result = prepare(Made([]), output=tmp_path / "out", **chosen)  # type: ignore[arg-type]
    assert result.outcomes == {"ok": 2}


def test_limit_takes_the_first_videos_of_each_method(tmp_path: Path) -> None:
    videos = [_video(tmp_path, f"{label}{n}", label=label) for label in Label for n in range(3)]
    _prepare(videos, tmp_path / "out", limit=2)
    assert [name[-1] for name in FaceDataset.load(tmp_path / "out").videos["video_id"]] == ["0", "1", "0", "1"]


def _images(
    folder: Path, *, sizes: tuple[int, int] = (96, 96), formats: tuple[str, str] = ("jpg", "jpg")
) -> list[Video]:
    from PIL import Image as PilImage

    videos = []
    for label, size, suffix in zip(Label, sizes, formats, strict=True):
        path = folder / f"{label.name}.{suffix}"
        image = np.kron(_spot(), np.ones((size // 96, size // 96, 1), np.uint8))
        PilImage.fromarray(image).save(path)
        videos.append(Video(f"listed/{path.name}", path, label, "original" if label == 0 else "gan", MediaKind.IMAGE))
    return videos


def test_images_give_a_crop_each(tmp_path: Path) -> None:
    _prepare(_images(tmp_path), tmp_path / "out")
    dataset = FaceDataset.load(tmp_path / "out")
    assert not dataset.has_videos
    assert list(dataset.faces["crop"]) == ["crops/listed/REAL.jpg/000000_0.jpg", "crops/listed/FAKE.jpg/000000_0.jpg"]
    assert list(dataset.videos["codec"]) == ["jpg", "jpg"]


def test_without_a_detector_images_are_indexed_where_they_lie(tmp_path: Path) -> None:
    videos = _images(tmp_path)
    (tmp_path / "empty.jpg").touch()
    videos.append(replace(videos[0], video_id="listed/empty", path=tmp_path / "empty.jpg"))
    result = _prepare(videos, tmp_path / "out", detector=None, spec=CropSpec("none"))
    dataset = FaceDataset.load(tmp_path / "out")
    assert result.outcomes == {"ok": 2, "decode_error": 1}
    assert [dataset.root / crop for crop in dataset.faces["crop"]] == [video.path for video in videos[:2]]
    assert not (tmp_path / "out" / "crops").exists()


def test_without_a_detector_a_thread_of_an_image_is_left_out(tmp_path: Path) -> None:
    videos = _images(tmp_path)
    write_jpeg(tmp_path / "thread.jpg", np.zeros((1, 20_001, 3), np.uint8), quality=90)
    videos.append(replace(videos[0], video_id="listed/thread", path=tmp_path / "thread.jpg"))
    result = _prepare(videos, tmp_path / "out", detector=None, spec=CropSpec("none"))
    assert result.outcomes == {"ok": 2, "decode_error": 1}
    assert "20,001 x 1 pixels" in (tmp_path / "out" / "prepare.jsonl").read_text()


def test_without_a_detector_a_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"detector=none .*'.*a\.mp4'.*detector=retinaface_mobilenet"):
        _prepare([_video(tmp_path, "a")], tmp_path / "out", detector=None, spec=CropSpec("none"))


def test_differing_formats_of_real_and_fake_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _prepare(_images(tmp_path, formats=("jpg", "png")), tmp_path / "out")
    assert re.search(r"codec .*jpg 100%.*png 100%.*1\.00", caplog.text)
    assert "face size" not in caplog.text


def test_differing_face_sizes_of_real_and_fake_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _prepare(_images(tmp_path, sizes=(96, 192)), tmp_path / "out")
    assert re.search(r"face size \(px\).*\b30\b.*\b60\b", caplog.text)
    assert "codec" not in caplog.text


def test_splits_of_the_config_are_used_and_repeat(tmp_path: Path) -> None:
    videos = [replace(video, video_id=f"{n}/{video.video_id}") for n in range(20) for video in _images(tmp_path)]
    options = {"fractions": {"train": 0.5, "val": 0.25, "test": 0.25}, "detector": None, "spec": CropSpec("none")}
    videos = [replace(video, path=_copy(video.path, tmp_path / f"{index}.jpg")) for index, video in enumerate(videos)]
    _prepare(videos, tmp_path / "out", **options)
    counts = FaceDataset.load(tmp_path / "out").faces["split"].value_counts().to_dict()
    assert counts == {"train": 20, "val": 10, "test": 10}


def _copy(path: Path, target: Path) -> Path:
    target.write_bytes(path.read_bytes() + target.name.encode())  # or they would be copies, which stay together
    return target


def test_image_past_the_size_limit_becomes_a_row(tmp_path: Path, huge_png: Callable[..., Path]) -> None:
    videos = [
        *_images(tmp_path),
        Video("listed/huge", huge_png(30_000, 30_000), Label.REAL, "original", MediaKind.IMAGE),
    ]
    _prepare(videos, tmp_path / "out")
    row = FaceDataset.load(tmp_path / "out").videos.set_index("video_id").loc["listed/huge"]
    assert row["outcome"] == "decode_error"
    assert "limits.max_pixels=900000000" in row["message"]


def test_crops_can_be_written_again_over_those_of_an_older_spec(tmp_path: Path) -> None:
    videos = [_video(tmp_path, name, label=Label(name > "a")) for name in "ab"]
    _prepare(videos, tmp_path / "out")
    _prepare(videos, tmp_path / "out", spec=replace(SPEC, num_frames=2))
    assert len(list((tmp_path / "out" / "crops").rglob("*.jpg"))) == 4  # no frames of the older run stay behind


def test_a_face_seen_only_between_evenly_spaced_frames_gives_crops_as_in_prediction(tmp_path: Path) -> None:
    path = tmp_path / "brief.mp4"
    write_video(path, [_spot(lit=21 <= position < 29) for position in range(60)], fps=10, crf=10)
    brief = Video("listed/brief", path, Label.REAL, "original", identities=("brief",))
    record = prepare_video(brief, detector=BrightSpot(), spec=SPEC, root=tmp_path / "out", max_pixels=MAX_PIXELS)
    assert record.outcome == "ok"
    assert 3 <= len(record.crops) <= SPEC.num_frames
    places = [crop.frame_index for crop in record.crops]
    assert places == sorted(set(places))
    assert set(places) <= set(range(21, 29))
    assert SPEC.num_frames < record.frames < 40


def test_crops_of_a_video_are_never_more_than_the_spec_says(tmp_path: Path) -> None:
    path = tmp_path / "blinking.mp4"
    frames = [_spot(lit=position % 20 not in (0, 19)) for position in range(61)]
    write_video(path, frames, fps=10, crf=10)
    blinking = Video("listed/blinking", path, Label.REAL, "original", identities=("blinking",))
    record = prepare_video(blinking, detector=BrightSpot(), spec=SPEC, root=tmp_path / "out", max_pixels=MAX_PIXELS)
    assert len(record.crops) == SPEC.num_frames
    assert len(list((tmp_path / "out" / "crops").rglob("*.jpg"))) == SPEC.num_frames


def test_crops_of_a_video_are_of_one_person_though_another_takes_the_place(tmp_path: Path) -> None:
    def colour(value: tuple[int, int, int]) -> Image:
        image = _spot(lit=False)
        image[30:60, 20:50] = value
        return image

    red, blue = colour((255, 110, 90)), colour((150, 190, 255))
    path = tmp_path / "cuts.mp4"
    write_video(path, [blue if position in (6, 7, 8, 15, 16) else red for position in range(24)], fps=10, crf=5)
    cuts = Video("listed/cuts", path, Label.REAL, "original", identities=("cuts",))
    spec = replace(SPEC, num_frames=24)
    record = prepare_video(cuts, detector=BrightSpot(), spec=spec, root=tmp_path / "out", max_pixels=MAX_PIXELS)
    assert {crop.frame_index for crop in record.crops} == set(range(24)) - {6, 7, 8, 15, 16}


def _frames(folder: Path, name: str, *, lit: bool = True, label: Label = Label.REAL) -> Video:
    for number in range(12):
        write_jpeg(folder / name / f"{number}.jpg", _spot(lit=lit), quality=95)
    method = "original" if label == Label.REAL else "FaceSwap"
    return Video(f"listed/{name}", folder / name, label, method, MediaKind.FRAMES, identities=(name,))


def test_a_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    videos = [_frames(tmp_path, "a"), _frames(tmp_path, "b", label=Label.FAKE), _frames(tmp_path, "dark", lit=False)]
    (tmp_path / "empty").mkdir()
    videos.append(replace(videos[0], video_id="listed/empty", path=tmp_path / "empty", identities=("c",)))
    videos.append(replace(videos[0], video_id="listed/gone", path=tmp_path / "gone", identities=("d",)))
    result = _prepare(videos, tmp_path / "out")
    assert result.outcomes == {"ok": 2, "no_face": 1, "decode_error": 1, "missing": 1}
    dataset = FaceDataset.load(tmp_path / "out")
    assert dataset.has_videos
    rows = dataset.videos.set_index("video_id")
    assert rows.loc["listed/a", ["kind", "frames", "codec", "width", "height"]].tolist() == ["frames", 4, "jpg", 96, 96]
    faces = dataset.faces[dataset.faces["video_id"] == "listed/a"]
    assert faces["frame_index"].tolist() == [0, 4, 7, 11]
    assert faces["time_seconds"].tolist() == [0, 4, 7, 11]
    assert _prepare(videos, tmp_path / "out").num_reused == 4


def test_frames_that_a_source_lists_are_one_video(tmp_path: Path) -> None:
    whole = _frames(tmp_path, "a")
    listed = replace(whole, frames=tuple(tmp_path / "a" / f"{number}.jpg" for number in (7, 3)))
    _prepare([listed, _frames(tmp_path, "b", label=Label.FAKE)], tmp_path / "out")
    assert FaceDataset.load(tmp_path / "out").videos["frames"].tolist() == [2, 4]


def test_frames_that_are_crops_already_are_indexed_as_one_video(tmp_path: Path) -> None:
    videos = [_frames(tmp_path, "a"), _frames(tmp_path, "b", label=Label.FAKE)]
    (tmp_path / "a" / "4.jpg").write_bytes(b"no image")
    _prepare(videos, tmp_path / "out", detector=None, spec=CropSpec("none", num_frames=4))
    faces = FaceDataset.load(tmp_path / "out").faces
    assert faces.groupby("video_id")["frame_index"].apply(list).to_dict() == {
        "listed/a": [0, 7, 11], "listed/b": [0, 4, 7, 11]
    }  # fmt: skip
    assert faces["crop"].iloc[0] == str(tmp_path / "a" / "0.jpg")


def test_limit_counts_what_is_there_and_takes_of_every_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    videos = [
        replace(_video(tmp_path, f"{split}{number}", write=number > 3), split=split)
        for split in ("train", "val", "test") for number in range(6)
    ]  # fmt: skip
    _prepare(videos, tmp_path / "out", limit=3)
    rows = FaceDataset.load(tmp_path / "out").videos
    assert sorted(rows["video_id"]) == ["listed/test4", "listed/train4", "listed/val4"]
    assert re.search(r"limit=3\b.*\b12\b.*missing", caplog.text)


def test_what_was_understood_is_logged_before_the_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    videos = [
        replace(_video(tmp_path, "a"), split="train"), replace(_video(tmp_path, "b", label=Label.FAKE), split="train"),
        replace(_video(tmp_path, "c", label=Label.FAKE, lit=False), split="test"),
        replace(_video(tmp_path, "gone", write=False), split="test"),
    ]  # fmt: skip
    _prepare(videos, tmp_path / "out", fractions={"train": 1, "val": 0, "test": 0})
    assert (
        "3 videos: 1 real, 2 fake (FaceSwap 2). train: 1 real, 1 fake; val: 0 real, 0 fake; test: 0 real, 1 fake"
        in (caplog.text)
    )
    assert re.search(r"1 of the 4 videos .*'listed'.*missing", caplog.text)
    assert re.search(r"Split 'val' .*no media", caplog.text)
    assert re.search(r"Split 'test' .*no real", caplog.text)


def test_copies_share_a_split_unless_the_source_has_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = []
    for number in range(20):
        path = tmp_path / f"{number}.jpg"
        write_jpeg(path, np.full((16, 16, 3), 10 * (number // 2), np.uint8), quality=90)
        label = Label(number // 2 % 2)
        method = "original" if label == Label.REAL else "FaceSwap"
        videos.append(Video(f"listed/{number}", path, label, method, MediaKind.IMAGE))
    options = {"detector": None, "spec": CropSpec("none")}
    _prepare(videos, tmp_path / "out", **options)
    rows = FaceDataset.load(tmp_path / "out").videos
    assert rows["split"].nunique() == 3
    assert (rows["split"].to_numpy()[::2] == rows["split"].to_numpy()[1::2]).all()
    split = [replace(video, split=("train", "val")[number % 2]) for number, video in enumerate(videos)]
    _prepare(split, tmp_path / "own", **options)
    assert re.search(r"10 files .*\bsplit", caplog.text)
    assert (tmp_path / "own" / "copies.csv").is_file()
    with pytest.raises(LeakageError, match="duplicates=warn"):
        _prepare(split, tmp_path / "refused", duplicates="refuse", **options)


def test_frames_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    for index in range(4):
        write_jpeg(folder / f"{index}.jpg", np.full((64, 64, 3), 250, np.uint8), quality=95)
    (folder / "1.jpg").write_bytes(b"")
    video = Video("t/clip", folder, Label.REAL, "original", MediaKind.FRAMES)
    spec = CropSpec("none", num_frames=4)
    record = prepare_video(video, detector=None, spec=spec, root=tmp_path, max_pixels=MAX_PIXELS)
    assert (record.outcome, len(record.crops)) == (Outcome.OK, 3)
    assert "1 of the frames chosen cannot be read" in record.message
    assert "1.jpg" in record.message
    record = prepare_video(video, detector=BrightSpot(), spec=SPEC, root=tmp_path, max_pixels=MAX_PIXELS)
    assert "1 of the frames chosen cannot be read, such as frame 1" in record.message
