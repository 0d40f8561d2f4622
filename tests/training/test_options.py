"""Every option of every config group, found on disk, does one step of real work."""

import json
import math
import os
import stat
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tests.conftest import compose_config
from tests.prepared import lay_out_prepared
from tests.published import PUBLISHED, lay_out_published

from unmask.config import config_dir, register_schemas
from unmask.errors import ConfigError, UnmaskError
from unmask.media.image import write_jpeg
from unmask.media.video import read_frames

# Where an option is tried. A group that stands nowhere fails the first test; a new option of one needs nothing.
TRAINED = (
    "augmentation", "callbacks", "dataset", "debug", "experiment", "logger", "loss", "model", "optimizer", "paths",
    "precision", "scheduler", "trainer",
)  # fmt: skip
PREPARED = ("source", "detector")
COMPOSED = ("sweep", "hydra/launcher", "runner")

# What an option needs to be small, or to do without a network.
SMALLER = {
    ("model", "timm"): ("model.name=mobilenetv3_small_050",),
    ("model", "custom"): ("model._target_=torchvision.models.mobilenet_v3_small", "+model.num_classes=2"),
    ("debug", "limit"): ("trainer.limit_train_batches=0.5", "trainer.limit_val_batches=0.5"),
    ("debug", "profile"): ("trainer.profiler.dirpath=null",),  # which Hydra fills in
    ("source", "synthetic"): ("source.num_identities=6", "source.num_frames=2", "source.size=128"),
    ("source", "forge"): ("source.num_frames=2",),
    ("logger", "wandb"): ("logger.offline=true",),
}
# What this machine lacks, and the error that tells it.
SLOW = {("model", "resnet34"), ("model", "resnet50")}  # to export and to load
HAS_GPU = torch.cuda.is_available()
LACKING = {
    ("precision", "fp16"): (not HAS_GPU, r"precision=fp16 needs a GPU"),
    ("trainer", "gpu"): (not HAS_GPU, r"trainer\.accelerator=gpu needs a GPU"),
    ("detector", "retinaface"): (True, r"weights"),  # which are not downloaded here
    ("logger", "tensorboard"): (find_spec("tensorboard") is None, r"pip install tensorboard"),
    ("logger", "wandb"): (find_spec("wandb") is None, r"pip install wandb"),
}


def find_groups() -> dict[str, list[str]]:
    folders = {path.parent for path in config_dir().rglob("*.yaml")} - {config_dir(), config_dir() / "local"}
    return {str(path.relative_to(config_dir())): sorted(file.stem for file in path.glob("*.yaml")) for path in folders}


GROUPS = find_groups()


def _options(*groups: str) -> list[tuple[str, str]]:
    return [(group, option) for group in groups for option in GROUPS.get(group, [])]


def _cases(*groups: str) -> list[Any]:
    pairs = _options(*groups)
    return [pytest.param(*pair, id="=".join(pair), marks=pytest.mark.slow if pair in SLOW else ()) for pair in pairs]


def test_every_group_is_tried_somewhere() -> None:
    assert set(GROUPS) == {*TRAINED, *PREPARED, *COMPOSED}
    assert all(GROUPS.values())


def test_every_exception_exists() -> None:
    assert {*SMALLER, *LACKING} <= set(_options(*GROUPS))


def _train(dataset: Path, folder: Path, group: str, option: str, *, keeps_network: bool = False) -> dict[str, Any]:
    """Train two batches with one option, all else as small as it goes."""
    from unmask.training.run import train

    given = {
        "dataset.root": dataset, "model": "tiny", "dataset.num_workers": 0, "precision": "fp32", "trainer": "cpu",
        "logger": "none", "paths.root": folder, "trainer.max_epochs": 1, "trainer.limit_train_batches": 2,
        "dataset.batch_size": 8,
    }  # fmt: skip
    if group == "debug":
        given = {key: given[key] for key in ("dataset.root", "model", "trainer", "paths.root")}
    if group == "experiment":
        given = {"dataset.root": dataset, "paths.root": folder, "debug": "fast", "trainer": "cpu"}
    given[group] = option
    overrides = [f"{key}={value}" for key, value in given.items()]
    cfg = compose_config("train", *overrides, *SMALLER.get((group, option), ()))
    cfg.model.input_size = 64
    if "weights" in cfg.model:
        cfg.model.weights = None  # nothing is downloaded here
    if group == "experiment" and not keeps_network:
        cfg.model = compose_config("train", "model=tiny").model
    folder.mkdir(exist_ok=True)
    train(cfg, folder=folder, overrides=overrides)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("group", "option"), _cases(*TRAINED))
def test_option_trains(
    face_dataset: Path, tmp_path: Path, group: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmask.models.checkpoint import load_checkpoint

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    is_lacking, message = LACKING.get((group, option), (False, ""))
    if is_lacking:
        with pytest.raises(ConfigError, match=message):
            _train(face_dataset, tmp_path, group, option)
        return
    try:
        result = _train(face_dataset, tmp_path, group, option)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert math.isfinite(result["metrics"]["train/loss"])
    assert 0 <= result["objective"] <= 1
    network = load_checkpoint(result["last_checkpoint"]).build_network()
    assert all(torch.isfinite(weight).all() for weight in network.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("group", "option"), _cases("experiment"))
def test_experiment_trains_with_its_own_network(face_dataset: Path, tmp_path: Path, group: str, option: str) -> None:
    result = _train(face_dataset, tmp_path, group, option, keeps_network=True)
    assert math.isfinite(result["metrics"]["train/loss"])


@pytest.fixture
def images(in_folder: Path, synthetic_root: Path) -> dict[str, Path]:
    """The raw material of every source."""
    clips = sorted((synthetic_root / "original_sequences/youtube/c23/videos").glob("*.mp4"))
    stills = [next(read_frames(clip, num_frames=1)).image for clip in clips]
    for number, image in enumerate(stills):
        for folder, quality in (("photographs", 95), ("labelled/real", 95), ("labelled/fake", 90)):
            write_jpeg(in_folder / folder / f"{number}.jpg", image, quality=quality)
    rows = [f"labelled/{label}/{number}.jpg,{label}" for label in ("real", "fake") for number in range(len(clips))]
    (in_folder / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    prepared = lay_out_prepared(in_folder / "prepared", stills)
    return {
        "deepfakebench": prepared["rgb"], "df40": prepared["rgb"], "faces_140k": prepared["140k"],
        "portraits": prepared["lfw"],
        "ffpp": synthetic_root, "image_folder": in_folder / "labelled", "auto": in_folder / "labelled",
        "forge": in_folder / "photographs", "csv": in_folder / "labels.csv", **lay_out_published(in_folder, clips),
    }  # fmt: skip


@pytest.mark.parametrize(("group", "option"), _cases(*PREPARED))
def test_option_prepares(
    images: dict[str, Path], group: str, option: str, monkeypatch: pytest.MonkeyPatch, in_folder: Path
) -> None:
    from unmask.cli.prepare import do_task
    from unmask.data.tables import FaceDataset

    source = option if group == "source" else "image_folder"
    given = [f"{group}={option}", *SMALLER.get((group, option), ()), "crop.num_frames=2", "crop.crop_size=64"]
    given += ["num_workers=0", f"output={in_folder / 'faces'}", f"paths.root={in_folder}"]
    if group != "source":
        given.append(f"source={source}")
    if source in images:
        given.append(f"source.root={images[source]}")
    if source == "ffpp":
        given.append(f"source.splits={images['ffpp'] / 'splits'}")  # the official ones name other videos
    monkeypatch.setenv("TORCH_HOME", str(in_folder / "torch"))
    for module in ("cli.prepare", "cli.preparing.datasets", "cli.preparing.repair"):
        monkeypatch.setattr(f"unmask.{module}.run_dir", lambda: in_folder)
    is_lacking, message = LACKING.get((group, option), (False, ""))
    if is_lacking:
        with pytest.raises(UnmaskError, match=message):
            do_task(compose_config("prepare", *given))
        return
    do_task(compose_config("prepare", *given))
    dataset = FaceDataset.load(in_folder / "faces")
    assert len(dataset.faces) >= 2
    if source not in PUBLISHED:  # these few clips of which go where the dataset's own rules say
        assert {"train", "val"} <= set(dataset.faces["split"])


def _compose_hydra(*overrides: str) -> DictConfig:
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=["dataset.root=faces", *overrides], return_hydra_config=True)


@pytest.mark.parametrize(("group", "option"), _cases("sweep"))
def test_sweep_searches_keys_that_exist(group: str, option: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    cfg = _compose_hydra(f"{group}={option}")
    assert cfg.hydra.mode.name == "MULTIRUN"
    assert cfg.hydra.sweeper.params
    for key, space in cfg.hydra.sweeper.params.items():
        node = OmegaConf.select(cfg, str(key))
        assert node is not None or str(key) in GROUPS, key
        assert OverridesParser.create().parse_override(f"{key}={space}").is_sweep_override(), space
    assert instantiate(cfg.hydra.sweeper.sampler) is not None


@pytest.fixture
def pretended_slurm(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands with SLURM's names that accept every job and run none."""
    programs = in_folder / "programs"
    programs.mkdir()
    for name, answer in (("srun", ""), ("sbatch", "echo 'Submitted batch job 12'"), ("scancel", "")):
        (programs / name).write_text(f"#!/bin/sh\n{answer}\n")
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return in_folder


@pytest.mark.parametrize(("group", "option"), _cases("hydra/launcher"))
def test_launcher_writes_what_it_asks_the_cluster_for(pretended_slurm: Path, group: str, option: str) -> None:
    import submitit

    given = (f"{group}={option}", "hydra.launcher.partition=gpu", f"hydra.sweep.dir={pretended_slurm / 'sweep'}")
    cfg = _compose_hydra(*given)
    launcher = instantiate(cfg.hydra.launcher)
    keys = {key: value for key, value in launcher.params.items() if key not in ("submitit_folder", "max_num_timeout")}
    executor = submitit.AutoExecutor(cluster=launcher._EXECUTOR, folder=pretended_slurm / "logs")
    executor.update_parameters(**keys)  # raises for a key that submitit does not know
    executor.submit(sorted, [1])
    (script,) = (pretended_slurm / "logs").glob("*_submission.sh")
    lines = script.read_text().splitlines()
    for line in ("--partition=gpu", "--time=720", "--cpus-per-task=8", "--gpus-per-node=1", "--mem=32GB"):
        assert f"#SBATCH {line}" in lines, lines
    assert any(sys.executable in line for line in lines)
