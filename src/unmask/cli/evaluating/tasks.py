"""The evaluations of `evaluate.yaml`: of one checkpoint, of several, under perturbations, and of score tables."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from unmask.cli.checkpoints import find_checkpoint
from unmask.cli.shell import check_values
from unmask.config import check_complete, run_dir, to_plain
from unmask.errors import ConfigError
from unmask.paths import show_command

if TYPE_CHECKING:
    from unmask.evaluation.matrix import Matrix
    from unmask.evaluation.robustness import Robustness
    from unmask.evaluation.run import Evaluation, Options

_OF_CHECKPOINTS = ("checkpoint", "dataset.root")


def check(cfg: DictConfig) -> None:
    """Raise a ConfigError if a value is missing, or if keys of score tables and of checkpoints are mixed."""
    if cfg.scores:
        given = [key for key in _OF_CHECKPOINTS if OmegaConf.select(cfg, key, throw_on_missing=False) is not None]
        if given:
            raise ConfigError(f"scores={list(cfg.scores)} are judged without a checkpoint. Leave out {given[0]}=...")
        if cfg.card:
            raise ConfigError("card=true needs a checkpoint: score tables say nothing about how a model was trained.")
        check_complete(cfg, optional=_OF_CHECKPOINTS)
        return
    if not OmegaConf.is_missing(cfg, "checkpoint") and cfg.checkpoint is None:
        raise ConfigError("checkpoint=null needs score tables: scores=[theirs.csv]")
    if cfg.decision.threshold is not None or cfg.decision.validation_scores:
        raise ConfigError(
            "decision.threshold=... and decision.validation_scores=... are for score tables (scores=[theirs.csv]). "
            "A checkpoint has its own threshold."
        )
    check_complete(cfg)


def evaluate_dataset(cfg: DictConfig) -> "Evaluation":
    """Evaluate, and write tables and report into the run folder."""
    from unmask.evaluation.run import evaluate

    evaluation = evaluate(
        find_checkpoint(list_values(cfg.checkpoint)[0], cfg.paths),
        root=list_values(cfg.dataset.root)[0],
        output=run_dir(),
        options=_read_options(cfg),
    )
    if not cfg.card:
        return evaluation
    from unmask.evaluation.model_card import write_card

    return replace(evaluation, card=write_card(evaluation.result))


def evaluate_matrix(cfg: DictConfig) -> "Matrix":
    """Evaluate several checkpoints or datasets, each pair into a folder of its own within the run folder."""
    from unmask.evaluation.matrix import evaluate_all

    return evaluate_all(
        [find_checkpoint(path, cfg.paths) for path in list_values(cfg.checkpoint)],
        roots=list_values(cfg.dataset.root),
        output=run_dir(),
        options=_read_options(cfg),
        ensemble=cfg.ensemble,
    )


def list_values(value: Any) -> list[str]:
    """Return the values of a key that takes one or a list."""
    return [str(one) for one in value] if isinstance(value, ListConfig) else [str(value)]


def _read_options(cfg: DictConfig) -> "Options":
    from hydra.core.hydra_config import HydraConfig

    from unmask.evaluation.run import Options
    from unmask.metrics.intervals import BootstrapOptions

    check_values(cfg, **{"batch_size": 1, "num_workers": 0, "seed": 0})
    return Options(
        split=cfg.split,
        device=cfg.device,
        batch_size=cfg.batch_size,
        num_workers=cfg.num_workers,
        cache=Path(cfg.paths.score_dir).absolute(),
        allow_spec_mismatch=cfg.allow_spec_mismatch,
        command=show_command("evaluate.py", *HydraConfig.get().overrides.task),
        folds=cfg.dataset.folds,
        fold=cfg.dataset.fold,
        bootstrap=BootstrapOptions(**cfg.bootstrap),
        seed=cfg.seed,
        trusted_modules=list(cfg.trusted_modules),
        sections=_build_sections(cfg),
    )


def evaluate_robustness(cfg: DictConfig) -> "Robustness":
    """Evaluate under perturbations, and write tables and curves into the run folder."""
    from hydra.core.hydra_config import HydraConfig

    from unmask.evaluation.robustness import RobustnessOptions, evaluate_robustness

    check_values(cfg, **{"batch_size": 1, "num_workers": 0, "seed": 0, "robustness.limit": 1})
    options = to_plain(cfg.robustness)
    scores_dir = Path(options.pop("scores_dir")).absolute()
    return evaluate_robustness(
        find_checkpoint(str(cfg.checkpoint), cfg.paths),
        root=cfg.dataset.root,
        folds=cfg.dataset.folds,
        fold=cfg.dataset.fold,
        output=run_dir(),
        scores_dir=scores_dir,
        options=RobustnessOptions(**options),
        split=cfg.split,
        device=cfg.device,
        batch_size=cfg.batch_size,
        num_workers=cfg.num_workers,
        allow_spec_mismatch=cfg.allow_spec_mismatch,
        command=show_command("evaluate.py", *HydraConfig.get().overrides.task),
        seed=cfg.seed,
        trusted_modules=list(cfg.trusted_modules),
        detector_weights=cfg.detector_weights,
    )


def evaluate_tables(cfg: DictConfig) -> "list[Evaluation]":
    """Evaluate the detectors of score tables, and write their reports into the run folder."""
    from hydra.core.hydra_config import HydraConfig

    from unmask.evaluation.detectors import DecisionSource, evaluate_scores
    from unmask.metrics.intervals import BootstrapOptions

    check_values(cfg, seed=0)
    keys: dict[str, Any] = to_plain(cfg.decision)
    validation = tuple(map(Path, keys.pop("validation_scores")))
    return evaluate_scores(
        list(cfg.scores),
        output=run_dir(),
        split=cfg.split,
        columns={name: None if own is None else str(own) for name, own in cfg.columns.items()},
        scores_transform=cfg.scores_transform,
        missing_scores=cfg.missing_scores,
        dataset=cfg.dataset.name,
        decision=DecisionSource(**keys, validation_scores=validation),
        bootstrap=BootstrapOptions(**cfg.bootstrap),
        command=show_command("evaluate.py", *HydraConfig.get().overrides.task),
        seed=cfg.seed,
        sections=_build_sections(cfg),
    )


def _build_sections(cfg: DictConfig) -> dict[str, Any]:
    nodes = {str(name): node for name, node in cfg.sections.items() if node is not None}
    if not nodes:
        return {}
    from unmask.training.parts import build_node  # takes seconds, since Lightning comes with it

    return {name: build_node(node) for name, node in nodes.items()}
