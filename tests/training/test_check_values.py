import sys
from pathlib import Path

import pytest
from tests.conftest import compose_config
from tests.training.building import build_training

from unmask.errors import ConfigError
from unmask.training.parts import build_node


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("seed=-1",), r"^seed=-1 must be a number from 0 to 4"),
        (("seed=5000000000",), r"^seed=5000000000 must be a number from 0 to 4"),
        (
            ("checkpoint_minutes=-1",),
            r"^checkpoint_minutes=-1\.0 must be 0 or more; null writes at the end of epochs\.$",
        ),
        (("optimizer.lr=0",), r"^optimizer\.lr=0 must be a number greater than 0, such as 3e-4\.$"),
        (("optimizer.lr=-1",), r"^optimizer\.lr=-1 must be a number greater than 0"),
        (("optimizer.lr=fast",), r"^optimizer\.lr=fast must be a number greater than 0"),
        (("optimizer.lr=.nan",), r"^optimizer\.lr=nan must be a number greater than 0|^optimizer\.lr=\.nan must be"),
        (("optimizer.lr=",), r"^optimizer\.lr= must be a number greater than 0"),
        (("optimizer=[adam,sgd]",), r"optimizer\.betas=.*unexpected keyword argument 'betas'"),
        (
            ("optimizer.betas=[2,0.9]",),
            r"^One of these does not fit: .*torch\.optim\.AdamW says: Invalid beta parameter",
        ),
        (("optimizer.weight_decay=-1",), r"optimizer\.weight_decay=-1.*says: Invalid weight_decay value: -1"),
        (("scheduler=plateau", "scheduler.factor=1"), r"scheduler\.factor=1,.*says: Factor should be < 1\.0"),
        (("+loss.gamma=2",), r"^loss cannot be built: .*unexpected keyword argument 'gamma'"),
        (("scheduler.warmup_ratio=2",), r"^scheduler\.warmup_ratio=2 must be a number from 0 to 1\.$"),
        (("scheduler=onecycle", "scheduler.rise_ratio=-1"), r"^scheduler\.rise_ratio=-1 must be a number from 0 to 1"),
        (("scheduler=plateau", "scheduler.patience=-1"), r"^scheduler\.patience=-1 .*\b0\b"),
        (("trainer.max_epochs=0",), r"^trainer\.max_epochs=0 .* -1 "),
        (("trainer.max_epochs=-5",), r"^trainer\.max_epochs=-5 must be a whole number from -1 on\.$"),
        (("trainer.limit_train_batches=0",), r"^trainer\.limit_train_batches=0 .*Drop it"),
        (("model.input_size=0",), r"^model\.input_size=0 .*\b16\b"),
        (("model.input_size=64.5",), r"^model\.input_size=64\.5 must be a whole number\.$"),
        (("model.dropout=1",), r"^model\.dropout=1 must be a number from 0 to 0\.99\.$"),
        (("callbacks.early_stopping.patience=-1",), r"^callbacks\.early_stopping\.patience=-1 must be a number .*0"),
        (
            ("callbacks.early_stopping.monitor=val/los",),
            r"^Unknown metric 'val/los' \(callbacks\.early_stopping\.monitor\)\. Choose one of: train/loss, .*"
            r"callbacks\.early_stopping=null$",
        ),
        (("callbacks.early_stopping.mode=min",), r"does not fit .* Give callbacks\.early_stopping\.mode=max\.$"),
        (("dataset.batch_size=0",), r"^dataset\.batch_size=0 .*whole number.*\b1\b"),
        (("dataset.batch_size=many",), r"^dataset\.batch_size=many .*whole number.*\b1\b"),
        (("dataset.num_workers=-2",), r"^dataset\.num_workers=-2 .*whole number.*\b0\b.*null"),
        (("dataset.limit.train=-3",), r"^dataset\.limit\.train=-3 .*whole number.*\b2\b.*null"),
        (("dataset.cap_per_method=0",), r"^dataset\.cap_per_method=0 .*whole number.*\b1\b"),
        (("+dataset.shuffle=true",), r"^dataset cannot be built: .*unexpected keyword argument 'shuffle'"),
        (("augmentation=sbi", "dataset.batch_size=7"), r"^dataset\.batch_size=7 is odd"),
    ],
)
def test_invalid_value_is_named(face_dataset: Path, overrides: tuple[str, ...], message: str) -> None:
    options = (f"dataset.root={face_dataset}", "model=tiny", "trainer=cpu", *overrides)
    cfg = compose_config("train", *options)
    if not any("early_stopping" in override for override in overrides):
        cfg.callbacks.early_stopping = None
    cfg.objective = "val/auroc"
    with pytest.raises(ConfigError, match=message):
        build_training(cfg)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("optimizer.lr=-1",), "Error: optimizer.lr=-1 must be a number greater than 0, such as 3e-4."),
        (("precision=fp16",), "Error: precision=fp16 needs a GPU, and this training runs on a CPU."),
        (("augmentation.steps.flip.p=2",), "Error: augmentation.steps.flip.p=2 is not possible: "),
        (("augmentation.steps.flip=7",), "Error: augmentation.steps.flip=7 "),
        (("logger=mlflow", "logger.system_metrics_seconds=-1"), "Error: logger.system_metrics_seconds=-1 must be"),
        (("logger=mlflow", "+logger.color=red"), "Error: logger cannot be built: "),
    ],
)
def test_command_reports_it_before_anything_is_written(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    from unmask.cli.train import main

    given = [f"dataset.root={face_dataset}", "model=tiny", "trainer=cpu", "precision=fp32", "logger=none", *arguments]
    monkeypatch.setattr(sys, "argv", ["train.py", *given])
    with pytest.raises(SystemExit, match="2"):
        main()
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text
    assert not list(in_folder.glob("mlflow.db")) + list(in_folder.glob("outputs/train/*/checkpoints"))


def test_preview_reports_a_bad_augmentation_too(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unmask.cli.train import main

    arguments = ["task=preview", f"dataset.root={face_dataset}", "augmentation=sbi", "augmentation.scale=2"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "Error: augmentation.scale=2 must be a number from 0 to 0.9." in capsys.readouterr().err


def test_paired_sampling_without_originals_is_an_error(face_dataset: Path, tmp_path: Path) -> None:
    import shutil

    import pandas as pd
    from tests.conftest import train_tiny

    root = shutil.copytree(face_dataset, tmp_path / "images")
    pd.read_parquet(root / "videos.parquet").assign(original=None).to_parquet(root / "videos.parquet")
    with pytest.raises(ConfigError) as told:
        train_tiny(root, tmp_path / "run", "dataset.sampling=paired")
    for named in ("dataset.sampling=paired", "split 'train'", f"'{root}'", "dataset.sampling=weighted"):
        assert named in str(told.value)


def test_bugs_are_not_reported_as_user_errors() -> None:
    from hydra.errors import InstantiationException
    from omegaconf import OmegaConf

    with pytest.raises(InstantiationException, match="ZeroDivisionError"):
        build_node(OmegaConf.create({"_target_": "operator.truediv", "_args_": [1, 0]}))
