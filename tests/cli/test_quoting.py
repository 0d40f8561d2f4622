import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from unmask.cli.arguments import quote_arguments
from unmask.cli.shell import run_command
from unmask.config import COMMANDS, config_dir, list_typed_keys, register_schemas
from unmask.paths import is_path_key

NAMES = (
    "archive (1)", "it's", 'say "cheese"', "epoch=3-val_auc=0.91.ckpt", "a, b", "[1]", "{x}", "$HOME", "#1", "a:b",
    "50%", "back\\slash", "back\\", "-dash", "--", "Daten ü 人", "trailing/", "a & b; c", "!", "007", "1e3", "true",
    " spaces ", "a\\'b", "x${y", "'", '"', "@", "null.ckpt",
)  # fmt: skip


@pytest.fixture(autouse=True)
def in_empty_folder(in_folder: Path) -> Path:
    return in_folder


@cache
def group_files(command: str) -> tuple[Path, ...]:
    """Return the options of the config groups that a command chooses from."""
    defaults = OmegaConf.load(config_dir() / f"{command}.yaml").defaults
    groups = [str(name) for entry in defaults if OmegaConf.is_dict(entry) for name in entry]
    return tuple(path for group in groups for path in sorted((config_dir() / group).glob("*.yaml")))


def list_keys(path: Path) -> Iterator[tuple[str, str]]:
    """Yield every key of a config file with its default and comment."""
    parents = [] if path.parent == config_dir() else [path.parent.name]
    depth = len(parents)
    for line in path.read_text().partition("\nhydra:")[0].splitlines():
        match = re.match(r"( *)([a-z_]\w*):(.*)$", line)
        if match:
            parents = [*parents[: depth + len(match[1]) // 2], match[2]]
            yield ".".join(parents), match[3]


def described_keys() -> list[tuple[str, str]]:
    files = {path for name in COMMANDS for path in (config_dir() / f"{name}.yaml", *group_files(name))}
    return [entry for path in sorted(files) if path.parent.name != "experiment" for entry in list_keys(path)]


@cache
def path_keys() -> dict[tuple[str, Path], list[str]]:
    """Return the keys that are paths, by command and by the file that defines them: its own or an option of a group."""
    found = {("train", Path("hydra")): ["hydra.run.dir", "hydra.sweep.dir"]}
    for command, keys in COMMANDS.items():
        own = config_dir() / f"{command}.yaml"
        for path in [own, *group_files(command)]:
            names = {key for key, _ in list_keys(path)} if path.parent.name != "experiment" else set()
            names |= {name for name, _ in list_typed_keys(keys)} if path == own else set()
            found[command, path] = sorted(key for key in names if is_path_key(key) and key != "inputs")
    return {place: keys for place, keys in found.items() if keys}


def choose_option(path: Path) -> list[str]:
    return [f"{path.parent.name}={path.stem}"] if path.parent.parent == config_dir() else []


def read(command: str, *arguments: str) -> DictConfig:
    """Compose what a command line as typed comes to."""
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        quoted = quote_arguments(arguments, config_name=command)
        return compose(command, overrides=quoted, return_hydra_config=True)


def select(cfg: DictConfig, key: str) -> Any:
    """Return the value of a key; of a list of files, which takes a single one too, that one."""
    value = OmegaConf.select(cfg, key)
    return value[0] if OmegaConf.is_list(value) else value


@pytest.mark.parametrize(("command", "path"), path_keys(), ids=lambda part: getattr(part, "stem", part))
def test_every_path_is_accepted_as_typed(command: str, path: Path) -> None:
    name = "/".join(NAMES)  # all in one: a configuration takes a tenth of a second to compose
    keys = path_keys()[command, path]
    cfg = read(command, *choose_option(path), *(f"{key}={name}" for key in keys))
    assert {key: select(cfg, key) for key in keys} == dict.fromkeys(keys, name)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_read_literally(name: str) -> None:
    (argument,) = quote_arguments([f"output={name}"], config_name="prepare")
    value = OverridesParser.create().parse_override(argument).value()
    assert OmegaConf.create({"output": value}).output == name
    assert quote_arguments([argument], config_name="prepare") == [argument]  # a job that reads it again gets the same


@pytest.mark.parametrize(("command", "path"), path_keys(), ids=lambda part: getattr(part, "stem", part))
def test_tilde_is_expanded_in_every_path(command: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/it's me")
    keys, typed = path_keys()[command, path], cycle(["~/Daten ü", '"~/Daten ü"'])
    cfg = read(command, *choose_option(path), *(f"{key}={value}" for key, value in zip(keys, typed, strict=False)))
    assert {select(cfg, key) for key in keys} == {"/home/it's me/Daten ü"}


def test_tilde_is_expanded_in_files_and_in_the_environment(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("UNMASK_HOME", "~/work")
    monkeypatch.setenv("DATA", "~/faces")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///~/mlflow.db")
    (in_folder / "paths").mkdir()
    (in_folder / "paths" / "mine.yaml").write_text("defaults: [default]\ndata_dir: ~/my (1)\noutput_dir: ~root/out\n")
    cfg = read("train", "dataset.root=${oc.env:DATA}/ff", f"hydra.searchpath=[file://{in_folder}]", "paths=mine")
    assert (cfg.dataset.root, cfg.paths.root) == ("/home/me/faces/ff", "/home/me/work")
    assert (cfg.paths.data_dir, cfg.paths.output_dir) == ("/home/me/my (1)", str(Path("~root").expanduser() / "out"))
    assert cfg.logger.tracking_uri == "sqlite:////home/me/mlflow.db"
    assert cfg.hydra.run.dir.startswith(f"{cfg.paths.output_dir}/train/")


def test_lists_of_paths_are_accepted_as_typed(in_folder: Path) -> None:
    (in_folder / "a, b.jpg").touch()
    parser = OverridesParser.create()
    for typed, meant in {
        "clip (1).mp4": ["clip (1).mp4"],
        "[a (1).jpg,it's.mp4]": ["a (1).jpg", "it's.mp4"],
        "['a, c.jpg',b=2.jpg]": ["a, c.jpg", "b=2.jpg"],
        "a, b.jpg": ["a, b.jpg"],
        "[a, b.jpg,c.jpg]": ["a, b.jpg", "c.jpg"],
        "[]": [],
    }.items():
        (quoted,) = quote_arguments([f"inputs={typed}"], config_name="predict")
        assert parser.parse_override(quoted).value() == meant


def sweep(argument: str) -> list[Any]:
    (quoted, _) = quote_arguments([argument, "-m"], config_name="train")
    override = OverridesParser.create().parse_override(quoted)
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.value()]


def test_in_a_sweep_commas_separate_paths_unless_one_with_the_comma_exists(in_folder: Path) -> None:
    assert sweep("dataset.root=a (1),it's") == ['"a (1)"', '"it\'s"']
    assert sweep("dataset.root='a, b',c") == ["'a, b'", "c"]
    (in_folder / "a, b").touch()
    assert sweep("dataset.root=a, b") == ["a, b"]
    assert sweep("dataset.root=a, b,c=d") == ['"a, b"', '"c=d"']
    assert sweep("resume=choice(a,b)") == ["a", "b"]
    assert sweep("model.weights=null,~/x") == ["null", '"~/x"']


def test_interpolations_stay_unless_such_a_path_exists(in_folder: Path) -> None:
    typed = "output=${paths.data_dir}/archive (1)"
    assert read("prepare", typed).output == "./data/archive (1)"
    (in_folder / "${paths.data_dir}").mkdir()
    (in_folder / "${paths.data_dir}" / "archive (1)").mkdir()
    assert read("prepare", typed).output == "${paths.data_dir}/archive (1)"


def test_null_stays_null_and_hydra_parses_other_keys() -> None:
    cfg = read("train", "model.weights=null", "resume=null", "optimizer.lr=1e-3", "run_name=it's, (1)")
    assert (cfg.model.weights, cfg.resume, cfg.optimizer.lr, cfg.run_name) == (None, None, 1e-3, "it's, (1)")


def test_every_key_that_is_described_as_a_file_or_folder_is_a_path() -> None:
    # "# folder of ...", "...; a file of ...", "# where originals are written", or a default below another path
    pattern = r"(#|;|,| or) (an? |the )?(ONNX )?(file|folder|table|checkpoint|bundle)\b|# where .*(written|lie)\b|\}/"
    described = [key for key, text in described_keys() if re.search(pattern, text)]
    assert len(set(described)) > 12  # so the pattern finds some
    assert not [key for key in described if not is_path_key(key)], "Name it after a word of unmask.paths.PATH_WORDS."


def test_the_folder_of_own_configs_may_be_below_the_home_folder(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(in_folder))
    (in_folder / "mein ü" / "experiment").mkdir(parents=True)
    (in_folder / "mein ü" / "experiment" / "own.yaml").write_text("# @package _global_\nseed: 77\n")
    for arguments in (["--config-dir", "~/mein ü"], ["--config-dir=~/mein ü"]):
        monkeypatch.setattr(sys, "argv", ["train.py", "experiment=own", "--cfg", "job", *arguments])
        run_command(lambda cfg: pytest.fail("ran"), config_name="train")
        assert "seed: 77" in capsys.readouterr().out


def test_evaluation_takes_a_path_or_a_list_of_paths(in_folder: Path) -> None:
    cfg = read("evaluate", "checkpoint=[runs/a b.ckpt,it's.ckpt]", "dataset.root=[data/ffpp]")
    assert list(cfg.checkpoint) == ["runs/a b.ckpt", "it's.ckpt"]
    assert list(cfg.dataset.root) == ["data/ffpp"]
    (in_folder / "[x]").mkdir()
    assert read("evaluate", "checkpoint=a.ckpt", "dataset.root=[x]").dataset.root == "[x]"
