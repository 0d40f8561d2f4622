import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY

HEAVY = ("torch", "lightning", "mlflow", "pandas", "sklearn", "matplotlib", "albumentations", "cv2", "scipy")


_HELP = {
    "train.py": "optimizer     adam, adamw, sgd",
    "prepare.py": "crop_size: 256",
    "evaluate.py": "split: test",
    "predict.py": "margin: null",
}


def _run(*arguments: str, folder: Path, script: str = "train.py") -> subprocess.CompletedProcess[str]:
    """Run a root script from another folder; the last line of standard error tells the heavy modules it imported."""
    code = (
        "import atexit, runpy, sys;"
        f"atexit.register(lambda: print('HEAVY', *(set({HEAVY}) & set(sys.modules)), file=sys.stderr));"
        "sys.argv = sys.argv[1:];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(REPOSITORY / script), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _heavy(done: subprocess.CompletedProcess[str]) -> list[str]:
    last = done.stderr.strip().splitlines()[-1].split()
    assert last[0] == "HEAVY"
    return last[1:]


@pytest.mark.parametrize("script", ["train.py", "prepare.py", "evaluate.py", "predict.py"])
def test_help_shows_groups_and_config_without_heavy_imports(tmp_path: Path, script: str) -> None:
    done = _run("--help", folder=tmp_path, script=script)
    assert done.returncode == 0
    assert _HELP[script] in done.stdout
    assert _heavy(done) == []


def test_composed_config_is_shown_without_heavy_imports(tmp_path: Path) -> None:
    done = _run("--cfg", "job", "optimizer=sgd", "seed=5", folder=tmp_path)
    assert done.returncode == 0
    assert "_target_: torch.optim.SGD" in done.stdout
    assert "seed: 5" in done.stdout
    assert _heavy(done) == []


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("sed=1", ("No key 'sed'", "configs/train.yaml", "Did you mean 'seed'?", "objective")),
        ("optimiser=sgd", ("No key 'optimiser'", "configs/train.yaml", "Did you mean 'optimizer'?", "scheduler")),
        ("optimizer=sdg", ("No option 'sdg'", "configs/optimizer", "Choose one of: adam, adamw, sgd")),
        ("seed=x", ("Bad value in 'seed=x'", "configs/train.yaml")),
    ],
)
def test_mistakes_are_reported_without_heavy_imports(tmp_path: Path, argument: str, words: tuple[str, ...]) -> None:
    done = _run(argument, folder=tmp_path)
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert _heavy(done) == []
    assert list(tmp_path.iterdir()) == []


def test_missing_dataset_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNMASK_HOME", raising=False)
    done = _run(folder=tmp_path)
    assert done.returncode == 2
    assert "No value for: dataset.root." in done.stderr
    assert "dataset.root=..." in done.stderr
    assert _heavy(done) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dataset.sampling=odd",), ("'odd'", "weighted, natural")),
        (("model.name=vgg",), ("model.name='vgg'", "resnet18, resnet34, resnet50")),
        (("threshold_criterion=luck",), ("threshold_criterion 'luck'", "balanced_accuracy, f1, eer")),
        (("aggregation=mode",), ("aggregation 'mode'", "mean, median, max")),
        (("precision.name=int8",), ("No precision 'int8'", "auto, fp32, bf16, fp16")),
        (("objective=val/beauty",), ("Unknown metric 'val/beauty'", "val/video_auroc")),
    ],
)
def test_invalid_value_is_named_with_the_choices(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], words: tuple[str, ...],
) -> None:  # fmt: skip
    import lightning

    from unmask.cli.train import main

    quick = ["model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer.accelerator=cpu", "logger=none"]
    monkeypatch.setattr(sys, "argv", ["train.py", f"dataset.root={face_dataset}", *quick, *arguments])
    monkeypatch.setattr(lightning.Trainer, "fit", lambda *_, **__: pytest.fail("trained before it was told"))
    with pytest.raises(SystemExit, match="2"):
        main()
    text = capsys.readouterr().err
    for word in words:
        assert word in text


def test_command_prints_output_paths_and_the_next_command(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unmask.cli.train import main

    quick = ["model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer.accelerator=cpu", "logger=none"]
    quick += ["trainer.max_epochs=1", "dataset.samples_per_epoch=8"]
    monkeypatch.setattr(sys, "argv", ["train.py", f"dataset.root={face_dataset}", *quick])
    main()
    out = capsys.readouterr().out
    (best,) = in_folder.glob("outputs/train/*/checkpoints/best.ckpt")
    assert f"python evaluate.py checkpoint={best} dataset.root={face_dataset}" in out
    assert "val/video_auroc" in out
    assert json.loads((best.parents[1] / "result.json").read_text())["best_checkpoint"] == str(best)
    assert {path.name for path in in_folder.iterdir()} == {"outputs"}


@pytest.mark.slow
def test_sweep_trains_every_combination_and_stays_in_its_place(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    quick = ["model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer.accelerator=cpu", "trainer.max_epochs=1"]
    done = _run("-m", f"dataset.root={face_dataset}", *quick, "optimizer.lr=1e-4,3e-4", "augmentation=none,light",
                folder=in_folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_text()) for path in in_folder.glob("multirun/train/*/*/result.json")]
    assert len({result["run_id"] for result in results}) == 4
    client = MlflowClient(f"sqlite:///{in_folder}/mlflow.db")
    rates = [client.get_run(result["run_id"]).data.params["optimizer.lr"] for result in results]
    assert sorted(rates) == ["0.0001", "0.0001", "0.0003", "0.0003"]
    names = {path.name for path in in_folder.iterdir()}
    assert names <= {"multirun", "mlflow.db", "mlflow.db-shm", "mlflow.db-wal", ".mlflow.db.lock", "mlartifacts"}
