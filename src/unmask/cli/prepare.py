"""The command that turns a source into a face dataset."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose
from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from unmask.cli.shell import check_values, run_command
from unmask.errors import ConfigError, list_problems
from unmask.paths import show_command

if TYPE_CHECKING:
    from unmask.data.prepare import PrepareResult
    from unmask.data.tables import FaceDataset
    from unmask.faces.detector import Detector
    from unmask.faces.spec import CropSpec

TASKS = ("prepare", "repair")
_KEPT = (
    "Videos that are finished are kept: run the same command again, and it continues after them. "
    "output=... names another folder for the dataset, UNMASK_HOME=... one for everything."
)


def main() -> None:
    """Run `python prepare.py source=... output=...`; exit code 1 where a repair leaves something damaged."""
    num_left = 0

    def run(cfg: DictConfig) -> None:
        nonlocal num_left
        num_left += do_task(cfg)

    run_command(run, config_name="prepare", kept=_KEPT)
    if num_left:
        sys.exit(1)


def do_task(cfg: DictConfig) -> int:
    """Prepare or repair; return how much could not be repaired."""
    check_values(cfg, **{"seed": 0, "num_workers": 0, "limit": 1, "limits.max_pixels": 1})
    if cfg.task == "repair":
        return repair(cfg)
    if cfg.task != "prepare":
        raise ConfigError(f"No task '{cfg.task}' (task). Choose one of: {', '.join(TASKS)}")
    prepare(cfg)
    return 0


def count_workers(cfg: DictConfig) -> int:
    """Return how many processes work; one a core where the configuration does not say."""
    return (os.cpu_count() or 1) if cfg.num_workers is None else int(cfg.num_workers)


def prepare_dataset(cfg: DictConfig) -> "PrepareResult":
    """Prepare, and write `result.json` into the run folder."""
    from unmask.config import run_dir, to_plain
    from unmask.data.prepare import prepare
    from unmask.paths import write_bytes
    from unmask.training.parts import build_node

    detector = build_node(cfg.detector)
    result = prepare(
        build_node(cfg.source),
        output=Path(cfg.output),
        detector=detector,
        spec=describe_crops(cfg, detector),
        fractions=to_plain(cfg.split),
        seed=cfg.seed,
        num_workers=count_workers(cfg),
        limit=cfg.limit,
        duplicates=_check_duplicates(cfg.duplicates),
        max_pixels=cfg.limits.max_pixels,
    )
    summary = {
        "dataset": str(result.dataset),
        "videos": result.outcomes,
        "faces": result.num_faces,
        "reused": result.num_reused,
        "repaired": result.num_repaired,
        "seconds": round(result.seconds, 1),
    }
    write_bytes(run_dir() / "result.json", (json.dumps(summary, indent=2) + "\n").encode())
    return result


def prepare(cfg: DictConfig) -> None:
    """Prepare, write `result.json`, print a summary."""
    result = prepare_dataset(cfg)
    dataset = _print_summary(result.dataset)
    if result.num_repaired:
        print(f"Crops that were missing or damaged and are made again: {result.num_repaired}")
    print(f"Took {result.seconds:.0f} s. {_say_use(dataset)}")


def _say_use(dataset: "FaceDataset") -> str:
    """Return what the dataset can be used for, with the command."""
    from unmask.types import Label

    root = f"dataset.root={dataset.root}"
    train = dataset.faces[dataset.faces["split"] == "train"]
    if train.empty:
        return f"Evaluate on it with: python evaluate.py checkpoint=... {shlex.quote(root)}"
    if (train["label"] == Label.FAKE).any():
        return f"Train on it with: {show_command('train.py', root)}"
    if train["landmarks"].isna().any():
        return (
            "It has no fakes to train on, and no landmarks to make fakes from with augmentation=sbi: prepare it again "
            "with detector=retinaface_mobilenet."
        )
    return f"Train on it with: {show_command('train.py', root, 'augmentation=sbi')}"


def _check_duplicates(choice: str) -> str:
    from unmask.data.audit import CHOICES

    if choice not in CHOICES:
        raise ConfigError(f"duplicates='{choice}' is unknown. Choose {' or '.join(CHOICES)}.")
    return choice


def describe_crops(cfg: DictConfig, detector: "Detector | None") -> "CropSpec":
    """Return the preprocessing spec of a configuration.

    Args:
        cfg: Configuration of `prepare.yaml`.
        detector: Built of it.

    Raises:
        ConfigError: A value of `crop` is out of range, or the detector has another one for its crops.
    """
    from unmask.config import to_plain
    from unmask.faces.detector import check_detector, describe_detector
    from unmask.faces.spec import CropSpec

    described, crop = describe_detector(detector, to_plain(cfg.detector)), to_plain(cfg.crop)
    if detector is not None:
        check_detector(detector, name=described["detector"])
    usual = CropSpec(described["detector"]).to_dict()
    for key in crop.keys() & described.keys():
        if crop[key] not in (described[key], usual[key]):
            raise ConfigError(
                f"crop.{key}={crop[key]} does not fit detector={described['detector']}, whose crops always have "
                f"crop.{key}={described[key]}. Drop it, or choose another detector."
            )
    try:
        return CropSpec(**{**crop, **described})
    except ConfigError as error:
        raise ConfigError(f"crop.{error}") from error


def _print_summary(root: Path) -> "FaceDataset":
    """Print the counts of each method, and return the dataset."""
    from rich.console import Console
    from rich.table import Table

    from unmask.data.tables import SPLITS, FaceDataset
    from unmask.types import Outcome

    dataset = FaceDataset.load(root)
    table = Table(title=f"Face dataset {root}", title_justify="left")
    for name in ("method", "videos", "crops", *SPLITS, "without crops"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for method, videos in dataset.videos.groupby("method", sort=False):
        faces = dataset.faces[dataset.faces["method"] == method]
        counts = [str((faces["split"] == split).sum()) for split in SPLITS]
        num_lost = int((videos["outcome"] != Outcome.OK).sum())
        table.add_row(str(method), str(len(videos)), str(len(faces)), *counts, str(num_lost))
    console = Console()
    console.print(table)
    lost = dataset.videos[~dataset.videos["outcome"].isin((Outcome.OK, Outcome.MISSING))]
    num_missing = int((dataset.videos["outcome"] == Outcome.MISSING).sum())
    if num_missing:
        first = dataset.videos.loc[dataset.videos["outcome"] == Outcome.MISSING, "path"].iloc[0]
        console.print(f"  missing: {num_missing:,} videos that the source names are not there, such as '{first}'",
                      markup=False, highlight=False, soft_wrap=True)  # fmt: skip
    for row in lost.head(10).itertuples():
        console.print(f"  {row.outcome}: {row.video_id}: {row.message}", markup=False, highlight=False, soft_wrap=True)
    if len(lost) > 10:
        console.print(f"  ... and {len(lost) - 10} more; all are listed in {root / 'videos.parquet'} (column outcome)")
    return dataset


def repair(cfg: DictConfig) -> int:
    """Repair the dataset in `output`, write `result.json`, print what was repaired; return how much could not be."""
    from unmask.config import run_dir
    from unmask.data.repair import repair as repair_dataset
    from unmask.data.tables import FaceDataset
    from unmask.paths import write_bytes

    dataset = FaceDataset.load(cfg.output)
    result = repair_dataset(
        Path(cfg.output),
        detector=_open_detector(dataset, cfg),
        num_workers=count_workers(cfg),
        max_pixels=cfg.limits.max_pixels,
    )
    summary = {
        "dataset": str(result.dataset),
        "checked": result.num_checked,
        "repaired": result.num_repaired,
        "regained": list(result.regained),
        "problems": dict(result.problems),
    }
    write_bytes(run_dir() / "result.json", (json.dumps(summary, indent=2) + "\n").encode())
    print(f"{result.num_checked} crops checked, {result.num_repaired} made again.")
    if result.regained:
        print(f"{len(result.regained)} videos read that could not be before:\n{list_problems(result.regained)}")
    if result.problems:
        lines = [f"{name}: {problem}" for name, problem in result.problems.items()]
        print(f"{len(lines)} could not be repaired (all are in {run_dir() / 'result.json'}):\n{list_problems(lines)}")
    return len(result.problems)


def _open_detector(dataset: "FaceDataset", cfg: DictConfig) -> "Detector | None":
    """Build the detector that the dataset was prepared with, with what the command line says of it, such as a device.

    Raises:
        ConfigError: It finds other faces than those of the dataset.
    """
    from hydra.core.hydra_config import HydraConfig

    from unmask.config import to_plain
    from unmask.faces.detector import describe_detector
    from unmask.training.parts import build_node

    spec = dataset.spec
    if spec.detector == "none":
        return None
    if "." in spec.detector:  # a user's own
        from unmask.faces.detector import build_detector

        return build_detector(
            spec,
            file=dataset.root / "dataset.json",
            device=cfg.detector.get("device", "auto"),
            weights=cfg.detector.get("weights"),
            trusted_modules=list(cfg.trusted_modules),
        )
    given = [text for text in HydraConfig.get().overrides.task if text.lstrip("+~").startswith("detector")]
    needed = f"'{dataset.root}' was prepared with the detector '{spec.detector}' (weights {spec.detector_sha256[:12]})"
    advice = "Name it with detector=..., and its weights with detector.weights=..."
    try:
        chosen = compose("prepare", overrides=[f"detector={spec.detector}", *given]).detector
    except MissingConfigException as error:  # a detector of one's own may have another name there
        raise ConfigError(f"{needed}, which no file of the configs is named after. {advice}") from error
    options = [f"detector.{key}={value}" for key, value in spec.detector_options.items() if key in chosen]
    composed = compose("prepare", overrides=[f"detector={spec.detector}", *given, *options])
    detector: Detector | None = build_node(composed.detector)
    described = describe_detector(detector, to_plain(composed.detector))
    found = (described["detector"], described["detector_sha256"])
    if found != (spec.detector, spec.detector_sha256):
        raise ConfigError(f"{needed}, and this one is '{found[0]}' (weights {found[1][:12]}). {advice}")
    return detector
