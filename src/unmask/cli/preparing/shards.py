"""Prepare a shard of a source, and merge shards."""

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from unmask.cli.preparing.settings import count_workers, describe_crops, read_preparation, record_settings
from unmask.errors import ConfigError
from unmask.paths import show_command

if TYPE_CHECKING:
    from unmask.preparation.prepare import PrepareResult
    from unmask.preparation.shards import ShardResult

_OF_ONE_SHARD = ("task", "output", "shard", "shards")


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


def print_shard(result: "ShardResult") -> None:
    """Print what a shard has, and how to merge it."""
    counts = ", ".join(f"{name} {count:,}" for name, count in result.outcomes.items())
    num_videos = sum(result.outcomes.values())
    print(f"Shard {result.shard}: {num_videos:,} of {result.num_videos:,} videos ({counts or 'none'}), "
          f"{result.num_faces:,} crops, in {result.seconds:.0f} s.")  # fmt: skip
    merge = show_command("prepare.py", "task=merge", f"output={result.dataset}")
    print(f"When all {result.shard.count} shards are finished, merge them with: {merge}")
