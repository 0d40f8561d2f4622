"""The command that turns a source into a face dataset, and repairs and explores face datasets."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from unmask.cli.datasets import check, explore, print_summary, say_use, summarize_report, write_protocol
from unmask.cli.shell import check_values, run_command
from unmask.config import check_complete, run_dir, to_plain
from unmask.errors import ConfigError, list_problems
from unmask.paths import show_command, write_bytes

if TYPE_CHECKING:
    from unmask.data.tables import FaceDataset
    from unmask.faces.detector import Detector
    from unmask.faces.spec import CropSpec
    from unmask.preparation.prepare import Preparation, PrepareResult
    from unmask.preparation.shards import ShardResult
    from unmask.sources.folders import Source

TASKS = ("prepare", "merge", "check", "explore", "repair", "protocol")
_OF_ONE_SHARD = ("task", "output", "shard", "shards")
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


def count_workers(cfg: DictConfig) -> int:
    """Return how many processes work; one a core where the configuration does not say."""
    return (os.cpu_count() or 1) if cfg.num_workers is None else int(cfg.num_workers)


def read_split(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings of `unmask.data.splits.SplitOptions`."""
    from unmask.types import SPLITS

    return {
        "fractions": {name: float(cfg.split[name]) for name in SPLITS},
        "seed": cfg.seed,
        "hold_out": list(cfg.split.hold_out),
        "folds": cfg.split.folds,
        "fold": cfg.split.fold,
        "protocol": None if cfg.split.protocol is None else Path(cfg.split.protocol),
    }


def prepare_dataset(cfg: DictConfig) -> "PrepareResult | ShardResult":
    """Prepare a source or a shard of it, or merge shards, and write `result.json` into the run folder."""
    from unmask.preparation.shards import ShardResult

    if cfg.task != "merge" and cfg.shards:
        raise ConfigError(f"shards={list(cfg.shards)} names folders to merge. Add task=merge, or drop it.")
    if cfg.task == "merge" and cfg.shard is not None:
        raise ConfigError(f"task=merge merges all shards, so shard={cfg.shard} has no meaning. Drop it.")
    if cfg.task == "merge":
        result: PrepareResult | ShardResult = merge_dataset(cfg)
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


def prepare_shard(cfg: DictConfig) -> "ShardResult":
    """Prepare the videos of a shard."""
    from unmask.preparation.records import Shard
    from unmask.preparation.shards import prepare_shard
    from unmask.training.parts import build_node

    shard = Shard.parse(str(cfg.shard))
    detector, source = build_node(cfg.detector), build_node(cfg.source)
    settings = record_settings(cfg, describe_crops(cfg, detector))
    overrides = [text for text in HydraConfig.get().overrides.task if _name_key(text) not in _OF_ONE_SHARD]
    return prepare_shard(
        read_preparation(settings, source),
        shard,
        output=Path(cfg.output),
        detector=detector,
        num_workers=count_workers(cfg),
        runner=build_node(cfg.runner),
        settings=settings,
        overrides=overrides,
    )


def _name_key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def record_settings(cfg: DictConfig, spec: "CropSpec") -> dict[str, Any]:
    """Return the settings that decide crops and splits, as shards record them."""
    crop = spec.to_dict()
    return {
        "source": to_plain(cfg.source),
        **{key: crop.pop(key) for key in ("detector", "detector_sha256", "detector_options")},
        "crop": crop,
        "split": to_plain(cfg.split),
        "seed": cfg.seed,
        "limit": cfg.limit,
        "limits": to_plain(cfg.limits),
        "duplicates": cfg.duplicates,
        "near_duplicates": cfg.near_duplicates,
    }


def read_preparation(settings: Mapping[str, Any], source: "Source") -> "Preparation":
    """Return what `record_settings` describes."""
    from unmask.data.splits import SplitOptions
    from unmask.faces.spec import CropSpec
    from unmask.preparation.prepare import Preparation

    detector = {key: settings[key] for key in ("detector", "detector_sha256", "detector_options")}
    return Preparation(
        source,
        CropSpec(**detector, **settings["crop"]),
        SplitOptions(**read_split(OmegaConf.create({"split": settings["split"], "seed": settings["seed"]}))),
        limit=settings["limit"],
        duplicates=settings["duplicates"],
        near_duplicates=settings["near_duplicates"],
        max_pixels=settings["limits"]["max_pixels"],
    )


def merge_dataset(cfg: DictConfig) -> "PrepareResult":
    """Merge shards with the settings that they record.

    Raises:
        ConfigError: The command line contradicts them.
        UntrustedError: They were made with a source of a package that is not trusted.
    """
    from unmask.preparation.shards import find_difference, merge, read_notes
    from unmask.training.parts import build_node
    from unmask.trust import build_from_file

    folders = [Path(folder) for folder in cfg.shards] or [Path(cfg.output)]
    notes = read_notes(folders)
    file, settings = next((path, dict(note.settings)) for path, note in notes.items())
    given = {_name_key(text).partition(".")[0] for text in HydraConfig.get().overrides.task}
    if given & {"source", "detector", "crop", "split", "seed", "limit", "limits"}:
        known = record_settings(cfg, describe_crops(cfg, build_node(cfg.detector)))
        for key, here, there in find_difference(known, settings):
            if key.partition(".")[0].partition("_")[0] in given:
                raise ConfigError(
                    f"{key}: {here!r} on the command line, but {there!r} in '{file}'. The settings of a merge are "
                    f"those of its shards: name none on the command line, or the same."
                )
    settings |= {key: cfg[key] for key in ("duplicates", "near_duplicates") if key in given}
    if "source" in given:
        source = build_node(cfg.source)
    else:
        trusted = [*cfg.trusted_modules, "unmask.sources"]
        source = build_from_file(settings["source"], file=file, trusted_modules=trusted)
    return merge(read_preparation(settings, source), notes, output=Path(cfg.output), num_workers=count_workers(cfg))


def prepare(cfg: DictConfig) -> None:
    """Prepare or merge, write `result.json`, print a summary."""
    from unmask.preparation.shards import ShardResult

    result = prepare_dataset(cfg)
    if isinstance(result, ShardResult):
        _print_shard(result)
        return
    dataset = print_summary(result.dataset)
    if result.num_repaired:
        print(f"Crops that were missing or damaged and are made again: {result.num_repaired}")
    print(f"Report  {result.explored.report}")
    print(f"Took {result.seconds:.0f} s. {say_use(dataset)}")


def _print_shard(result: "ShardResult") -> None:
    counts = ", ".join(f"{name} {count:,}" for name, count in result.outcomes.items())
    num_videos = sum(result.outcomes.values())
    print(f"Shard {result.shard}: {num_videos:,} of {result.num_videos:,} videos ({counts or 'none'}), "
          f"{result.num_faces:,} crops, in {result.seconds:.0f} s.")  # fmt: skip
    merge = show_command("prepare.py", "task=merge", f"output={result.dataset}")
    print(f"When all {result.shard.count} shards are finished, merge them with: {merge}")


def describe_crops(cfg: DictConfig, detector: "Detector | None") -> "CropSpec":
    """Return the preprocessing spec of a configuration.

    Args:
        cfg: Configuration of `prepare.yaml`.
        detector: Built of it.

    Raises:
        ConfigError: A value of `crop` is out of range, or the detector has another one for its crops.
    """
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


def repair(cfg: DictConfig) -> int:
    """Repair the dataset in `output`, write `result.json`, print what was repaired; return how much could not be."""
    from unmask.data.tables import FaceDataset
    from unmask.preparation.repair import repair as repair_dataset

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
        **summarize_report(result.explored),
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
    from unmask.faces.detector import NOT_IN_SPEC, describe_detector
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
    # What a spec lacks has the detector's own default, not that of the configs.
    options += [f"~detector.{key}" for key in chosen if key not in spec.detector_options and key not in NOT_IN_SPEC]
    composed = compose("prepare", overrides=[f"detector={spec.detector}", *given, *options])
    detector: Detector | None = build_node(composed.detector)
    described = describe_detector(detector, to_plain(composed.detector))
    found = (described["detector"], described["detector_sha256"])
    if found != (spec.detector, spec.detector_sha256):
        raise ConfigError(f"{needed}, and this one is '{found[0]}' (weights {found[1][:12]}). {advice}")
    return detector
