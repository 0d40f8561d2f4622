"""Whatever a message tells people to type exists: scripts, keys, options, tasks, targets, packages, pages, variables.

The messages are found in the source, so that a new one is checked without being listed here.
"""

import ast
import importlib
import importlib.util
import os
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from tests.conftest import REPOSITORY, compose_config, train_tiny

from unmask.config import COMMANDS, config_dir, list_typed_keys
from unmask.errors import CheckpointError, TrackingError
from unmask.models.checkpoint import load_checkpoint
from unmask.training.resume import SafeCheckpointIO, open_resumed

SOURCES = REPOSITORY / "src" / "unmask"

PLACEHOLDER = re.compile(r"\.\.\.|<[^>]*>|\{.*?\}|%[sd]|\[\.\.\.\]")
KEY = re.compile(r"(?<![\w.{(/&?%-])(\+?[a-z_]+(?:\.[a-z_]+)*)=('[^']*'|\[[^\]]*\]|\S*[^\s.,;:)`])")
COMMAND = re.compile(r"python (\w+)\.py((?: +[^\s`,;]+)*)")
# Of the arguments of a command: what a placeholder stands for where not everything will do.
_OF_DRIVERS = "nvidia-ml-py"  # MLflow reads GPUs with it; of no use without one
FILLED = {"source": "ffpp", "detector": "none", "send_dir": "x", "task": "repair"}


@dataclass(frozen=True)
class Message:
    """A text in the source that a person may read, with `{...}` where a value comes in."""

    place: str
    text: str


def _docstrings(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        for statement in getattr(node, "body", None) or () if not isinstance(node, ast.Lambda | ast.IfExp) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield id(statement.value)


def _render(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{...}" for part in node.values)
    return None


def _read(path: Path) -> Iterator[Message]:
    tree = ast.parse(path.read_text())
    passed = set(_docstrings(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            passed |= {id(part) for part in node.values}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "show_command":
            passed |= {id(argument) for argument in node.args}
            script, *arguments = (_render(argument) or "" for argument in node.args)
            yield Message(f"{path.relative_to(REPOSITORY)}:{node.lineno}", " ".join(["python", script, *arguments]))
    for node in ast.walk(tree):
        text = None if id(node) in passed else _render(node)
        if text and "(?" not in text:  # a regular expression
            yield Message(f"{path.relative_to(REPOSITORY)}:{getattr(node, 'lineno', 0)}", text)


MESSAGES = [message for path in sorted(SOURCES.rglob("*.py")) for message in _read(path)]


def _found(pattern: str) -> list[tuple[str, str]]:
    return [(message.place, found) for message in MESSAGES for found in re.findall(pattern, message.text)]


@cache
def _groups() -> dict[str, set[str]]:
    """Return the options of each config group."""
    folders = [path for path in config_dir().iterdir() if path.is_dir() and path.name != "hydra"]
    return {folder.name: {path.stem for path in folder.glob("*.yaml")} for folder in folders}


@cache
def _keys() -> set[str]:
    """Return every dotted key that some command knows, with some option of each group."""
    keys = {key for command in COMMANDS.values() for key, _ in list_typed_keys(command)}
    keys |= {key.rpartition(".")[0] for key in keys}
    for group in _groups():
        for path in (config_dir() / group).glob("*.yaml"):
            keys |= set(_flatten(OmegaConf.to_container(OmegaConf.load(path)), f"{group}."))
    return keys | {"trainer.limit_train_batches"}


def _flatten(node: Any, prefix: str) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}"
        yield from _flatten(value, f"{prefix}{key}.")


def _arguments(text: str) -> list[tuple[str, str]]:
    return [(key.lstrip("+"), value.strip("'")) for key, value in KEY.findall(text)]


def test_messages_are_found() -> None:
    assert len(MESSAGES) > 500
    assert len(_found(COMMAND.pattern)) > 15
    assert sum(len(_arguments(message.text)) for message in MESSAGES) > 150


def test_every_key_that_a_message_names_exists() -> None:
    roots = {key.partition(".")[0] for key in _keys()} | set(_groups())
    unknown = []
    for message in MESSAGES:
        for key, _ in _arguments(message.text):
            is_advice = key in roots or ("." in key and not key.startswith("hydra."))
            if is_advice and key not in _keys() and key not in _groups():
                unknown.append(f"{message.place}: {key}")
    assert unknown == []


def test_every_option_that_a_message_names_exists() -> None:
    wrong = [
        f"{message.place}: {key}={value}"
        for message in MESSAGES
        for key, value in _arguments(message.text)
        if key in _groups() and not PLACEHOLDER.search(value) and value not in _groups()[key] | {"null"}
    ]
    assert wrong == []


def test_every_task_that_a_message_names_exists() -> None:
    scripts = ("prepare", "train", "evaluate", "serve")
    tasks = {name: importlib.import_module(f"unmask.cli.{name}").TASKS for name in scripts}
    named = [(place, script, task) for place, script, task in _found_tasks() if task not in tasks.get(script, ())]
    assert named == []
    assert len(_found_tasks()) >= 3


def _found_tasks() -> list[tuple[str, str, str]]:
    return [
        (message.place, script, task)
        for message in MESSAGES
        for script, arguments in COMMAND.findall(message.text)
        for task in re.findall(r"task=(\w+)", arguments)
    ]


def _commands() -> dict[str, str]:
    """Return the different commands of all messages, and where each is first named."""
    commands: dict[str, str] = {}
    for message in MESSAGES:
        for script, arguments in COMMAND.findall(message.text):
            commands.setdefault(f"{script}{arguments}".rstrip("."), message.place)
    return commands


@pytest.mark.parametrize("command", _commands(), ids=str)
def test_every_command_that_a_message_names_composes(command: str) -> None:
    script, *arguments = re.findall(r"(?:\{[^}]*\}|\S)+", command)
    assert (REPOSITORY / f"{script}.py").is_file()
    overrides = []
    for argument in arguments:
        key, is_key, value = argument.partition("=")
        if is_key and re.fullmatch(r"[\w.+~]+", key) and key != "-m":
            filled = FILLED.get(key, "x") if PLACEHOLDER.search(value) else value
            overrides.append(f"{key}={filled}")
    assert isinstance(compose_config(script, *overrides), DictConfig)


def test_every_make_target_that_a_message_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = _found(r"(?:^|[(`:] ?|\s{2,})make ([a-z-]+)(?=[)`,]| [A-Z]+=|$)")
    assert {target for _, target in named} >= {"ui", "app"}
    assert [(place, target) for place, target in named if target not in targets] == []


def test_every_package_that_a_message_names_is_declared() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text().lower() + (REPOSITORY / "Makefile").read_text().lower()
    named = _found(r"pip install (?:-\S+ )*'?([\w-]+)")
    assert len(named) >= 4
    assert [(place, package) for place, package in named if package.lower() not in project + _OF_DRIVERS] == []


def test_every_module_that_a_message_runs_can_be_imported() -> None:
    named = _found(r"python -m ([\w.]+)")
    assert named
    for _, module in named:
        top, *parts = module.split(".")
        found = importlib.util.find_spec(top)  # which imports nothing
        assert found is not None
        assert found.origin is not None
        if parts:
            assert Path(found.origin).parent.joinpath(*parts).with_suffix(".py").is_file(), module


def test_every_variable_that_a_message_names_is_read() -> None:
    read = {message.text for message in MESSAGES}
    named = {name for _, name in _found(r"\b([A-Z][A-Z_]{5,})=")}
    assert {"UNMASK_HOME", "MLFLOW_TRACKING_URI"} <= named
    makefile = (REPOSITORY / "Makefile").read_text()
    assert [name for name in sorted(named) if name not in read and f"$({name})" not in makefile] == []


def test_every_page_that_a_message_names_exists() -> None:
    assert [place for place, page in _found(r"\b(docs/[\w-]+\.md)") if not (REPOSITORY / page).is_file()] == []


def _run_advice(message: str, *further: str, home: Path) -> "subprocess.CompletedProcess[str]":
    """Run the command that a message names, as its reader would paste it."""
    (command,) = re.findall(r"((?:MLFLOW_TRACKING_URI=.* mlflow|python \w+\.py) .*)", message)
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", " ".join([re.sub(r"python (?=\w+\.py)", f"python {REPOSITORY}/", command), *further])],
        env={**os.environ, "UNMASK_HOME": str(home), "PATH": binaries}, cwd=home, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_training_that_a_full_disk_ended_continues_with_the_command_it_names(
    face_dataset: Path, tmp_path: Path
) -> None:
    train_tiny(face_dataset, tmp_path / "first")
    last = (tmp_path / "first").rename(tmp_path / "my own (runs)") / "checkpoints" / "last.ckpt"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CheckpointError) as caught:
            SafeCheckpointIO().save_checkpoint({"weights": torch.zeros(10_000)}, last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    options = (
        f"dataset.root={face_dataset}", "model=tiny", "trainer=cpu", "logger=none", "trainer.max_epochs=2",
        "dataset.num_workers=0",
    )  # fmt: skip
    done = _run_advice(str(caught.value), *map(shlex.quote, options), home=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Epoch 2 of 2" in done.stdout


def test_checkpoint_beside_a_bundle_is_named(checkpoint: Path) -> None:
    run = checkpoint.parents[1]
    for given in (run / "bundle", run / "bundle" / "model.onnx", run / "bundle" / "spec.json", run):
        with pytest.raises(CheckpointError, match=r"is a (bundle|folder), not a checkpoint") as caught:
            load_checkpoint(given)
        *_, named = (word.rstrip(".") for word in shlex.split(str(caught.value)) if word.startswith("checkpoint="))
        assert load_checkpoint(named.removeprefix("checkpoint=")).epoch > 0
        with pytest.raises(CheckpointError, match=re.escape(f"resume={checkpoint.with_name('last.ckpt')}")):
            open_resumed(given)


@pytest.mark.slow
def test_deleted_experiment_comes_back_with_the_command_that_is_named(tmp_path: Path) -> None:
    from unmask.tracking.store import Store, open_experiment

    places = {"tracking_db": str(tmp_path / "a store.db"), "artifact_dir": str(tmp_path / "artifacts")}
    settings = Store(tracking_uri=None, experiment_name="lost", **places)
    client, experiment = open_experiment(settings)
    client.delete_experiment(experiment)
    with pytest.raises(TrackingError) as caught:
        open_experiment(settings)
    done = _run_advice(str(caught.value), home=tmp_path)
    assert done.returncode == 0, done.stdout
    assert open_experiment(settings)[1] == experiment
