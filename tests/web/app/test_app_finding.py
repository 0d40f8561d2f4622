import json
import os
from pathlib import Path

import pytest

from unmask.web.app.model_page import find_evaluations, read_dataset, read_training
from unmask.web.app.models import Alias, given_model, list_models, place_of


def touch(path: Path, *, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (seconds, seconds))


def test_bundles_and_checkpoints_are_found_newest_first(tmp_path: Path) -> None:
    for run, seconds in (("outputs/train/old", 1e9), ("multirun/train/s/0", 3e9)):
        touch(tmp_path / run / "bundle/spec.json", seconds=seconds)
        touch(tmp_path / run / "bundle/model.onnx", seconds=seconds)
        touch(tmp_path / run / "checkpoints/best.ckpt", seconds=seconds)  # its bundle stands for it
        touch(tmp_path / run / "model/spec.json", seconds=seconds)
        touch(tmp_path / run / "model/model.onnx", seconds=seconds)
        touch(tmp_path / run / "model/MLmodel", seconds=seconds)
    touch(tmp_path / "outputs/train/none/checkpoints/best.ckpt", seconds=2e9)
    touch(tmp_path / "outputs/train/none/checkpoints/last.ckpt", seconds=2e9)
    touch(tmp_path / "outputs/train/part/.bundle.1.part/spec.json", seconds=4e9)
    touch(tmp_path / "outputs/train/part/.bundle.1.part/model.onnx", seconds=4e9)
    folders = [tmp_path / "outputs", tmp_path / "multirun", tmp_path / "absent"]
    names = [model.name for model in list_models(folders)]
    assert names == ["train/s/0", "train/none/checkpoints/best.ckpt", "train/old"]
    assert list_models(folders)[0].label.startswith("train/s/0 · 24 Jan 2065")


def test_a_given_model_comes_first_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "outputs/a/checkpoints/best.ckpt"
    touch(path, seconds=1e9)
    touch(tmp_path / "outputs/b/checkpoints/best.ckpt", seconds=2e9)
    models = list_models([tmp_path / "outputs"], given=str(path))
    assert [model.name for model in models] == ["a/checkpoints/best.ckpt", "b/checkpoints/best.ckpt"]
    assert list_models([], given="gone.ckpt")[0].made == "date unknown"


def test_a_model_is_given_by_argument_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["main.py", "--flag"])
    monkeypatch.setenv("UNMASK_CHECKPOINT", "from/environment")
    assert given_model() == "from/environment"
    monkeypatch.setattr("sys.argv", ["main.py", "runs:/abc"])
    assert given_model() == "runs:/abc"


def test_the_record_of_a_run_is_found(tmp_path: Path) -> None:
    (tmp_path / "run/bundle").mkdir(parents=True)
    (tmp_path / "run/result.json").write_text('{"best_checkpoint": "b", "metrics": {"val/auroc": 0.9}}')
    assert read_training(tmp_path / "run/bundle")["metrics"] == {"val/auroc": 0.9}
    assert read_training(tmp_path / "run/checkpoints/best.ckpt")["best_checkpoint"] == "b"
    (tmp_path / "run/result.json").write_text("[" * 5000)
    assert read_training(tmp_path / "run/bundle") == {}


def test_a_dataset_prepared_again_after_the_training_is_not_mistaken_for_the_old_one(tmp_path: Path) -> None:
    provenance = {"dataset": "ffpp", "dataset_root": str(tmp_path), "preprocessing_hash": "a"}
    (tmp_path / "dataset.json").write_text('{"name": "ffpp", "preprocessing_hash": "a", "counts": {}}')
    assert read_dataset(provenance)
    assert not read_dataset(provenance | {"preprocessing_hash": "b"})
    assert not read_dataset({})


def test_evaluations_of_other_models_are_skipped(tmp_path: Path) -> None:
    for name, provenance in (("mine", {"checkpoint": "x/best.ckpt"}), ("other", {"checkpoint": "y/best.ckpt"})):
        (tmp_path / name).mkdir()
        content = {"datasets": {name: {"split": "test"}}, "provenance": provenance}
        (tmp_path / name / "result.json").write_text(json.dumps(content))
    (tmp_path / "result.json").write_text("broken")
    assert [row.dataset for row in find_evaluations(None, "x/best.ckpt", [tmp_path])] == ["mine"]


def test_a_result_deleted_meanwhile_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"datasets": {"mine": {"split": "test"}}, "provenance": {"training: run id": "run-1"}}
    (tmp_path / "result.json").write_text(json.dumps(content))
    (tmp_path / "dangling.json").symlink_to(tmp_path / "gone")
    found = [tmp_path / "result.json", tmp_path / "dangling.json", tmp_path / "deleted/result.json"]
    monkeypatch.setattr(Path, "glob", lambda *_: iter(found))
    assert [row.dataset for row in find_evaluations("run-1", None, [tmp_path])] == ["mine"]


def test_visitors_see_only_paths_below_our_own_folders(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place_of(str(home / "outputs/train/first/bundle")) == "outputs/train/first/bundle"
    assert place_of(str(tmp_path / "mine.ckpt")) == place_of("mine.ckpt") == "mine.ckpt"
    assert place_of("/srv/secret/first/bundle") == place_of("/srv/secret/first/checkpoints/best.ckpt") == "first"
    assert place_of("../secret/first") == "first"
    assert place_of("/bundle") == "bundle"
    assert place_of("models:/faces@best") == "models:/faces@best"
    assert place_of(str(tmp_path)) == tmp_path.name
    monkeypatch.chdir("/")
    assert place_of("/srv/secret/first/bundle") == "first"  # everything lies below /


def test_an_alias_is_resolved_once_a_minute_and_a_failed_request_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, answers = [0.0], iter([None, 5.0, None, 7.0])
    monkeypatch.setattr("unmask.web.app.models.ask_version_time", lambda name, alias: next(answers))
    monkeypatch.setattr("unmask.web.app.models.time.monotonic", lambda: clock[0])
    alias, stamps = Alias("faces", "best"), []
    for clock[0] in (0, 59, 60, 119, 120, 180):
        stamps.append(alias.find_stamp())
    assert stamps == [0, 0, 5, 5, 5, 7]
