import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from unmask.data.tables import FaceDataset, choose_videos
from unmask.decision import Decision
from unmask.errors import ConfigError, DatasetError
from unmask.evaluation.perturbations import FAMILIES, Bench, Condition, Inputs, Job
from unmask.evaluation.robustness import Robustness, RobustnessOptions, evaluate_robustness
from unmask.evaluation.run import Options, evaluate
from unmask.types import Outcome

Maker = Callable[..., Path]
Evaluator = Callable[..., Robustness]


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The condition of every video that is decoded and perturbed."""
    done: list[str] = []
    work = Bench.work

    def record(bench: Bench, job: Job) -> Inputs:
        done.append(job.condition.name)
        return work(bench, job)

    monkeypatch.setattr(Bench, "work", record)
    return done


@pytest.fixture
def run(tmp_path: Path) -> Evaluator:
    def run(checkpoint: Path, root: Path, *, output: str = "run", **arguments: Any) -> Robustness:
        options = {
            name: arguments.pop(name)
            for name in ("families", "levels", "limit", "apply", "detect")
            if name in arguments
        }
        return evaluate_robustness(
            checkpoint, root=root, output=tmp_path / output, scores_dir=tmp_path / "scores", device="cpu",
            options=RobustnessOptions(**options), **arguments,
        )  # fmt: skip

    return run


def test_crops_are_scored_under_all_conditions(
    run: Evaluator, make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    done = run(make_checkpoint(), make_dataset())
    table = pd.read_csv(tmp_path / "run" / "robustness.csv")
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "run" / "robustness.parquet"), check_dtype=False)
    assert list(zip(table["family"], table["level"], strict=True)) == [
        ("clean", 0), *((family, level) for family in FAMILIES for level in range(1, 6))
    ]  # fmt: skip
    assert Counter(table["group"]) == {"clean": 1, "grid": 35, "upload": 15}
    assert set(table["num_videos"]) == set(table["num_scored"]) == {9}
    assert set(table["num_crops"]) == {27}
    assert set(zip(table["num_real"], table["num_fake"], strict=True)) == {(3, 6)}
    summary = json.loads((tmp_path / "run" / "result.json").read_text())["datasets"]["drawn"]["robustness"]
    assert (summary["applied_to"], summary["num_videos"], summary["num_left_out"]) == ("crop", 9, {"no_face": 3})
    grid = table[table["group"] == "grid"]
    assert summary["mean"]["grid"]["video_auroc"] == pytest.approx(grid["video_auroc"].mean())
    assert summary["mean"]["upload"]["num_conditions"] == 15
    blur = summary["families"]["blur"]
    assert blur["level"] == [1, 2, 3, 4, 5]
    assert blur["video_auroc"] == grid.loc[grid["family"] == "blur", "video_auroc"].tolist()
    assert "<svg" in (tmp_path / "run" / "robustness.svg").read_text()
    assert "not to the frames" in done.notes[0]
    assert "9 of 9 original media" in done.notes[0]


def test_darker_crops_lose_the_fakes_that_are_bright(
    run: Evaluator, make_dataset: Maker, make_checkpoint: Maker
) -> None:
    # The network calls bright crops fake, and contrast 5 multiplies 180 by 0.35.
    table = run(make_checkpoint(), make_dataset(), families=["contrast"], levels=[5]).table
    assert table["video_accuracy"].tolist() == [1.0, 3 / 9]
    assert table["video_balanced_accuracy"].tolist() == [1.0, 0.5]


def test_clean_frames_have_the_figures_of_an_evaluation(
    run: Evaluator, face_dataset: Path, checkpoint: Path, tmp_path: Path
) -> None:
    done = run(checkpoint, face_dataset, families=["noise", "h264"], levels=[5])
    figures = evaluate(checkpoint, root=face_dataset, output=tmp_path / "plain", options=Options(device="cpu")).figures
    clean = done.table.iloc[0]
    for level in ("video", "frame"):
        assert clean[f"{level}_auroc"] == figures[level]["auroc"]
        assert clean[f"{level}_accuracy"] == figures[level]["accuracy"]
    assert clean["num_crops"] == figures["frame"]["num"]
    assert (done.summary["applied_to"], done.summary["faces"]) == ("frame", "detected again")
    scores = {name: pd.read_parquet(done.scores / f"{name}.parquet") for name in ("clean", "noise_5", "h264_5")}
    stored = pd.read_parquet(tmp_path / "plain" / "scores_frames.parquet")
    merged = stored.merge(scores["clean"], on=["video_id", "frame_index"], suffixes=("", "_clean"))
    np.testing.assert_allclose(merged["score"], merged["score_clean"], atol=1e-6)
    assert len(merged) == len(stored)
    assert not np.allclose(scores["h264_5"]["score"].mean(), scores["clean"]["score"].mean(), atol=1e-9)
    assert done.table.set_index("family")["coverage"]["noise"] < 1  # nobody finds all faces under that much noise
    assert any("noise at level 5" in note for note in done.notes)


def test_recorded_boxes_need_no_detector(
    run: Evaluator, face_dataset: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.evaluation.robustness.build_detector", None)
    done = run(checkpoint, face_dataset, families=["noise"], levels=[5], detect="recorded")
    assert (done.summary["applied_to"], done.summary["faces"]) == ("frame", "recorded")
    assert done.table["coverage"].tolist() == [1.0, 1.0]
    again = pd.read_parquet(done.scores / "clean.parquet")
    faces = FaceDataset.load(face_dataset).faces_of("test")
    assert sorted(zip(again["video_id"], again["frame_index"], strict=True)) == sorted(
        zip(faces["video_id"], faces["frame_index"], strict=True)
    )


def test_same_command_continues_and_another_checkpoint_does_not(
    run: Evaluator, make_dataset: Maker, make_checkpoint: Maker, worked: list[str]
) -> None:
    checkpoint, root = make_checkpoint(), make_dataset()
    chosen = {"families": ["blur", "noise"], "levels": [1, 5]}
    first = run(checkpoint, root, **chosen)
    assert Counter(worked) == dict.fromkeys(("clean", "blur_1", "blur_5", "noise_1", "noise_5"), 9)
    worked.clear()
    second = run(checkpoint, root, output="second", **chosen)
    assert worked == []
    pd.testing.assert_frame_equal(first.table, second.table)

    (first.scores / "blur_5.parquet").unlink()
    (first.scores / "noise_1.parquet").write_bytes(b"truncated")
    third = run(checkpoint, root, output="third", **chosen)
    assert Counter(worked) == {"blur_5": 9, "noise_1": 9}
    pd.testing.assert_frame_equal(first.table, third.table)

    worked.clear()
    run(checkpoint, root, output="more", families=["blur"], levels=[1, 2])
    assert Counter(worked) == {"blur_2": 9}
    worked.clear()
    other = run(checkpoint, root, output="seed", seed=1, **chosen)
    assert len(worked) == 45
    assert other.scores != first.scores
    worked.clear()
    other = run(make_checkpoint(decision=Decision(threshold=0.4)), root, output="other", **chosen)  # at the same path
    assert len(worked) == 45
    assert other.scores != first.scores


def test_interrupted_run_keeps_the_scores_of_finished_batches(
    run: Evaluator, make_dataset: Maker, make_checkpoint: Maker, worked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, root = make_checkpoint(), make_dataset()
    monkeypatch.setattr("unmask.evaluation.robustness._VIDEOS_AT_ONCE", 4)
    recorded = Bench.work

    def stop(bench: Bench, job: Job) -> Inputs:
        if len(worked) == 15:  # in the second batch of the second condition
            raise KeyboardInterrupt
        return recorded(bench, job)

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "work", stop)
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint, root, families=["blur"], levels=[1])
    worked.clear()
    done = run(checkpoint, root, families=["blur"], levels=[1])
    assert Counter(worked) == {"blur_1": 5}
    whole = evaluate_robustness(
        checkpoint, root=root, output=done.folder, scores_dir=done.folder / "fresh", device="cpu",
        options=RobustnessOptions(families=["blur"], levels=[1]),
    )  # fmt: skip
    pd.testing.assert_frame_equal(done.table, whole.table)


def test_limit_draws_videos_of_every_method_and_grows(make_dataset: Maker) -> None:
    dataset = FaceDataset.load(make_dataset())

    def choose(limit: int | None, seed: int = 0) -> set[str]:
        videos, left_out = choose_videos(dataset, split="test", limit=limit, seed=seed)
        assert left_out == {"no_face": 3}
        return set(videos["video_id"])

    two = choose(2)
    assert Counter(name.split("/")[1] for name in two) == {"original": 2, "Deepfakes": 1, "FaceSwap": 1}
    assert two < choose(3) < choose(None)
    assert choose(2) == two
    assert len({frozenset(choose(1, seed)) for seed in range(6)}) > 1
    with pytest.raises(DatasetError, match="'val'"):
        choose_videos(dataset, split="val", limit=None, seed=0)


def test_larger_limit_scores_only_the_further_videos(
    run: Evaluator, make_dataset: Maker, make_checkpoint: Maker, worked: list[str]
) -> None:
    checkpoint, root = make_checkpoint(), make_dataset()
    assert run(checkpoint, root, families=["jpeg"], levels=[5], limit=1).table["num_videos"].tolist() == [2, 2]
    worked.clear()
    assert run(checkpoint, root, families=["jpeg"], levels=[5], limit=3).table["num_videos"].tolist() == [6, 6]
    assert Counter(worked) == {"clean": 4, "jpeg_5": 4}


def test_missing_media_move_everything_to_the_crops(
    run: Evaluator, face_dataset: Path, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "faces"
    shutil.copytree(face_dataset, root)
    videos = pd.read_parquet(root / "videos.parquet")
    place = videos.index[videos["split"] == "test"][0]
    videos.loc[place, "path"] = str(tmp_path / "gone.mp4")
    videos.to_parquet(root / "videos.parquet")
    done = run(checkpoint, root, families=["blur"], levels=[3])
    assert done.summary["applied_to"] == "crop"
    assert "gone.mp4" in caplog.text
    assert any("gone.mp4" in note for note in done.notes)
    with pytest.raises(DatasetError, match=r"robustness\.apply=frame.*gone\.mp4.*robustness\.apply=crop"):
        run(checkpoint, root, apply="frame")


def test_frames_can_be_left_alone_where_media_are_there(run: Evaluator, face_dataset: Path, checkpoint: Path) -> None:
    done = run(checkpoint, face_dataset, families=["blur"], levels=[3], apply="crop")
    assert done.summary["applied_to"] == "crop"
    assert not any("not to the frames" in note for note in done.notes)


def test_unreadable_videos_are_counted_named_and_tried_again(
    run: Evaluator, face_dataset: Path, checkpoint: Path, tmp_path: Path, worked: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    root = tmp_path / "faces"
    shutil.copytree(face_dataset, root)
    videos = pd.read_parquet(root / "videos.parquet")
    place = videos.index[videos["split"] == "test"][0]
    shutil.copy(videos.loc[place, "path"], tmp_path / "clip.mp4")
    whole = (tmp_path / "clip.mp4").read_bytes()
    videos.loc[place, "path"] = str(tmp_path / "clip.mp4")
    videos.to_parquet(root / "videos.parquet")
    (tmp_path / "clip.mp4").write_bytes(b"\0" * 5000)
    table = run(checkpoint, root, families=["contrast"], levels=[1], limit=3).table
    num = len(choose_videos(FaceDataset.load(root), split="test", limit=3, seed=0)[0])
    assert table["num_unreadable"].tolist() == [1, 1]
    assert table["num_scored"].tolist() == [num - 1, num - 1]
    assert "clip.mp4" in caplog.text
    worked.clear()
    (tmp_path / "clip.mp4").write_bytes(whole)
    assert run(checkpoint, root, families=["contrast"], levels=[1], limit=3).table["coverage"].tolist() == [1.0, 1.0]
    assert Counter(worked) == {"clean": 1, "contrast_1": 1}


def test_condition_without_any_face_has_no_figures(
    run: Evaluator, make_dataset: Maker, make_checkpoint: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work = Bench.work

    def lose(bench: Bench, job: Job) -> Inputs:
        is_lost = job.condition == Condition("noise", 5)
        return Inputs(outcome=Outcome.NO_FACE) if is_lost else work(bench, job)

    monkeypatch.setattr(Bench, "work", lose)
    table = run(make_checkpoint(), make_dataset(), families=["noise"], levels=[4, 5]).table.set_index("level")
    assert (table["coverage"][5], table["num_no_face"][5], table["num_crops"][5]) == (0.0, 9, 0)
    assert table[["video_auroc", "video_accuracy", "frame_auroc"]].loc[5].isna().all()
    summary = json.loads((tmp_path / "run" / "result.json").read_text())["datasets"]["drawn"]["robustness"]
    assert summary["families"]["noise"]["video_auroc"][1] is None
    assert summary["mean"]["grid"]["num_without_auroc"] == 1


def test_images_that_are_crops_already_are_perturbed_as_they_are(
    run: Evaluator, make_checkpoint: Maker, tmp_path: Path
) -> None:
    from unmask.faces.spec import CropSpec
    from unmask.media.image import write_jpeg
    from unmask.preparation.prepare import prepare
    from unmask.sources.image_folder import ImageFolder

    for label in ("real", "fake"):
        for number in range(4):
            image = np.random.default_rng(number).integers(0, 100 + 150 * (label == "fake"), (40, 32, 3))
            write_jpeg(tmp_path / "images" / "test" / label / f"{number}.jpg", image.astype(np.uint8), quality=95)
    spec = CropSpec("none", crop_size=32, num_frames=3)
    prepare(
        ImageFolder(tmp_path / "images"), output=tmp_path / "indexed", detector=None, spec=spec,
        fractions={"train": 0.1, "val": 0.1, "test": 0.8}, seed=0, num_workers=0,
    )  # fmt: skip
    checkpoint = make_checkpoint(detector="none")
    done = run(checkpoint, tmp_path / "indexed", families=["h264", "blocks"], levels=[1])
    assert done.summary["applied_to"] == "crop"
    assert "detector=none" in done.notes[0]
    assert done.table["num_crops"].tolist() == [8, 8, 8]


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"detect": "agian"}, r"robustness\.detect=agian.*robustness\.detect=again.*again, recorded"),
        ({"apply": "face"}, r"robustness\.apply=face.*auto, frame, crop"),
        ({"limit": 0}, r"robustness\.limit=0"),
        ({"families": ["gauss"]}, r"'gauss'.*robustness\.families"),
        ({"levels": [6]}, r"level 6.*robustness\.levels"),
    ],
)
def test_invalid_options_are_named(option: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        RobustnessOptions(**option)


@pytest.mark.slow
def test_worker_processes_give_the_same_scores(run: Evaluator, face_dataset: Path, checkpoint: Path) -> None:
    chosen = {"families": ["noise", "h264"], "levels": [2], "limit": 2}
    alone = run(checkpoint, face_dataset, **chosen)
    tables = [pd.read_parquet(path) for path in sorted(alone.scores.glob("*.parquet"))]
    shutil.rmtree(alone.scores)
    helped = run(checkpoint, face_dataset, num_workers=2, batch_size=5, **chosen)
    for before, path in zip(tables, sorted(helped.scores.glob("*.parquet")), strict=True):
        after = pd.read_parquet(path)
        np.testing.assert_allclose(before.pop("score"), after.pop("score"), atol=1e-6)
        pd.testing.assert_frame_equal(before, after)
