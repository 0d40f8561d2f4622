import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import compose_config
from tests.tracking.conftest import ARGUMENTS, run_train

from unmask.data.tables import FaceDataset
from unmask.errors import TrackingError
from unmask.models.checkpoint import load_checkpoint
from unmask.tracking.logger import MLflowLogger, flatten
from unmask.tracking.provenance import digest_table, find_code_state
from unmask.tracking.store import Store


def _logger(uri: str | None, folder: Path) -> MLflowLogger:
    return MLflowLogger(
        tracking_uri=uri, tracking_db=str(folder / "mlflow.db"), artifact_dir=str(folder / "artifacts"),
        experiment_name="unmask", system_metrics_seconds=0,
    )  # fmt: skip


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for item in client.list_artifacts(run_id, folder):
        found += _artifacts(client, run_id, item.path) if item.is_dir else [item.path]
    return sorted(found)


def test_training_writes_only_to_its_output_folders(workplace: Path) -> None:
    names = {path.name for path in workplace.iterdir()}
    assert {"outputs", "mlflow.db", "mlartifacts"} <= names
    assert names <= {
        "outputs", "multirun", "mlflow.db", "mlflow.db-shm", "mlflow.db-wal", ".mlflow.db.lock", "mlartifacts",
    }  # fmt: skip


def test_run_is_finished_with_its_name(client: Any, result: dict[str, Any]) -> None:
    run = client.get_run(result["run_id"])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "trial")
    assert client.get_experiment(run.info.experiment_id).name == "unmask"


def test_params_are_the_composed_config(client: Any, result: dict[str, Any]) -> None:
    params = client.get_run(result["run_id"]).data.params
    assert (params["model.name"], params["optimizer.lr"], params["seed"]) == ("tiny", "0.0003", "0")
    assert params["augmentation.steps.flip.p"] == "0.5"
    assert params["objective"] == "val/video_auroc"


def test_params_hold_groups_and_no_internal_keys(client: Any, result: dict[str, Any]) -> None:
    params = client.get_run(result["run_id"]).data.params
    assert (params["optimizer"], params["augmentation"], params["model"]) == ("adamw", "light", "tiny")
    for noise in ("_target_", "_partial_", "paths.", "logger", "callbacks.early", "callbacks.learning", "register"):
        assert not [key for key in params if noise in key], noise


def test_tags_hold_code_data_and_command(client: Any, result: dict[str, Any], face_dataset: Path) -> None:
    tags = client.get_run(result["run_id"]).data.tags
    code = find_code_state()
    assert tags["mlflow.source.git.commit"] == code.commit
    assert tags["preprocessing_hash"] == FaceDataset.load(face_dataset).spec.hash
    assert "run_name=trial" in tags["command"]
    assert tags["trained_on"] == "synthetic (drawn faces)"
    assert load_checkpoint(result["best_checkpoint"]).provenance["run_name"] == "trial"


def test_artifacts_are_config_overrides_log_and_both_checkpoints(client: Any, result: dict[str, Any]) -> None:
    names = _artifacts(client, result["run_id"])
    others = [name for name in names if name.partition("/")[0] not in ("bundle", "figures", "model", "code.diff")]
    assert others == [
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "curves.csv", "curves.png",
        "environment.json", "overrides.txt", "result.json", "train.log",
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


def test_store_on_the_same_disk_hard_links_checkpoints_bundle_and_model(client: Any, result: dict[str, Any]) -> None:
    from unmask.tracking.store import find_artifact_folder

    artifacts = find_artifact_folder(client, result["run_id"])
    assert artifacts is not None
    bundle = Path(result["bundle"])
    for name, ours in (
        ("checkpoints/best.ckpt", Path(result["best_checkpoint"])),
        ("checkpoints/last.ckpt", Path(result["last_checkpoint"])),
        ("bundle/model.onnx", bundle / "model.onnx"),
        ("model/model.onnx", bundle / "model.onnx"),
    ):
        assert (artifacts / name).samefile(ours), name
    log = next(bundle.parent.glob("*.log"))
    assert not (artifacts / log.name).samefile(log), "a log is appended to later"


def test_run_page_shows_objective_command_and_bundle(client: Any, result: dict[str, Any]) -> None:
    told = client.get_run(result["run_id"]).data.tags["mlflow.note.content"]
    assert f"val/video_auroc {result['objective']:.4f}" in told
    assert str(Path(result["bundle"]).resolve()) in told
    assert "python train.py" in told
    assert f"checkpoint=runs:/{result['run_id']}" in told


def test_table_of_runs_has_metrics_as_columns(client: Any, result: dict[str, Any]) -> None:
    run = client.get_run(result["run_id"])
    tags = client.get_experiment(run.info.experiment_id).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    columns = json.loads(tags["mlflow.sharedViewState.unmask"])["selectedColumns"]
    shown = [column.partition("`")[2][:-1] for column in columns if column.startswith("metrics.")]
    assert "best/objective" in shown
    assert len(shown) >= 3
    assert set(shown) <= set(run.data.metrics)


def test_figures_are_artifacts(client: Any, result: dict[str, Any]) -> None:
    names = {Path(name).name for name in _artifacts(client, result["run_id"], "figures")}
    curves = {"roc.svg", "precision_recall.svg", "scores.svg", "confusion.svg", "reliability.svg"}
    assert names == curves | {"worst_real.jpg", "worst_fake.jpg"}
    assert _read(client, result, "figures/roc.svg").startswith("<svg")


def test_best_and_system_metrics_are_logged(client: Any, result: dict[str, Any]) -> None:
    metrics = client.get_run(result["run_id"]).data.metrics
    assert metrics["best/val/video_auroc"] == pytest.approx(result["objective"])
    assert metrics["system/system_memory_usage_megabytes"] > 0
    assert "epoch" not in metrics


def test_environment_lists_packages_and_hardware(client: Any, result: dict[str, Any]) -> None:
    environment = json.loads(_read(client, result, "environment.json"))
    assert environment["packages"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert environment["num_cores"] > 0
    assert environment["num_threads"] == torch.get_num_threads()
    assert environment["memory_gigabytes"] > 0.1
    assert {"cuda", "cudnn", "gpus", "platform", "python", "untracked"} <= set(environment)
    assert environment["processor"]


def test_reproduced_run_has_the_same_result(
    client: Any,
    result: dict[str, Any],
    face_dataset: Path,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace)
    run_train(monkeypatch, f"reproduce={result['run_id']}", "experiment_name=again")
    told = capsys.readouterr().out
    assert f"Composed as run {result['run_id']}" in told
    assert f"val/video_auroc of run {result['run_id']} was {result['objective']:.4f}" in told
    (run,) = client.search_runs([client.get_experiment_by_name("again").experiment_id])
    assert run.data.metrics["best/val/loss"] == pytest.approx(result["metrics"]["val/loss"], rel=1e-4)
    assert run.info.run_id != result["run_id"]
    assert run.info.run_name.split()[:2] == [face_dataset.name, "tiny"]
    assert {Path(name).name for name in _artifacts(client, run.info.run_id, "checkpoints")} == {"best.ckpt"}


def test_differences_since_a_run_are_listed(result: dict[str, Any]) -> None:
    from dataclasses import replace

    from unmask.training.reproduce import find_run, list_differences

    past = find_run(result["run_id"], result["tracking_uri"])
    packages = {**past.environment["packages"], "torch": "1.0"}
    then = dict(past.environment, python="3.1", untracked=["src/new.py"], num_threads=99, packages=packages)
    changed = replace(past, commit="0" * 40, environment=then, digests=past.digests | {"val": "abc"})
    told = "\n".join(list_differences(changed, past.config))
    expected = [f"{what} then" for what in ("commit 0000000000", "python 3.1", "torch 1.0", "num_threads 99")]
    for words in (*expected, "'src/new.py' was not in git then", "val crops of", "digest abc then"):
        assert words in told
    assert "train crops" not in told


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer=sgd"], "reproduce=.* 'optimizer=sgd'"),
        (["optimizer.momentum=0.5"], r"No key 'optimizer.momentum' \(in 'optimizer.momentum=0.5'\)"),
    ],
)
def test_reproduction_accepts_only_single_keys(result: dict[str, Any], overrides: list[str], message: str) -> None:
    from unmask.errors import ConfigError
    from unmask.training.reproduce import find_run, restore_config

    past = find_run(result["run_id"], result["tracking_uri"])
    now = compose_config("train", "seed=5")
    assert restore_config(now, past, ["optimizer.lr=0.5"]).optimizer.lr == 0.5
    assert restore_config(now, past, []).seed == 0
    with pytest.raises(ConfigError, match=message):
        restore_config(now, past, overrides)


def test_reproduction_of_an_unknown_run_names_run_store_and_fix(result: dict[str, Any]) -> None:
    from unmask.training.reproduce import find_run

    with pytest.raises(TrackingError, match=r"reproduce='0123'.*MLflow store 'sqlite:.*MLFLOW_TRACKING_URI"):
        find_run("0123", result["tracking_uri"])


def _path(client: Any, result: dict[str, Any], name: str) -> str:
    return str(client.download_artifacts(result["run_id"], name))


def _read(client: Any, result: dict[str, Any], name: str) -> str:
    return Path(_path(client, result, name)).read_text()


def test_curves_have_one_point_per_epoch(client: Any, result: dict[str, Any]) -> None:
    for key in ("train/loss", "val/loss", "val/auroc", "val/video_auroc"):
        points = client.get_metric_history(result["run_id"], key)
        assert len(points) == 2, key
    best = client.get_metric_history(result["run_id"], "val/video_auroc")[result["best_epoch"]]
    assert best.value == pytest.approx(result["objective"])
    assert any("lr" in key for key in client.get_run(result["run_id"]).data.metrics)


def test_short_epochs_have_a_learning_rate_curve(
    client: Any, face_dataset: Path, workplace: Path, tmp_path: Path
) -> None:
    from unmask.training.run import train

    short = ("trainer.log_every_n_steps=10", "dataset.batch_size=4", "register=null", "experiment_name=short")
    cfg = compose_config("train", f"dataset.root={face_dataset}", f"paths.root={workplace}", *ARGUMENTS, *short)
    result = train(cfg, folder=tmp_path, overrides=[])
    points = client.get_metric_history(result.run_id, "lr-AdamW")
    assert [point.step for point in points] == [3, 7]  # four steps per epoch
    assert points[0].value > points[1].value


def test_unmask_error_is_described_without_a_traceback() -> None:
    from unmask.tracking.logger import describe_error

    assert describe_error(TrackingError("No store. Start it.")) == "TrackingError: No store. Start it.\n"


def test_dataset_inputs_hold_splits_and_counts(client: Any, result: dict[str, Any], face_dataset: Path) -> None:
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
    ("error", "status"), [(RuntimeError("invalid shape"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_failed_run_is_closed_with_its_error(
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
    (tmp_path / "train.log").write_text("so far\n")
    with pytest.raises(type(error)):
        train(cfg, folder=tmp_path, overrides=[])
    (broken,) = client.search_runs([client.get_experiment_by_name(status).experiment_id])
    assert broken.info.status == status
    assert broken.data.tags["error"] == f"{type(error).__name__}: {error}"
    content = {"run_id": broken.info.run_id}
    assert "fail" in _read(client, content, "error.txt")
    assert f"{type(error).__name__}: {error}".rstrip(": ") in _read(client, content, "error.txt")
    assert _read(client, content, "train.log") == "so far\n"


def test_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database " * 100)
    logger = _logger(None, tmp_path)
    with pytest.raises(TrackingError, match=r"MLflow store 'sqlite:///.*mlflow\.db'.*logger=none"):
        logger.open(folder=tmp_path)


def test_server_that_is_down_is_reported_within_seconds(tmp_path: Path) -> None:
    import time

    logger = _logger("http://127.0.0.1:9", tmp_path)
    start = time.monotonic()
    with pytest.raises(TrackingError, match=r"MLflow store 'http://127.0.0.1:9'.*logger=none"):
        logger.open(folder=tmp_path)
    assert time.monotonic() - start < 10


def test_run_is_resumed_with_its_id(result: dict[str, Any], client: Any, tmp_path: Path) -> None:
    again = _logger(result["tracking_uri"], tmp_path)
    again.open(folder=tmp_path, run_id=result["run_id"])
    assert client.get_run(result["run_id"]).info.status == "RUNNING"
    with again.closing():
        again.set_tags({"again": "yes"})
        again.experiment.set_tag(again.run_id, "by", "a callback")
    run = client.get_run(result["run_id"])
    assert (run.info.status, run.data.tags["again"], run.data.tags["by"]) == ("FINISHED", "yes", "a callback")
    with pytest.raises(TrackingError, match=r"'sqlite:.*'0123'.*MLFLOW_TRACKING_URI"):
        _logger(result["tracking_uri"], tmp_path).open(folder=tmp_path, run_id="0123")


def test_store_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Store(None, "./mlflow.db", "./mlartifacts", "trial")
    assert settings.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.artifact_location == f"file://{tmp_path}/mlartifacts/trial"
    server = Store("http://127.0.0.1:5000", "./mlflow.db", "./mlartifacts", "trial")
    assert (server.uri, server.artifact_location) == ("http://127.0.0.1:5000", None)


def test_nested_config_is_flattened_to_dotted_keys() -> None:
    nested = {"a": 1, "b": {"c": [1, 2], "d": {"e": None}, "f": {}}}
    assert flatten(nested) == {"a": 1, "b.c": [1, 2], "b.d.e": None, "b.f": {}}
    assert flatten({"a": {"_target_": "x.Y", "lr": 1}}) == {"a.lr": 1}
