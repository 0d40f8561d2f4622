import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests.conftest import compose_config

from unmask.data.tables import FaceDataset
from unmask.errors import TrackingError
from unmask.training.provenance import find_code_state
from unmask.training.tracking import MLflowSettings, TrackedRun, count_crops, digest_table, flatten

ARGUMENTS = (
    "model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer.accelerator=cpu", "trainer.max_epochs=2",
    "dataset.samples_per_epoch=16", "run_name=trial", "trainer.log_every_n_steps=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def workplace(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `train.py` was run once, as from the command line and tracked."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("UNMASK_HOME", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        _command(patch, f"dataset.root={face_dataset}", *ARGUMENTS)
    return folder


def _command(patch: pytest.MonkeyPatch, *arguments: str) -> None:
    from unmask.cli.train import main

    patch.setattr(sys, "argv", ["train.py", *arguments])
    main()


@pytest.fixture(scope="module")
def result(workplace: Path) -> dict[str, Any]:
    (path,) = workplace.glob("outputs/train/*/result.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.fixture(scope="module")
def client(result: dict[str, Any]) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(result["tracking_uri"])


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for item in client.list_artifacts(run_id, folder):
        found += _artifacts(client, run_id, item.path) if item.is_dir else [item.path]
    return sorted(found)


def test_everything_is_written_where_it_belongs(workplace: Path) -> None:
    names = {path.name for path in workplace.iterdir()}
    assert {"outputs", "mlflow.db", "mlartifacts"} <= names
    assert names <= {"outputs", "multirun", "mlflow.db", "mlflow.db-shm", "mlflow.db-wal", "mlartifacts"}


def test_run_is_finished_under_its_name(client: Any, result: dict[str, Any]) -> None:
    run = client.get_run(result["run_id"])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "trial")
    assert client.get_experiment(run.info.experiment_id).name == "unmask"


def test_params_are_the_composed_config(client: Any, result: dict[str, Any]) -> None:
    params = client.get_run(result["run_id"]).data.params
    assert (params["model.name"], params["optimizer.lr"], params["seed"]) == ("tiny", "0.0003", "0")
    assert params["augmentation.steps.flip.p"] == "0.5"
    assert params["objective"] == "val/video_auroc"


def test_tags_tell_code_data_and_command(client: Any, result: dict[str, Any], face_dataset: Path) -> None:
    tags = client.get_run(result["run_id"]).data.tags
    code = find_code_state()
    assert tags["mlflow.source.git.commit"] == code.commit
    assert tags["preprocessing_hash"] == FaceDataset.load(face_dataset).spec.hash
    assert "run_name=trial" in tags["command"]


def test_artifacts_hold_config_overrides_log_and_both_checkpoints_once(client: Any, result: dict[str, Any]) -> None:
    names = _artifacts(client, result["run_id"])
    assert names == [
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "overrides.txt", "result.json", "train.log",
    ]  # fmt: skip
    from omegaconf import OmegaConf

    cfg = OmegaConf.create(_read(client, result, "config.yaml"))
    assert (cfg.trainer.max_epochs, cfg.model.name) == (2, "tiny")
    assert "model=tiny" in _read(client, result, "overrides.txt").splitlines()
    assert "Epoch 2 of 2" in _read(client, result, "train.log")
    stored = torch.load(_path(client, result, "checkpoints/best.ckpt"), weights_only=True)
    kept = torch.load(result["best_checkpoint"], weights_only=True)
    assert stored["unmask"] == kept["unmask"]
    assert stored["unmask"]["provenance"]["run_id"] == result["run_id"]


def _path(client: Any, result: dict[str, Any], name: str) -> str:
    return str(client.download_artifacts(result["run_id"], name))


def _read(client: Any, result: dict[str, Any], name: str) -> str:
    return Path(_path(client, result, name)).read_text()


def test_curves_have_a_point_an_epoch(client: Any, result: dict[str, Any]) -> None:
    for key in ("train/loss", "val/loss", "val/auroc", "val/video_auroc"):
        points = client.get_metric_history(result["run_id"], key)
        assert len(points) == 2, key
    best = client.get_metric_history(result["run_id"], "val/video_auroc")[result["best_epoch"]]
    assert best.value == pytest.approx(result["objective"])
    assert any("lr" in key for key in client.get_run(result["run_id"]).data.metrics)


def test_dataset_inputs_tell_splits_and_counts(client: Any, result: dict[str, Any], face_dataset: Path) -> None:
    inputs = client.get_run(result["run_id"]).inputs.dataset_inputs
    dataset = FaceDataset.load(face_dataset)
    found = {entry.tags[0].value: entry.dataset for entry in inputs}
    assert set(found) == {"train", "val"}
    for split, entry in found.items():
        rows = dataset.faces_of(split)
        profile = json.loads(entry.profile)
        assert (entry.name, profile["preprocessing"]) == ("synthetic", dataset.spec.hash)
        assert profile["num_crops"] == len(rows)
        assert profile["by_method"] == rows["method"].value_counts().to_dict()
        assert entry.digest == digest_table(rows)


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("out of memory"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_run_that_breaks_off_is_marked_with_its_error(
    client: Any,
    face_dataset: Path,
    workplace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: str,
) -> None:
    from unmask.models.classifier import DeepfakeClassifier
    from unmask.training.run import train

    def fail(self: object, batch: object, batch_index: int) -> None:
        raise error

    monkeypatch.setattr(DeepfakeClassifier, "training_step", fail)
    cfg = compose_config("train", f"dataset.root={face_dataset}", f"paths.root={workplace}", *ARGUMENTS)
    cfg.experiment_name = status
    with pytest.raises(type(error)):
        train(cfg, folder=tmp_path, overrides=[])
    (broken,) = client.search_runs([client.get_experiment_by_name(status).experiment_id])
    assert broken.info.status == status
    assert broken.data.tags["error"] == f"{type(error).__name__}: {error}"


def test_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database " * 100)
    settings = MLflowSettings(None, str(tmp_path / "mlflow.db"), str(tmp_path / "artifacts"), "unmask")
    with pytest.raises(TrackingError, match=r"MLflow store 'sqlite:///.*mlflow\.db' cannot be used: .*logger=none"):
        TrackedRun(settings, tags={}).open()


def test_settings_hold_wherever_a_command_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = MLflowSettings(None, "./mlflow.db", "./mlartifacts", "trial")
    assert settings.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.artifact_location == f"file://{tmp_path}/mlartifacts/trial"
    server = MLflowSettings("http://127.0.0.1:5000", "./mlflow.db", "./mlartifacts", "trial")
    assert (server.uri, server.artifact_location) == ("http://127.0.0.1:5000", None)


def test_nested_config_is_flattened_to_dotted_keys() -> None:
    nested = {"a": 1, "b": {"c": [1, 2], "d": {"e": None}, "f": {}}}
    assert flatten(nested) == {"a": 1, "b.c": [1, 2], "b.d.e": None, "b.f": {}}


def test_digest_changes_with_every_label_and_crop(face_dataset: Path) -> None:
    table = FaceDataset.load(face_dataset).faces_of("val")
    digests = {digest_table(table)}
    for column, value in (("label", 1 - table["label"][0]), ("crop", "x.jpg"), ("split", "train"), ("video_id", "v")):
        changed = table.copy()
        changed.loc[0, column] = value
        digests.add(digest_table(changed))
    digests.add(digest_table(table.iloc[1:]))
    assert len(digests) == 6
    assert digest_table(table) == digest_table(table.copy())


def test_counts_are_plain_values() -> None:
    table = pd.DataFrame({"video_id": ["a", "a", "b"], "method": ["original", "original", "FaceSwap"]})
    counts = {"num_crops": 3, "num_videos": 2, "by_method": {"original": 2, "FaceSwap": 1}}
    assert json.loads(json.dumps(count_crops(table))) == counts


def test_code_state_is_that_of_git() -> None:
    commit = find_code_state().commit
    assert commit == "" or len(commit) == 40


def test_code_without_git_has_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("unmask.training.provenance.config_dir", lambda: tmp_path / "configs")
    state = find_code_state()
    assert (state.commit, state.is_dirty) == ("", False)
