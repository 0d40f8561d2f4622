import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from tests.conftest import compose_config, train_tiny

from unmask.errors import ConfigError
from unmask.tracking.logger import MLflowLogger
from unmask.training.parts import build_loggers, build_mlflow

QUICK = ("trainer.log_every_n_steps=1", "dataset.samples_per_epoch=16", "callbacks.early_stopping=null")
OWN_LOGGER = """
import json
from pathlib import Path

from lightning.pytorch.loggers.logger import Logger


class Lines(Logger):
    def __init__(self, save_dir, color):
        super().__init__()
        self.path = Path(save_dir) / f"{color}.jsonl"

    name = version = "lines"

    def log_hyperparams(self, params):
        self._write({"params": params})

    def log_metrics(self, metrics, step=None):
        self._write({key: float(value) for key, value in metrics.items()})

    def _write(self, entry):
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\\n")
"""


def _build(folder: Path, *overrides: str) -> list[Any]:
    return build_loggers(compose_config("train", *overrides).logger, folder=folder)


def test_every_logger_gets_the_same_metrics(
    face_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = train_tiny(face_dataset, tmp_path, "logger=many", "trainer.max_epochs=2", "register=faces", *QUICK)
    client = MlflowClient(result["tracking_uri"])
    run = client.get_run(result["run_id"])
    table = pd.read_csv(tmp_path / "csv" / "version_0" / "metrics.csv")
    in_mlflow = {key for key in run.data.metrics if not key.startswith("system/")}
    assert set(table.columns) - {"epoch", "step"} == in_mlflow
    assert {"train/loss", "val/video_auroc", "best/objective", "lr-AdamW"} <= in_mlflow
    curve = table[table["val/loss"].notna()]
    points = client.get_metric_history(result["run_id"], "val/loss")
    assert list(curve["step"]) == [point.step for point in points]
    assert list(curve["val/loss"]) == pytest.approx([point.value for point in points])
    params = yaml.safe_load((tmp_path / "csv" / "version_0" / "hparams.yaml").read_text())
    assert (params["model.name"], params["seed"]) == ("tiny", 0)
    assert {key: str(value) for key, value in params.items()} == run.data.params
    assert client.get_model_version_by_alias("faces", "best").run_id == result["run_id"]


def test_training_resumed_in_its_folder_keeps_both_files_and_makes_no_store(face_dataset: Path, tmp_path: Path) -> None:
    result = train_tiny(face_dataset, tmp_path, "logger=csv", *QUICK)
    assert (result["run_id"], result["run_page"]) == (None, None)
    last = f"resume={result['last_checkpoint']}"
    train_tiny(face_dataset, tmp_path, "logger=csv", *QUICK, "trainer.max_epochs=2", last)
    epochs = [pd.read_csv(tmp_path / f"csv/version_{number}/metrics.csv")["epoch"].max() for number in (0, 1)]
    assert epochs == [0, 1]
    assert not list(tmp_path.glob("mlflow.db"))


def test_registration_needs_the_mlflow_logger(face_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"register=faces.*logger=mlflow.*logger=many"):
        train_tiny(face_dataset, tmp_path, "logger=csv", "register=faces")


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_missing_package_is_named_with_its_installation(tmp_path: Path, package: str) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(ConfigError, match=rf"^logger .*pip install {package}'"):
        _build(tmp_path, f"logger={package}")
    with pytest.raises(ConfigError, match=rf"^logger\.more .*pip install {package}'"):
        _build(tmp_path, "logger=many", f"+logger@logger.more={package}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("logger={color: red}", r"logger\.color.*_target_.*configs/logger"),
        ("logger={_target_: builtins.dict}", r"logger\._target_=builtins\.dict"),
        ("logger={_target_: mylab.Logger}", r"logger\._target_.*mylab"),
    ],
)
def test_what_is_not_a_logger_is_refused(tmp_path: Path, override: str, message: str) -> None:
    cfg = compose_config("train", "logger=none")
    cfg.logger = yaml.safe_load(override.partition("=")[2])
    with pytest.raises(ConfigError, match=message):
        build_loggers(cfg.logger, folder=tmp_path)


def test_many_loggers_can_be_added_and_left_out(tmp_path: Path) -> None:
    (logger,) = _build(tmp_path, "logger=many", "logger.mlflow=null")
    assert Path(logger.log_dir) == tmp_path / "csv" / "version_0"
    added = _build(tmp_path, "logger=many", "+logger@logger.again=csv", "logger.again.name=again")
    assert [type(logger).__name__ for logger in added] == ["MLflowLogger", "CSVLogger", "CSVLogger"]


def test_sweep_finds_the_mlflow_logger_among_many() -> None:
    found = build_mlflow(compose_config("train", "logger=many", "run_name=first").logger)
    assert isinstance(found, MLflowLogger)
    assert found.run_name == "first"
    for name in ("csv", "none", "wandb"):
        assert build_mlflow(compose_config("train", f"logger={name}").logger) is None


def test_own_logger_comes_from_a_folder_of_configs(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmask.cli.train import main

    (in_folder / "lab" / "logger").mkdir(parents=True)
    (in_folder / "lab_loggers.py").write_text(OWN_LOGGER)
    (in_folder / "lab" / "logger" / "lines.yaml").write_text(
        "_target_: lab_loggers.Lines\nsave_dir: null\ncolor: red\n"
    )
    monkeypatch.syspath_prepend(str(in_folder))
    arguments = [
        "--config-dir", str(in_folder / "lab"), f"dataset.root={face_dataset}", "model=tiny", "trainer=cpu",
        "precision=fp32", "dataset.num_workers=0", "trainer.max_epochs=1", "logger=lines", "logger.color=blue",
        "hydra.run.dir=run", *QUICK,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    main()
    first, *others = [json.loads(line) for line in (in_folder / "run" / "blue.jsonl").read_text().splitlines()]
    assert first["params"]["model.name"] == "tiny"
    keys = {key for entry in others for key in entry}
    assert {"train/loss", "val/video_auroc", "best/objective"} <= keys


def test_tensorboard_gets_the_metrics(face_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train_tiny(face_dataset, tmp_path, "logger=tensorboard", *QUICK)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"train/loss", "val/video_auroc", "best/objective", "lr-AdamW"} <= set(events.Tags()["scalars"])
    assert events.Scalars("best/objective")[0].value == pytest.approx(result["objective"])
    params = yaml.safe_load((tmp_path / "tensorboard" / "hparams.yaml").read_text())
    assert params["model.name"] == "tiny"


def test_wandb_writes_a_run_offline(face_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):  # as two jobs of a sweep in one process
        result = train_tiny(face_dataset, tmp_path / name, "logger=wandb", "logger.offline=true", *QUICK)
        assert result["run_id"] is None
        assert wandb.run is None
        (run,) = (tmp_path / name / "wandb").glob("offline-run-*")
        content = next(run.glob("*.wandb")).read_bytes()
        for key in (b"train/loss", b"val/video_auroc", b"best/objective", b"model.name"):
            assert key in content
