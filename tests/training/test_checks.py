from pathlib import Path
from typing import Any

import pytest
from tests.conftest import compose_config, train_tiny
from tests.training.building import build_training

from unmask.errors import ConfigError
from unmask.training.checks import check_compiler

PLATEAU = "scheduler=plateau"


def _check(dataset: Path, *overrides: str) -> None:
    options = (f"dataset.root={dataset}", "model=tiny", "trainer=cpu", *overrides)
    build_training(compose_config("train", *options))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        (PLATEAU, "scheduler.monitor=val/video_auroc", "scheduler.mode=max"),
        ("callbacks.freeze.num_epochs=9", "callbacks.ema.decay=0.999", "optimizer.head_lr_ratio=0.1"),
        ("callbacks.freeze.num_epochs=3", "trainer.max_epochs=-1", "scheduler=none"),
        ("trainer.max_epochs=-1", "scheduler=plateau"),
        ("trainer.max_epochs=-1", "+trainer.max_steps=9"),
        ("callbacks.freeze=null", "callbacks.ema=null", "trainer.gradient_clip_val=null"),
    ],
)
def test_consistent_settings_pass(face_dataset: Path, overrides: tuple[str, ...]) -> None:
    _check(face_dataset, *overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            (PLATEAU, "trainer.limit_val_batches=0"),
            r"^trainer\.limit_val_batches=0 leaves no validation, and scheduler\.monitor=val/loss and the best "
            r"checkpoint need it\. Drop it; for a short trial there is debug=fast\.$",
        ),
        (("trainer.max_epochs=-1",), r"^trainer\.max_epochs=-1 has no end.*scheduler=plateau or scheduler=none"),
        (("trainer.limit_val_batches=0.0",), r"^trainer\.limit_val_batches=0\.0 leaves no validation, and the best"),
        (("+trainer.fast_dev_run=true",), r"^trainer\.fast_dev_run=True leaves no validation.*there is debug=fast"),
        (
            ("+trainer.check_val_every_n_epoch=2",),
            r"^trainer\.check_val_every_n_epoch=2 is not possible: .* at the end of every epoch\. Drop it",
        ),
        (("+trainer.val_check_interval=0.5",), r"^trainer\.val_check_interval=0\.5 is not possible"),
        (
            (PLATEAU, "scheduler.monitor=val/los"),
            r"^Unknown metric 'val/los' \(scheduler\.monitor\)\. Choose one of: train/loss, val/loss, ",
        ),
        (
            (PLATEAU, "scheduler.monitor=val/auroc"),
            r"^scheduler\.mode=min does not fit scheduler\.monitor=val/auroc, of which larger is better\. Give "
            r"scheduler\.mode=max\.$",
        ),
        (("precision=fp16",), r"^precision=fp16 needs a GPU.*Choose precision=auto or fp32"),
        (
            ("callbacks.freeze.num_epochs=10", "trainer.max_epochs=10"),
            r"^callbacks\.freeze\.num_epochs=10 freezes the backbone to the end of trainer\.max_epochs=10\. Lower the",
        ),
        (
            ("callbacks.freeze.num_epochs=-1",),
            r"^callbacks\.freeze\.num_epochs=-1 must be a whole number from 0 on; 0 freezes",
        ),
        (
            ("callbacks.ema.decay=1",),
            r"^callbacks\.ema\.decay=1 must be more than 0 and less than 1, such as 0\.999; null: no average\.$",
        ),
        (("callbacks.ema.decay=-0.5",), r"^callbacks\.ema\.decay=-0\.5 must be more than 0"),
        (("callbacks.ema.decay=slow",), r"^callbacks\.ema\.decay=slow must be more than 0"),
        (("callbacks.freeze.num_epochs=few",), r"^callbacks\.freeze\.num_epochs=few must be a whole number"),
        (
            ("optimizer.head_lr_ratio=-1",),
            r"^optimizer\.head_lr_ratio=-1 must be more than 0",
        ),
        (("optimizer.head_lr_ratio=nan",), r"^optimizer\.head_lr_ratio=nan must be more than 0"),
        (("trainer.max_epochs=many",), r"^trainer\.max_epochs=many must be a whole number from -1 on\.$"),
        (
            ("trainer.accumulate_grad_batches=0",),
            r"^trainer\.accumulate_grad_batches=0 must be a whole number from 1 on",
        ),
        (("trainer.gradient_clip_val=-1",), r"^trainer\.gradient_clip_val=-1 must be a number from 0 on, or null"),
        (
            ("model=timm", "model.name=convnext_tiny", "model.input_size=16"),
            r"^model\.name='convnext_tiny' .*16 pixels \(model\.input_size\)",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_named(
    face_dataset: Path, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _check(face_dataset, *overrides)


def test_contradicting_settings_write_nothing(face_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"callbacks\.ema\.decay=2"):
        train_tiny(face_dataset, tmp_path, "callbacks.ema.decay=2", "logger=mlflow")
    assert list(tmp_path.iterdir()) == []


def test_other_trainer_errors_are_passed_on(face_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"These keys of trainer do not fit .*`gradient_clip_algorithm` foo is invalid"
    ):
        train_tiny(face_dataset, tmp_path, "trainer.gradient_clip_algorithm=foo")


def test_missing_compiler_is_named() -> None:
    def fail(function: Any) -> Any:
        def run(values: Any) -> Any:
            raise RuntimeError("No working C++ compiler found\nin many lines")

        return run

    with pytest.raises(ConfigError) as told:
        check_compiler(False, compiles=fail)
    assert str(told.value) == (
        "compile=true needs a C++ compiler, such as g++, and torch.compile fails here: No working C++ compiler found "
        "Install it, or leave out compile=true."
    )
