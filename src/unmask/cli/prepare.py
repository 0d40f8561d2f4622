"""The command that turns a source into a face dataset, and repairs and explores face datasets."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from unmask.cli.preparing.datasets import check, explore, print_summary, say_use, summarize_report, write_protocol
from unmask.cli.preparing.repair import repair
from unmask.cli.preparing.settings import count_workers, describe_crops, read_split
from unmask.cli.preparing.shards import merge_dataset, prepare_shard, print_shard
from unmask.cli.shell import check_values, run_command
from unmask.config import check_complete, run_dir
from unmask.errors import ConfigError
from unmask.paths import write_bytes

if TYPE_CHECKING:
    from unmask.preparation.prepare import PrepareResult
    from unmask.preparation.shards import Prepared

TASKS = ("prepare", "merge", "check", "explore", "repair", "protocol")
_KEPT = (
    "Videos that are finished are kept: run the same command again, and it continues after them. "
    "output=... names another folder for the dataset, UNMASK_HOME=... one for everything."
)


def main() -> None:
    """Run `python prepare.py source=... output=...`; exit code 1 where a repair or a check leaves problems."""
    num_left = 0

    def run(cfg: DictConfig) -> None:
        nonlocal num_left
        num_left += do_task(cfg)

    run_command(run, config_name="prepare", check=check_keys, kept=_KEPT)
    if num_left:
        sys.exit(1)


def check_keys(cfg: DictConfig) -> None:
    """Raise a ConfigError that lists every key without a value; a check needs no `output`, unless its source does."""
    is_needed = cfg.task != "check" or "${output}" in OmegaConf.to_yaml(cfg.source)
    check_complete(cfg, optional=() if is_needed else ("output",))


def do_task(cfg: DictConfig) -> int:
    """Do the task; return how much could not be repaired, or is unusable."""
    check_values(cfg, **{"seed": 0, "num_workers": 0, "limit": 1, "limits.max_pixels": 1})
    if cfg.task == "repair":
        return repair(cfg)
    if cfg.task == "check":
        return check(cfg, **read_split(cfg))
    if cfg.task == "explore":
        explore(cfg)
        return 0
    if cfg.task == "protocol":
        write_protocol(cfg)
        return 0
    if cfg.task not in TASKS:
        raise ConfigError(f"No task '{cfg.task}' (task). Choose one of: {', '.join(TASKS)}")
    prepare(cfg)
    return 0


def prepare_dataset(cfg: DictConfig) -> "Prepared":
    """Prepare a source or a shard of it, or merge shards, and write `result.json` into the run folder."""
    from unmask.preparation.shards import ShardResult

    if cfg.task != "merge" and cfg.shards:
        raise ConfigError(f"shards={list(cfg.shards)} names folders to merge. Add task=merge, or drop it.")
    if cfg.task == "merge" and cfg.shard is not None:
        raise ConfigError(f"task=merge merges all shards, so shard={cfg.shard} has no meaning. Drop it.")
    if cfg.task == "merge":
        result: Prepared = merge_dataset(cfg)
    else:
        result = prepare_all(cfg) if cfg.shard is None else prepare_shard(cfg)
    summary = {
        "dataset": str(result.dataset),
        **({"shard": str(result.shard)} if isinstance(result, ShardResult) else {}),
        "videos": result.outcomes,
        "faces": result.num_faces,
        "reused": result.num_reused,
        "repaired": result.num_repaired,
        "seconds": round(result.seconds, 1),
        **({} if isinstance(result, ShardResult) else summarize_report(result.explored)),
    }
    write_bytes(run_dir() / "result.json", (json.dumps(summary, indent=2) + "\n").encode())
    return result


def prepare_all(cfg: DictConfig) -> "PrepareResult":
    """Prepare all videos of the source."""
    from unmask.preparation.prepare import prepare
    from unmask.training.parts import build_node

    detector = build_node(cfg.detector)
    return prepare(
        build_node(cfg.source),
        output=Path(cfg.output),
        detector=detector,
        spec=describe_crops(cfg, detector),
        **read_split(cfg),
        num_workers=count_workers(cfg),
        limit=cfg.limit,
        duplicates=cfg.duplicates,
        near_duplicates=cfg.near_duplicates,
        max_pixels=cfg.limits.max_pixels,
        runner=build_node(cfg.runner),
    )


def prepare(cfg: DictConfig) -> None:
    """Prepare or merge, write `result.json`, print a summary."""
    from unmask.preparation.shards import ShardResult

    result = prepare_dataset(cfg)
    if isinstance(result, ShardResult):
        print_shard(result)
        return
    dataset = print_summary(result.dataset)
    if result.num_repaired:
        print(f"Crops that were missing or damaged and are made again: {result.num_repaired}")
    print(f"Report  {result.explored.report}")
    print(f"Took {result.seconds:.0f} s. {say_use(dataset)}")
