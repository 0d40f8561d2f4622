import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unmask.cli.prepare import main
from unmask.cli.preparing.datasets import print_summary
from unmask.data.tables import FaceDataset
from unmask.errors import DatasetError
from unmask.faces.retinaface_mobilenet import MOBILENET_SHA256, RetinaFaceMobileNet
from unmask.faces.spec import CropSpec
from unmask.media.image import write_jpeg
from unmask.preparation import repair


def _prepare(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
    main()


@pytest.fixture
def images(in_folder: Path) -> Path:
    for index in range(20):
        write_jpeg(in_folder / f"raw/real/{index}.jpg", np.full((16, 16, 3), index, np.uint8), quality=90)
        write_jpeg(in_folder / f"raw/fake_gan/{index}.jpg", np.full((16, 16, 3), 200 + index, np.uint8), quality=90)
    return in_folder / "raw"


def test_folders_of_crops_are_indexed_and_split(
    images: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "real" / "broken.jpg").write_bytes(b"no image")
    _prepare(monkeypatch, "source=image_folder", "source.root=raw", "detector=none", "output=faces", "num_workers=0",
             "split.train=0.5", "split.val=0.25", "split.test=0.25")  # fmt: skip
    dataset = FaceDataset.load("faces")
    assert (dataset.spec.detector, dataset.spec.detector_sha256) == ("none", "")
    assert dataset.faces["split"].value_counts().to_dict() == {"train": 20, "val": 10, "test": 10}
    (path,) = in_folder.glob("outputs/prepare/*/result.json")
    result = json.loads(path.read_text())
    assert (result["dataset"], result["videos"], result["faces"]) == ("faces", {"ok": 40, "decode_error": 1}, 40)
    out = capsys.readouterr().out
    assert "decode_error: image_folder/real/broken.jpg: " in out
    assert "python train.py dataset.root=faces" in out


def test_the_key_that_a_refusal_names_is_a_key_of_prepare(
    images: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("source=image_folder", "source.root=raw", "detector=none", "output=faces", "num_workers=0")
    with pytest.raises(SystemExit, match="2"):
        _prepare(monkeypatch, *arguments, "limits.max_pixels=255")
    assert "limits.max_pixels=256" in capsys.readouterr().err
    _prepare(monkeypatch, *arguments, "limits.max_pixels=256")
    assert len(FaceDataset.load("faces").faces) == 40
    with pytest.raises(SystemExit, match="2"):
        _prepare(monkeypatch, *arguments, "limits.max_pixels=0")
    assert "limits.max_pixels=0" in capsys.readouterr().err


def test_limit_and_detector_of_the_command_line_are_used(
    synthetic_root: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(monkeypatch, "source=ffpp", f"source.root={synthetic_root}", f"source.splits={synthetic_root}/splits",
             "source.methods=[FaceSwap]", "detector=haar", "output=faces", "num_workers=0", "limit=2",
             "crop.num_frames=2", "crop.crop_size=48", "crop.margin=1.6", "crop.chroma=4:2:0", "crop.min_face=20",
             "faces.keep=all", "faces.boxes=from_original")  # fmt: skip
    dataset = FaceDataset.load("faces")
    assert (dataset.spec.chroma, dataset.spec.min_face) == ("4:2:0", 20)
    assert (dataset.spec.keep, dataset.spec.boxes) == ("all", "from_original")
    assert (dataset.spec.detector, dataset.spec.crop_size, dataset.spec.margin) == ("haar", 48, 1.6)
    assert dataset.videos["method"].value_counts().to_dict() == {"original": 2, "FaceSwap": 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("source=image_folder", "source.root=gone"), ("No such folder: source.root='gone'",)),
        (("source=ffpp", "source.root=raw"), ("looked for", "original_sequences/youtube/c23/videos", "'fake_gan/'")),
        (("source=ffpp",), ("No value for: source.root",)),
        (("source=image_folder", "source.root=raw", "split.train=0.9"), ("split.train", "0.9", "add up to 1")),
        (("source=image_folder", "source.root=raw", "duplicates=drop"), ("duplicates='drop'", "warn or refuse")),
        (("source=celebdf", "source.root=raw"), ("'Celeb-real/'", "source=image_folder source.root='raw'")),
    ],
)
def test_mistakes_are_reported_in_one_message(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], words: tuple[str, ...],
) -> None:  # fmt: skip
    with pytest.raises(SystemExit, match="2"):
        _prepare(monkeypatch, *arguments, "output=faces", "detector=none", "num_workers=0")
    text = capsys.readouterr().err
    for word in words:
        assert word in text
    assert not Path("faces").exists()


@pytest.mark.parametrize(
    ("argument", "bounds"),
    [
        ("limit=0", r"\b1\b"),
        ("num_workers=-2", r"\b0\b"),
        ("seed=-1", r"\b0\b"),
        ("crop.crop_size=0", r"\b8 to 4096\b"),
        ("crop.margin=nan", r"\b0\.1 to 10\b"),
        ("crop.min_face=-1.0", r"\b0 to\b"),
        ("crop.min_confidence=1.5", r"\b0 to 1\b"),
        ("crop.format='gif'", r"jpeg or png or webp"),
        ("faces.keep='some'", r"largest or all"),
        ("faces.boxes='theirs'", r"own or from_original"),
        ("detector.confidence=2", r"\b0 to 1\b"),
        ("detector.max_side=0", r"\b16 to 1e\+06"),
        ("detector.max_side=2000000", r"\b16 to 1e\+06"),
        ("detector.max_side=99.5", r"whole number"),
    ],
)
def test_invalid_numbers_are_reported_before_anything_is_read(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, bounds: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        _prepare(monkeypatch, "source=image_folder", "source.root=gone", "output=faces", argument)
    assert re.fullmatch(rf"Error: {re.escape(argument)} .*{bounds}.*\n", capsys.readouterr().err)


def _index(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    _prepare(monkeypatch, "source=image_folder", "source.root=raw", "detector=none", "num_workers=0", *arguments)


def _splits(root: str) -> dict[str, str]:
    videos = FaceDataset.load(root).videos
    return dict(zip(videos["video_id"], videos["split"], strict=True))


def test_a_protocol_reproduces_the_splits_of_another_machine(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _index(monkeypatch, "output=faces")
    _prepare(monkeypatch, "task=protocol", "dataset.root=faces", "output=mine.json")
    assert "split.protocol=mine.json" in capsys.readouterr().out
    write_jpeg(images / "real" / "new.jpg", np.full((16, 16, 3), 99, np.uint8), quality=90)
    (images / "real" / "0.jpg").unlink()
    _index(monkeypatch, "output=again", "split.protocol=mine.json", "seed=9")
    expected = _splits("faces")
    del expected["image_folder/real/0.jpg"]
    assert _splits("again") == expected
    table = pd.read_csv("again/left_out.csv")
    assert table[["video_id", "label", "reason"]].to_numpy().tolist() == [
        ["image_folder/real/new.jpg", "real", "not in the protocol"],
        ["image_folder/real/0.jpg", "real", "in the protocol, but not in the source"],
    ]


def test_a_method_held_out_on_the_command_line_is_in_test_alone(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (images / "fake_gan").rename(images / "fake_unseen")
    for index in range(20):
        write_jpeg(images / f"fake_gan/{index}.jpg", np.full((16, 16, 3), 100 + index, np.uint8), quality=90)
    _index(monkeypatch, "output=faces", "split.hold_out=[fake_unseen]")
    videos = FaceDataset.load("faces").videos
    assert set(videos.loc[videos["method"] == "fake_unseen", "split"]) == {"test"}
    assert set(videos.loc[videos["method"] == "fake_gan", "split"]) == {"train", "val", "test"}


def test_folds_of_prepare_are_those_of_training(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _index(monkeypatch, "output=faces", "seed=4")
    _index(monkeypatch, "output=folded", "seed=4", "split.folds=5", "split.fold=2")
    again = FaceDataset.load("faces", folds=5, fold=2).videos
    assert _splits("folded") == dict(zip(again["video_id"], again["split"], strict=True))
    assert again["split"].value_counts().to_dict() == {"train": 24, "val": 8, "test": 8}


def test_images_that_look_alike_across_splits_can_be_refused(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, quality in (("train", 90), ("test", 60)):  # one image, encoded twice under two names
        pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        for label in ("real", "fake"):
            pixels = np.roll(pixels, 16, axis=1)
            write_jpeg(images / split / label / f"{split}.jpg", pixels, quality=quality)
    arguments = ("source=image_folder", "source.root=raw", "detector=none", "num_workers=0", "output=faces")
    for folder in ("real", "fake_gan"):
        shutil.rmtree(images / folder)
    with pytest.raises(SystemExit, match="2"):
        _prepare(monkeypatch, *arguments, "near_duplicates=refuse")
    text = capsys.readouterr().err
    for word in ("2 pairs", "train/real/train.jpg", "test/real/test.jpg", "near_duplicates=warn"):
        assert word in text
    assert len(pd.read_csv("faces/near_duplicates.csv")) == 2
    assert not Path("faces/dataset.json").exists()
    _prepare(monkeypatch, *arguments)
    assert Path("faces/dataset.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("split.folds=2",), ("split.folds=2", "3")),
        (("split.fold=1",), ("split.fold=1", "split.folds")),
        (("split.hold_out=[fake_gam]",), ("'fake_gam'", "Did you mean 'fake_gan'", "split.hold_out")),
        (("split.protocol=gone.json",), ("split.protocol='gone.json'", "task=protocol")),
        (("near_duplicates=drop",), ("near_duplicates='drop'", "warn or refuse or skip")),
        (("task=protocol",), ("dataset.root",)),
        (("task=protocol", "dataset.root=gone"), ("dataset.root='gone'",)),
    ],
)
def test_mistakes_in_the_keys_of_splits_are_told_in_one_message(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], words: tuple[str, ...],
) -> None:  # fmt: skip
    with pytest.raises(SystemExit, match="2"):
        _index(monkeypatch, "output=faces", *arguments)
    text = capsys.readouterr().err
    for word in words:
        assert word in text


def test_any_face_dataset_is_explored_on_request(
    images: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _prepare(monkeypatch, "source=image_folder", "source.root=raw", "detector=none", "output=faces", "num_workers=0")
    report = in_folder / "faces" / "report.html"
    made = report.read_text()
    report.unlink()
    capsys.readouterr()
    _prepare(monkeypatch, "task=explore", "output=faces")
    assert report.read_text() == made
    assert "faces/report.html" in capsys.readouterr().out
    results = [json.loads(path.read_text()) for path in sorted(in_folder.glob("outputs/prepare/*/result.json"))]
    assert len(results) == 2
    for result in results:
        assert (result["dataset"], result["report"]) == ("faces", "faces/report.html")
        assert result["cues"]["codec"] == {"auroc": 0.5, "by_method": {"fake_gan": 0.5}}
        assert result["cues"]["JPEG quality"]["auroc"] == 0.5


def test_exploring_what_is_no_dataset_is_refused(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        _prepare(monkeypatch, "task=explore", "output=gone")
    assert "'gone'" in capsys.readouterr().err
    assert not Path("gone").exists()


def test_repair_uses_the_detector_of_older_datasets_without_newer_options(
    images: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(monkeypatch, "source=image_folder", "source.root=raw", "detector=none", "output=faces", "num_workers=0")
    info = in_folder / "faces" / "dataset.json"
    content = json.loads(info.read_text())
    options = {"confidence": 0.6, "nms_iou": 0.4, "max_side": 640}
    content["preprocessing"] |= {
        "detector": "retinaface_mobilenet", "detector_sha256": MOBILENET_SHA256, "detector_options": options,
    }  # fmt: skip
    content["preprocessing_hash"] = CropSpec.from_dict(content["preprocessing"]).hash
    info.write_text(json.dumps(content))
    seen: list[RetinaFaceMobileNet] = []

    def stop(root: Path, *, detector: RetinaFaceMobileNet, **options: object) -> None:
        seen.append(detector)
        raise DatasetError("stopped")

    monkeypatch.setattr(repair, "repair", stop)
    with pytest.raises(SystemExit, match="2"):
        _prepare(monkeypatch, "task=repair", "output=faces", "num_workers=0")
    assert [(detector.confidence, detector.first_side) for detector in seen] == [(0.6, 0)]


def test_summary_counts_what_was_read_only_in_part(
    make_faces: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_faces({"train": (2, 2)})
    assert print_summary(root)
    assert "note:" not in capsys.readouterr().out
    videos = pd.read_parquet(root / "videos.parquet")
    videos.loc[[1, 3], "message"] = "The file is cut off or damaged: 2 of its 20 frames are there."
    videos.to_parquet(root / "videos.parquet")
    print_summary(root)
    printed = capsys.readouterr().out
    assert "2 of those that gave crops" in printed
    assert f"{videos['video_id'][1]}: The file is cut off" in printed
