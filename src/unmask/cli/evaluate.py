"""The command that scores a split of a face dataset with a checkpoint."""

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from unmask.cli.checkpoints import find_checkpoint
from unmask.cli.shell import check_values, run_command
from unmask.paths import show_command

if TYPE_CHECKING:
    from unmask.evaluation.report import ReportSection
    from unmask.evaluation.run import Evaluation

_ROWS = (
    ("ROC-AUC", "auroc"),
    ("PR-AUC", "auprc"),
    ("accuracy", "accuracy"),
    ("balanced accuracy", "balanced_accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1", "f1"),
)


_KEPT = "What is written is kept. Write elsewhere with UNMASK_HOME=... and run the same command again."


def main() -> None:
    """Run `python evaluate.py checkpoint=... dataset.root=...`."""
    run_command(run, config_name="evaluate", kept=_KEPT)


def run(cfg: DictConfig) -> float | None:
    """Evaluate, print the figures; return the ROC-AUC per video."""
    evaluation = evaluate_dataset(cfg)
    _print_figures(evaluation, split=cfg.split)
    auroc: float | None = evaluation.figures["video"]["auroc"]
    return auroc


def evaluate_dataset(cfg: DictConfig) -> "Evaluation":
    """Evaluate, and write tables and report into the run folder."""
    from hydra.core.hydra_config import HydraConfig

    from unmask.config import run_dir
    from unmask.evaluation.run import evaluate

    check_values(cfg, batch_size=1, num_workers=0, seed=0)
    return evaluate(
        find_checkpoint(cfg.checkpoint, cfg.paths),
        root=cfg.dataset.root,
        folds=cfg.dataset.folds,
        fold=cfg.dataset.fold,
        output=run_dir(),
        split=cfg.split,
        device=cfg.device,
        batch_size=cfg.batch_size,
        num_workers=cfg.num_workers,
        allow_spec_mismatch=cfg.allow_spec_mismatch,
        command=show_command("evaluate.py", *HydraConfig.get().overrides.task),
        seed=cfg.seed,
        trusted_modules=list(cfg.trusted_modules),
        sections=_build_sections(cfg),
    )


def _build_sections(cfg: DictConfig) -> "dict[str, ReportSection]":
    nodes = {str(name): node for name, node in cfg.sections.items() if node is not None}
    if not nodes:
        return {}
    from unmask.training.parts import build_node  # takes seconds, since Lightning comes with it

    return {name: build_node(node) for name, node in nodes.items()}


def _print_figures(evaluation: "Evaluation", *, split: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from unmask.decision import show_score

    figures, unit = evaluation.figures, "video" if evaluation.has_videos else "image"
    levels = ["video", "frame"] if evaluation.has_videos else ["video"]
    table = Table(title=f"{evaluation.dataset}, {split} split", title_justify="left")
    table.add_column("")
    for level in levels:
        table.add_column(f"per {unit if level == 'video' else level}", justify="right")
    for name, key in _ROWS:
        table.add_row(name, *(_show(figures[level][key]) for level in levels))
    table.add_row("real / fake", *(f"{figures[level]['num_real']} / {figures[level]['num_fake']}" for level in levels))
    table.add_section()
    for method, entry in figures["by_method"].items():
        table.add_row(f"ROC-AUC {method}", *(_show(entry[level]["auroc"]) for level in levels))
    console, decision, coverage = Console(), evaluation.decision, figures["coverage"]
    console.print(table)
    lines = [
        f"threshold {show_score(decision['threshold'])} (criterion {decision['criterion']}, from the checkpoint), "
        f"{decision['aggregation']} of frame scores",
        f"{coverage['num_scored']} of {coverage['num_videos']} {unit}s scored",
        f"report  {evaluation.report}",
        f"scores  {evaluation.scores}",
    ]
    for line in [f"note: {note}" for note in evaluation.notes] + lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show(value: Any) -> str:
    return "-" if value is None else f"{value:.4f}"
