import re
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tests.conftest import compose_config
from torch.nn import Parameter

from unmask.config import check_complete, config_dir
from unmask.errors import ConfigError
from unmask.faces.spec import InputSpec
from unmask.training.build import build_network, build_optimizer, build_schedule

COMMANDS = ("prepare", "train", "evaluate", "predict")
GROUPS = {
    "prepare": ("source", "detector", "runner"),
    "train": (
        "dataset", "augmentation", "model", "loss", "optimizer", "scheduler", "precision", "trainer", "callbacks",
    ),
}  # fmt: skip


def _options(group: str) -> list[str]:
    options = sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
    assert options
    return options


OPTIONS = [
    (command, group, option) for command, groups in GROUPS.items() for group in groups for option in _options(group)
]


def test_every_config_group_is_tested() -> None:
    folders = {path.name for path in config_dir().iterdir() if path.is_dir() and any(path.glob("*.yaml"))}
    known = {group for groups in GROUPS.values() for group in groups} | {"paths", "experiment", "debug", "local"}
    known |= {"sweep", "hydra", "logger"}  # their options are run in test_sweep.py and test_loggers.py
    assert folders <= known


@pytest.mark.parametrize(("command", "group", "option"), OPTIONS)
def test_every_option_composes_and_instantiates(tmp_path: Path, command: str, group: str, option: str) -> None:
    overrides = [f"{group}={option}", f"paths.root={tmp_path}"]
    overrides += ["dataset.root=faces"] if command == "train" else ["output=faces"]
    if option == "custom":
        overrides += ["model._target_=torchvision.models.resnet18", "+model.num_classes=1", "model.input_size=64"]
    elif group == "model" and option != "tiny":
        overrides.append("model.weights=null")  # no download here
    if (group, option) != ("source", "synthetic") and group == "source":
        overrides.append("source.root=raw")
    cfg = compose_config(command, *overrides)
    if command == "train" and group == "callbacks":
        cfg.objective = "val/auroc"
    node = cfg[group]
    if group == "precision":
        assert node.name == option
    elif group == "callbacks":
        assert {name for name, callback in node.items() if instantiate(callback) is None} <= {"ema"}
    elif group == "dataset":
        assert instantiate(node, input_spec=InputSpec(size=32)).batch_size == 32
    elif group == "trainer":
        assert instantiate(node, logger=False, accelerator="cpu").max_epochs == node.max_epochs
    elif group == "model":
        assert build_network(node).input_spec.size == node.input_size
    elif group == "optimizer":
        (param_group,) = build_optimizer(node)([Parameter()]).param_groups
        assert param_group["lr"] == node.lr
    else:
        built = build_schedule(node, max_epochs=2) if group == "scheduler" else instantiate(node)
        assert (built is None) == (option == "none" and group != "augmentation")


@pytest.mark.parametrize("group", ["experiment", "debug"])
def test_every_experiment_composes(group: str) -> None:
    for option in _options(group):
        cfg = compose_config("train", f"{group}={option}", "dataset.root=faces")
        check_complete(cfg)
        assert OmegaConf.to_container(cfg, resolve=True)
        assert cfg != compose_config("train", "dataset.root=faces")  # it changes something


def test_no_experiment_sets_a_name_behind_the_back_of_its_group() -> None:
    named = ("_target_", "name", "library")
    for path in sorted((config_dir() / "experiment").glob("*.yaml")):
        for group, node in OmegaConf.load(path).items():
            hidden = [key for key in named if OmegaConf.is_dict(node) and key in node]
            assert not hidden, f"{path.name}: {group}.{hidden[0]}; choose the group instead: override /{group}"


def test_group_on_the_command_line_wins_over_that_of_an_experiment() -> None:
    chosen = [compose_config("train", "experiment=finetune", *more).model.name for more in ((), ("model=resnet18",))]
    assert chosen == ["resnet34", "resnet18"]


def test_nothing_in_the_configs_is_absolute() -> None:
    for path in config_dir().rglob("*.yaml"):
        text = path.read_text()
        assert not re.search(r"[\s\"'](/[a-z]+/|~/|/tmp)", re.sub(r"#.*|override /hydra/", "", text)), path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_root_key_is_known_to_its_schema(command: str) -> None:
    cfg = compose_config(command)
    with pytest.raises(Exception, match="not in '"):
        cfg.misspelt = 1


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("prepare", "output"),
        ("train", "dataset.root"),
        ("evaluate", "checkpoint, dataset.root"),
        ("predict", "checkpoint"),
    ],
)
def test_missing_values_are_all_named(command: str, missing: str) -> None:
    with pytest.raises(ConfigError) as told:
        check_complete(compose_config(command))
    assert f"No value for: {missing}." in str(told.value)
    assert missing.split(", ", maxsplit=1)[0] + "=..." in str(told.value)


def test_complete_configuration_passes() -> None:
    check_complete(compose_config("train", "dataset.root=faces"))


def test_missing_source_root_is_named() -> None:
    with pytest.raises(ConfigError, match=r"No value for: source\.root"):
        check_complete(compose_config("prepare", "source=ffpp", "output=x"))
