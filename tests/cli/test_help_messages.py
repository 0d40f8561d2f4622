import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unmask.cli.shell import run_command
from unmask.errors import DatasetError

Told = Callable[..., str]


@pytest.fixture
def told(in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a command line whose task must not be reached; returns what it says on standard error."""

    def run(*arguments: str, command: str = "train") -> str:
        monkeypatch.setattr(sys, "argv", [f"{command}.py", *arguments])
        with pytest.raises(SystemExit) as stopped:
            run_command(lambda cfg: pytest.fail("composed"), config_name=command)
        assert stopped.value.code == 2
        text = capsys.readouterr().err
        told = text.removeprefix(f"Error executing job with overrides: {list(arguments)}\n")  # Hydra's own line
        assert told.startswith("Error: ")
        assert "Traceback" not in told
        return told

    return run


def test_misspelt_root_key_is_named_with_file_and_choices(told: Told) -> None:
    text = told("sed=3")
    assert "No key 'sed' (in 'sed=3'). Did you mean 'seed'?" in text
    assert "configs/train.yaml" in text
    for key in ("seed", "deterministic", "objective", "resume"):
        assert key in text.rpartition("has the keys: ")[2]


def test_misspelt_key_of_a_group_is_named_with_the_file_of_the_chosen_option(told: Told) -> None:
    text = told("optimizer=sgd", "optimizer.momentun=0.5")
    assert "No key 'optimizer.momentun' (in 'optimizer.momentun=0.5'). Did you mean 'optimizer.momentum'?" in text
    assert "'optimizer' in " in text
    assert "configs/optimizer/sgd.yaml has the keys: " in text
    choices = text.rpartition("has the keys: ")[2]
    assert "nesterov" in choices
    assert "betas" not in choices  # that is Adam's


def test_misspelt_key_of_the_default_option_is_named(told: Told) -> None:
    text = told("optimizer.learning_rate=0.5")
    assert "No key 'optimizer.learning_rate'" in text
    assert "configs/optimizer/adamw.yaml has the keys: _partial_, _target_, betas, head_lr_ratio, lr, weight_" in text


def test_misspelt_key_deep_in_a_group_is_named(told: Told) -> None:
    text = told("augmentation.steps.flip.prob=1")
    assert "No key 'augmentation.steps.flip.prob'" in text
    assert "configs/augmentation/light.yaml has the keys: _target_, p" in text


def test_misspelt_group_is_named(told: Told) -> None:
    text = told("optimiser=sgd")
    assert "'optimiser'" in text
    assert "Did you mean 'optimizer'?" in text
    assert "configs/train.yaml has the keys: " in text


def test_misspelt_option_is_named_with_the_choices(told: Told) -> None:
    text = told("optimizer=adamq")
    assert "No option 'adamq' for 'optimizer'" in text
    assert "configs/optimizer)" in text
    assert "Choose one of: adam, adamw, sgd" in text
    assert "Did you mean 'optimizer=adam" in text


@pytest.mark.parametrize(
    ("command", "argument", "meant"),
    [
        ("train", "precision=bf16-mixed", "precision=bf16"),
        ("train", "precision=16", "precision=fp16"),
        ("train", "scheduler=ReduceLROnPlateau", "scheduler=plateau"),
        ("train", "optimizer=AdamW", "optimizer=adamw"),
        ("train", "model=xception", "model=timm model.name=legacy_xception"),
        ("prepare", "detector=mtcnn", "detector=retinaface_mobilenet"),
        ("prepare", "source=ff++", "source=ffpp"),
    ],
)
def test_names_of_options_known_from_elsewhere_lead_to_ours(
    told: Told, command: str, argument: str, meant: str
) -> None:
    text = told(argument, command=command)
    assert meant in text
    assert "Choose one of: " in text


def test_option_unlike_any_other_gets_no_suggestion(told: Told) -> None:
    text = told("scheduler=xyz")
    assert "Did you mean" not in text
    assert "Choose one of: cosine, none, onecycle, plateau" in text


def test_value_of_the_wrong_type_is_named_with_the_file(told: Told) -> None:
    text = told("seed=often")
    assert "Bad value in 'seed=often'" in text
    assert "'often'" in text
    assert "Integer" in text
    assert "configs/train.yaml" in text


def test_deleting_an_unknown_key_is_an_error(told: Told) -> None:
    assert "optimizer.colour" in told("~optimizer.colour")


def test_argument_that_is_not_an_override_is_named(told: Told) -> None:
    assert "'faces' is neither an option nor key=value. Write a value behind it: faces=..." in told("faces")


@pytest.mark.parametrize("command", ["train", "prepare", "evaluate", "predict"])
@pytest.mark.parametrize("argument", ["seed=1=2", "seed=[1", "seed={a:"])
def test_unreadable_argument_is_named_with_the_way_to_quote_it(told: Told, command: str, argument: str) -> None:
    text = told("paths.root=x", argument, command=command)
    assert f"Cannot read '{argument}': " in text
    value = argument.partition("=")[2]
    assert text.strip().endswith(f"needs two pairs of quotes: seed='\"{value}\"'")


def test_misspelt_part_in_the_middle_of_a_key_is_named(told: Told) -> None:
    text = told("callbacks.early_stoping.patience=3")
    assert "No key 'callbacks.early_stoping' (in 'callbacks.early_stoping.patience=3')." in text
    assert "Did you mean 'callbacks.early_stopping'? 'callbacks' in " in text
    assert "configs/callbacks/default.yaml has the keys: curves, early_stopping, " in text


def test_misspelt_start_of_a_key_is_named(told: Told) -> None:
    text = told("datasett.root=x")
    assert "No key 'datasett' (in 'datasett.root=x'). Did you mean 'dataset'? The root in " in text


@pytest.mark.parametrize(("argument", "meant"), [("experimen=demo", "experiment"), ("swep=optuna", "sweep")])
def test_groups_that_are_empty_by_default_are_known(told: Told, argument: str, meant: str) -> None:
    text = told(argument)
    assert f"Did you mean '{meant}'?" in text
    assert "debug, " in text.rpartition("has the keys: ")[2]


def test_options_of_plugins_are_among_the_choices(told: Told) -> None:
    text = told("hydra/launcher=joblb")
    assert "Did you mean 'hydra/launcher=joblib'?" in text
    assert "slurm" in text.rpartition("Choose one of: ")[2]


def test_keys_of_hydra_are_named_with_their_option(told: Told) -> None:
    text = told("hydra/launcher=joblib", "hydra.launcher.n_jbs=2")
    assert "Did you mean 'hydra.launcher.n_jobs'? 'hydra.launcher' in hydra/launcher=joblib has the keys: " in text


def test_several_values_without_a_sweep_are_an_error(told: Told) -> None:
    text = told("optimizer.lr=1e-4,3e-4")
    assert "'optimizer.lr=1e-4,3e-4' holds several values. Add -m for a job with each; " in text


def test_overrides_after_a_flag_are_applied(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["dataset.root=x", "--cfg", "job", "seed=7", "--package", "optimizer", "optimizer.lr=0.5"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    run_command(lambda cfg: pytest.fail("ran"), config_name="train")
    assert "lr: 0.5" in capsys.readouterr().out


MISSPELT = [
    ("train", "optimiser=sgd", "Did you mean 'optimizer'?"),
    ("train", "optimizer=sdg", "Did you mean 'optimizer=sgd'?"),
    ("train", "trainer.max_epoch=3", "Did you mean 'trainer.max_epochs'?"),
    ("train", "deterministic=maybe", "Bad value in 'deterministic=maybe'"),
    ("prepare", "sourc=ffpp", "Did you mean 'source'?"),
    ("prepare", "source=ffp", "Did you mean 'source=ffpp'?"),
    ("prepare", "crop.margins=2", "Did you mean 'crop.margin'?"),
    ("prepare", "crop.crop_size=big", "Bad value in 'crop.crop_size=big'"),
    ("evaluate", "path.root=x", "Did you mean 'paths'?"),
    ("evaluate", "paths=defalt", "Did you mean 'paths=default'?"),
    ("evaluate", "batchsize=3", "Did you mean 'batch_size'?"),
    ("evaluate", "batch_size=many", "Bad value in 'batch_size=many'"),
    ("predict", "limit.max_faces=3", "Did you mean 'limits'?"),
    ("predict", "paths=defalt", "Did you mean 'paths=default'?"),
    ("predict", "limits.max_face=3", "Did you mean 'limits.max_faces'?"),
    ("predict", "threshold=high", "Bad value in 'threshold=high'"),
]


@pytest.mark.parametrize(("command", "argument", "words"), MISSPELT)
def test_every_command_names_a_misspelt_group_option_key_and_value(
    told: Told, command: str, argument: str, words: str
) -> None:
    text = told(argument, command=command)
    assert words in text
    assert argument in text or argument.split("=", maxsplit=1)[0] in text


def test_missing_values_are_reported_together(told: Told) -> None:
    text = told(command="evaluate")
    assert "checkpoint, dataset.root." in text
    assert "checkpoint=... dataset.root=..." in text


def test_other_commands_name_their_own_files(told: Told) -> None:
    assert "configs/crop" not in (text := told("crop.sise=3", command="prepare"))
    assert "No key 'crop.sise'" in text
    assert "configs/prepare.yaml has the keys: aligned, chroma, crop_size, format, jpeg_quality, margin, " in text
    assert "configs/predict.yaml" in told("treshold=0.3", command="predict")
    assert "Did you mean 'threshold'?" in told("treshold=0.3", command="predict")


def test_option_of_another_command_is_named(told: Told) -> None:
    text = told("detector=harr", command="prepare")
    assert "Choose one of: haar, none, retinaface, retinaface_mobilenet" in text
    assert "Did you mean 'detector=haar'?" in text


def test_users_error_in_the_task_ends_with_its_text(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(cfg: object) -> None:
        raise DatasetError("No faces here. Make some.")

    monkeypatch.setattr(sys, "argv", ["train.py", "dataset.root=x"])
    with pytest.raises(SystemExit, match="2"):
        run_command(task, config_name="train")
    assert capsys.readouterr().err == "Error: No faces here. Make some.\n"


def test_interruption_ends_with_its_own_code(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(cfg: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["train.py", "dataset.root=x"])
    with pytest.raises(SystemExit, match="130"):
        run_command(task, config_name="train")
    assert "Interrupted" in capsys.readouterr().err


def test_our_own_bugs_keep_their_traceback(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def task(cfg: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["train.py", "dataset.root=x"])
    with pytest.raises(ZeroDivisionError):
        run_command(task, config_name="train")


@pytest.mark.parametrize(
    "flags",
    [
        ("--cfg", "job"), ("--cfg=job",), ("-c", "hydra"), ("--cfg", "job", "--package", "optimizer"),
        ("-c", "job", "-p", "model"), ("--cfg", "job", "--resolve"), ("-m",), ("--multirun",), ("--run",),
        ("--config-name", "train"), ("-cn", "train"), ("--help",), ("-h",), ("--cf", "job"),
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("place", ["before", "behind"])
def test_misspelt_key_beside_a_flag_is_explained_as_without_it(told: Told, flags: tuple[str, ...], place: str) -> None:
    wrong = ("dataset.root=x", "optimizer.lrr=1")
    expected = told(*wrong)
    assert "'optimizer.lr'" in expected
    assert told(*((*flags, *wrong) if place == "before" else (*wrong, *flags))) == expected


def test_misspelt_key_of_an_own_config_is_explained_with_its_file(told: Told, tmp_path: Path) -> None:
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    file = tmp_path / "mine" / "optimizer" / "own.yaml"
    file.write_text("_target_: torch.optim.SGD\n_partial_: true\nlr: 0.1\n")
    wrong = ("dataset.root=x", "optimizer=own", "optimizer.lrr=1")
    for flags in (("--config-dir", str(file.parents[1])), (f"--config-dir={file.parents[1]}",)):
        for more in ((), ("--help",), ("--cfg", "job")):
            text = told(*flags, *more, *wrong)
            assert "'optimizer.lr'" in text
            assert "mine/optimizer/own.yaml" in text


def test_help_shows_the_options_of_an_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "own.yaml").write_text("_target_: torch.optim.SGD\n_partial_: true\nlr: 0.123\n")
    monkeypatch.setattr(sys, "argv", ["train.py", "--help", "--config-dir", str(tmp_path), "optimizer=own"])
    run_command(lambda cfg: pytest.fail("composed"), config_name="train")
    shown = capsys.readouterr().out
    assert "own" in next(line for line in shown.splitlines() if line.startswith("  optimizer "))
    assert "lr: 0.123" in shown
