import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.conftest import compose_config, train_tiny

from unmask.data.tables import FaceDataset, write_dataset
from unmask.errors import CheckpointError, ConfigError, DatasetError, SpecMismatchError
from unmask.metrics.collection import FIGURES
from unmask.metrics.threshold import choose_threshold
from unmask.models.bundle import load_bundle
from unmask.models.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def run(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A training of three epochs, and its result."""
    folder = tmp_path_factory.mktemp("run")
    return folder, train_tiny(face_dataset, folder, "trainer.max_epochs=3", "optimizer.lr=0.01")


def _weights(path: str | Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def test_result_names_checkpoints_metrics_and_decision(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    assert result["objective_key"] == "val/video_auroc"
    assert result["objective"] == result["metrics"]["val/video_auroc"]
    assert {"train/loss", "val/loss", "val/auroc", "val/video_f1"} <= set(result["metrics"])
    assert (result["run_id"], result["tracking_uri"]) == (None, None)
    written = ["best.ckpt", "last.ckpt"]  # the one before the last serves a training that is under way
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == written
    assert result["best_checkpoint"] == str(folder / "checkpoints" / "best.ckpt")
    assert result["last_checkpoint"] == str(folder / "checkpoints" / "last.ckpt")


def test_best_checkpoint_is_that_of_the_best_epoch_and_last_of_the_last(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    best, last = (load_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    assert (best.epoch, last.epoch) == (result["best_epoch"] + 1, 3)
    assert best.decision.to_dict() == result["decision"]
    assert best.decision.criterion == "balanced_accuracy"


def test_best_checkpoint_is_a_network_alone_and_says_where_to_resume(
    run: tuple[Path, dict[str, Any]], face_dataset: Path, tmp_path: Path
) -> None:
    folder, result = run
    best, last = (torch.load(str(result[f"{name}_checkpoint"]), weights_only=True) for name in ("best", "last"))
    assert "optimizer_states" in last
    assert not {"optimizer_states", "lr_schedulers", "callbacks"} & set(best)
    with pytest.raises(CheckpointError, match=rf"best.ckpt.*resume={folder}/checkpoints/last.ckpt"):
        train_tiny(face_dataset, tmp_path, f"resume={result['best_checkpoint']}")


def test_threshold_of_the_checkpoint_is_chosen_on_validation_videos(
    run: tuple[Path, dict[str, Any]], face_dataset: Path
) -> None:
    from unmask.evaluation.run import Options, evaluate

    evaluation = evaluate(
        run[1]["best_checkpoint"], root=face_dataset, output=run[0] / "val", options=Options(split="val", device="cpu")
    )

    videos = pd.read_parquet(run[0] / "val" / "scores_videos.parquet").dropna(subset=["score"])
    chosen = choose_threshold(videos["label"], videos["score"])
    assert evaluation.decision["threshold"] == pytest.approx(chosen.threshold, abs=1e-4)
    assert evaluation.figures["video"]["auroc"] == pytest.approx(run[1]["objective"], abs=1e-6)


def test_checkpoint_records_its_provenance(run: tuple[Path, dict[str, Any]], face_dataset: Path) -> None:
    found = load_checkpoint(run[1]["best_checkpoint"])
    assert found.crop_spec == FaceDataset.load(face_dataset).spec
    told = found.provenance
    assert (told["dataset"], told["seed"], told["preprocessing_hash"]) == ("synthetic", 0, found.crop_spec.hash)
    assert "optimizer.lr=0.01" in told["command"]
    assert told["trained_on"] == [{"name": "synthetic", "forgeries": "drawn"}]
    assert told["run_name"] == run[0].name
    bundle = load_bundle(run[1]["bundle"])
    assert bundle.provenance == told


def test_seeded_loss_repeats_and_another_seed_changes_it(
    run: tuple[Path, dict[str, Any]], face_dataset: Path, tmp_path: Path
) -> None:
    options = ("trainer.max_epochs=3", "optimizer.lr=0.01")
    again = train_tiny(face_dataset, tmp_path / "again", *options)
    assert again["metrics"] == pytest.approx(run[1]["metrics"], abs=1e-6)
    assert _same(_weights(again["last_checkpoint"]), _weights(run[1]["last_checkpoint"]))  # type: ignore[arg-type]
    other = train_tiny(face_dataset, tmp_path / "other", *options, "seed=1")
    assert other["metrics"]["val/loss"] != pytest.approx(run[1]["metrics"]["val/loss"], abs=1e-6)  # type: ignore[index]


def test_resume_continues_epochs_and_weights(face_dataset: Path, tmp_path: Path) -> None:
    still = ("optimizer=sgd", "optimizer.lr=1e-60", "optimizer.weight_decay=0", "scheduler=none")
    first = train_tiny(face_dataset, tmp_path / "first", *still)
    resume = ("trainer.max_epochs=3", f"resume={first['last_checkpoint']}", "seed=1")  # would start elsewhere
    resumed = train_tiny(face_dataset, tmp_path / "on", *still, *resume)
    before, after = (load_checkpoint(str(result["last_checkpoint"])) for result in (first, resumed))
    assert (before.epoch, after.epoch) == (1, 3)
    learned = [name for name in before.state if "running" not in name and "num_batches" not in name]
    assert _same({name: before.state[name] for name in learned}, after.state)
    steps = [
        torch.load(str(result["last_checkpoint"]), weights_only=True)["global_step"] for result in (first, resumed)
    ]
    assert steps[1] == 3 * steps[0] > 0


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle", "plateau", "none"])
def test_resume_can_train_longer_with_every_schedule(face_dataset: Path, tmp_path: Path, scheduler: str) -> None:
    options = (f"scheduler={scheduler}", "dataset.samples_per_epoch=32")
    first = train_tiny(face_dataset, tmp_path / "first", *options)
    resumed = train_tiny(
        face_dataset, tmp_path / "on", *options, "trainer.max_epochs=2", f"resume={first['last_checkpoint']}"
    )
    assert load_checkpoint(str(resumed["last_checkpoint"])).epoch == 2


def test_resume_with_no_epoch_left_is_an_error(
    run: tuple[Path, dict[str, Any]], face_dataset: Path, tmp_path: Path
) -> None:
    last = run[1]["last_checkpoint"]
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs=3 .*last\.ckpt.*Raise trainer\.max_epochs"):
        train_tiny(face_dataset, tmp_path, "trainer.max_epochs=3", f"resume={last}")


def test_resume_with_another_network_names_the_difference(checkpoint: Path, face_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds another network: model\.input_size: 64 there, 32 here"):
        train_tiny(face_dataset, tmp_path, "model.input_size=32", f"resume={checkpoint.with_name('last.ckpt')}")


def test_resume_on_crops_with_other_preprocessing_is_refused(
    checkpoint: Path, face_dataset: Path, tmp_path: Path
) -> None:
    dataset = FaceDataset.load(face_dataset)
    info = dataset.info | {"preprocessing": replace(dataset.spec, margin=1.7).to_dict()}
    faces = dataset.faces.assign(crop=[str(face_dataset / crop) for crop in dataset.faces["crop"]])
    (tmp_path / "other").mkdir()
    write_dataset(tmp_path / "other", info=info, videos=dataset.videos, faces=faces)
    with pytest.raises(SpecMismatchError, match=r"margin: model 1\.3, dataset 1\.7"):
        train_tiny(tmp_path / "other", tmp_path / "run", f"resume={checkpoint.with_name('last.ckpt')}")


def test_resume_from_something_else_is_refused(face_dataset: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"x\.ckpt'.*'unmask'"):
        train_tiny(face_dataset, tmp_path, f"resume={tmp_path / 'x.ckpt'}")


def test_log_starts_with_device_precision_samples_and_folder(
    face_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train_tiny(face_dataset, tmp_path / "run", "trainer.limit_train_batches=2")
    dataset = FaceDataset.load(face_dataset)
    for line in (
        f"Run folder {tmp_path / 'run'}",
        "Device cpu, precision 32-true (precision=fp32).",
        f"train: {len(dataset.faces_of('train'))} crops of 20 videos.",
        f"val: {len(dataset.faces_of('val'))} crops of 10 videos.",
        "highest val/video_auroc",
        "Epoch 1 of 1: train/loss",
    ):
        assert line in caplog.text


def test_single_images_are_judged_by_frames(make_images: Callable[..., Path], tmp_path: Path) -> None:
    result = train_tiny(make_images(), tmp_path / "run", "optimizer.lr=0.01")
    assert result["objective_key"] == "val/auroc"
    assert not [name for name in result["metrics"] if "video" in name]  # type: ignore[attr-defined]
    assert result["decision"]["criterion"] == "balanced_accuracy"  # type: ignore[index]


@pytest.fixture
def make_images(tmp_path: Path, face_dataset: Path) -> Callable[..., Path]:
    def make() -> Path:
        dataset = FaceDataset.load(face_dataset)
        faces = dataset.faces.assign(crop=[str(face_dataset / crop) for crop in dataset.faces["crop"]])
        videos = dataset.videos.assign(kind="image")
        (tmp_path / "images").mkdir()
        write_dataset(tmp_path / "images", info=dataset.info, videos=videos, faces=faces)
        return tmp_path / "images"

    return make


def test_early_stopping_monitors_the_objective(face_dataset: Path, tmp_path: Path) -> None:
    still = ("optimizer=sgd", "optimizer.lr=1e-60", "optimizer.weight_decay=0", "scheduler=none")
    frozen = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=1")
    result = train_tiny(face_dataset, tmp_path, *still, *(f"+{key}" if "min_delta" in key else key for key in frozen),
                        "trainer.max_epochs=6", "dataset.samples_per_epoch=8")  # fmt: skip
    assert load_checkpoint(str(result["last_checkpoint"])).epoch == 2


@pytest.mark.parametrize(("criterion", "aggregation"), [("f1", "max"), ("eer", "median")])
def test_criterion_and_aggregation_reach_the_checkpoint(
    face_dataset: Path, tmp_path: Path, criterion: str, aggregation: str
) -> None:
    options = (f"threshold_criterion={criterion}", f"aggregation={aggregation}", "dataset.samples_per_epoch=8")
    decision = load_checkpoint(str(train_tiny(face_dataset, tmp_path, *options)["best_checkpoint"])).decision
    assert (decision.criterion, decision.aggregation) == (criterion, aggregation)


@pytest.mark.parametrize("objective", ["val/beauty", "val/loss"])  # the best loss is not the largest
def test_unknown_objective_lists_the_metrics(face_dataset: Path, tmp_path: Path, objective: str) -> None:
    with pytest.raises(ConfigError, match=rf"Unknown metric '{objective}' .*one of: auto, .*val/video_f1"):
        train_tiny(face_dataset, tmp_path, f"objective={objective}")


def test_selectable_metrics_are_those_reported(run: tuple[Path, dict[str, Any]]) -> None:
    reported = {name for name in run[1]["metrics"] if name.startswith("val/")}
    assert reported == {"val/loss"} | {f"val/{prefix}{name}" for prefix in ("", "video_") for name in FIGURES}


def test_objective_of_videos_needs_videos(make_images: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Unknown metric 'val/video_f1'"):
        train_tiny(make_images(), tmp_path / "run", "objective=val/video_f1")


def test_another_objective_decides_the_best_checkpoint(face_dataset: Path, tmp_path: Path) -> None:
    result = train_tiny(face_dataset, tmp_path, "objective=val/f1", "dataset.samples_per_epoch=8")
    last = torch.load(str(result["last_checkpoint"]), weights_only=True)
    (state,) = (value for key, value in last["callbacks"].items() if "BestCheckpoint" in key and "'val/f1'" in key)
    assert float(state["best_model_score"]) == pytest.approx(result["objective"])


def test_absent_dataset_is_named_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"No such folder: dataset\.root='.*gone'"):
        train_tiny(tmp_path / "gone", tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_debug_run_is_short(face_dataset: Path, tmp_path: Path) -> None:
    from unmask.training.run import train

    arguments = (
        "debug=fast",
        "model=tiny",
        "precision=fp32",
        "trainer.accelerator=cpu",
        f"dataset.root={face_dataset}",
    )
    train(compose_config("train", *arguments), folder=tmp_path, overrides=[])
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert (content["global_step"], content["epoch"]) == (2, 0)
    assert np.isfinite(json.loads((tmp_path / "result.json").read_text())["metrics"]["train/loss"])


def test_training_on_self_blended_fakes_records_it(face_dataset: Path, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    for path in face_dataset.iterdir():
        (faces / path.name).symlink_to(path)
    info = json.loads((faces / "dataset.json").read_text()) | {"sources": [{"name": "ff", "forgeries": "external"}]}
    (faces / "dataset.json").unlink()
    (faces / "dataset.json").write_text(json.dumps(info))
    trained = train_tiny(faces, tmp_path / "run", "augmentation=sbi", "dataset.limit.train=8", "dataset.limit.val=8")
    told = load_checkpoint(str(trained["best_checkpoint"])).provenance["trained_on"]
    assert told == [{"name": "ff", "forgeries": "self_made"}]


def test_a_fraction_that_gives_no_batch_is_refused(face_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"limit_train_batches=0\.\d+"):
        train_tiny(face_dataset, tmp_path / "run", "trainer.limit_train_batches=0.01")


def test_overfitting_repeats_the_same_crops_until_memorized(face_dataset: Path, tmp_path: Path) -> None:
    from unmask.training.run import train

    options = ("debug=overfit", "model=tiny", "trainer=cpu", "precision=fp32", "optimizer.lr=1e-2")
    small = ("dataset.batch_size=4", "trainer.max_epochs=25", "trainer.overfit_batches=2")
    train(compose_config("train", f"dataset.root={face_dataset}", *options, *small), folder=tmp_path, overrides=[])
    assert json.loads((tmp_path / "result.json").read_text())["objective_key"] == "val/video_auroc"
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    (history,) = (state for name, state in content["callbacks"].items() if name.startswith("EpochHistory"))
    losses = [epoch["train/loss"] for epoch in history["epochs"]]
    assert losses[-1] < 0.05 < losses[0]


def test_profiling_writes_the_profile_into_the_run_folder(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmask.cli.train import main

    options = ["debug=profile", "model=tiny", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1"]
    small = ["trainer.accelerator=cpu", "dataset.num_workers=0", "hydra.run.dir=run"]
    monkeypatch.setattr("sys.argv", ["train.py", f"dataset.root={face_dataset}", *options, *small])
    main()
    assert "optimizer_step" in Path("run/fit-profile.txt").read_text()


def test_decision_keys_reach_checkpoint_bundle_and_prediction(face_dataset: Path, tmp_path: Path) -> None:
    from unmask.inference.predictor import Predictor

    keys = ("aggregation=auto", "threshold_criterion=fpr_0.2", "calibration=isotonic", "uncertain_error=0.4")
    result = train_tiny(face_dataset, tmp_path / "run", *keys)
    stored = load_checkpoint(str(result["best_checkpoint"])).decision
    assert stored.criterion == "fpr_0.2"
    assert stored.to_dict() == result["decision"]
    assert load_bundle(str(result["bundle"])).decision == stored
    predictor = Predictor.load(str(result["bundle"]))
    assert (predictor.decision, predictor.margin) == (stored, stored.margin)
    assert stored.calibration is None


@pytest.mark.parametrize(
    ("key", "choices"), [("calibration=beta", "platt"), ("uncertain_error=0.9", "0.5"), ("aggregation=mode", "auto")]
)
def test_invalid_decision_keys_stop_before_training(face_dataset: Path, tmp_path: Path, key: str, choices: str) -> None:
    with pytest.raises(ConfigError, match=f"{key.partition('=')[2]}.*{choices}"):
        train_tiny(face_dataset, tmp_path, key)
