"""The command that turns a source into a face dataset."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from unmask.cli.shell import run_command
from unmask.cli.values import check_values
from unmask.errors import ConfigError
from unmask.parameters import as_config_error, check_whole
from unmask.paths import show_command

if TYPE_CHECKING:
    from unmask.data.prepare import PrepareResult
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
    check_values(cfg, seed=0, num_workers=0, limit=1)
    with as_config_error():
        check_whole("limits.max_pixels", cfg.limits.max_pixels, least=1)
    if cfg.task == "repair":
        from unmask.cli.repair import repair

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
    from unmask.media.picture import write_bytes
    from unmask.training.nodes import build_node

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
    has_training = _print_summary(result.dataset)
    if result.num_repaired:
        print(f"Crops that were missing or damaged and are made again: {result.num_repaired}")
    root = f"dataset.root={result.dataset}"
    if has_training:
        use = f"Train on it with: {show_command('train.py', root)}"
    else:
        use = f"Evaluate on it with: python evaluate.py checkpoint=... {shlex.quote(root)}"
    print(f"Took {result.seconds:.0f} s. {use}")


def _check_duplicates(choice: str) -> str:
    from unmask.data.duplicates import CHOICES

    if choice not in CHOICES:
        raise ConfigError(f"duplicates='{choice}' is unknown. Choose {' or '.join(CHOICES)}.")
    return choice


def describe_crops(cfg: DictConfig, detector: "Detector | None") -> "CropSpec":
    """Return the preprocessing spec of a configuration.

    Args:
        cfg: Of `prepare.yaml`.
        detector: Built of it.
    """
    from unmask.config import to_plain
    from unmask.faces.detector import check_detector, describe_detector
    from unmask.faces.spec import CropSpec

    described = describe_detector(detector, to_plain(cfg.detector))
    if detector is not None:
        check_detector(detector, name=described["detector"])
    try:
        return CropSpec(**described, **to_plain(cfg.crop))
    except ConfigError as error:
        raise ConfigError(f"crop.{error}") from error


def _print_summary(root: Path) -> bool:
    """Print the counts of each method, and return whether there is anything to train on."""
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
    return bool((dataset.faces["split"] == "train").any())
