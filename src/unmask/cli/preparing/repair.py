"""Repair a face dataset with the detector that it was prepared with."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from unmask.cli.preparing.datasets import summarize_report
from unmask.cli.preparing.settings import count_workers
from unmask.config import run_dir, to_plain
from unmask.errors import ConfigError, list_problems
from unmask.paths import write_bytes

if TYPE_CHECKING:
    from unmask.data.tables import FaceDataset
    from unmask.faces.detector import Detector


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
