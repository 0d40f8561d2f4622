"""The command that evaluates checkpoints on face datasets, or any detectors by tables of their scores."""

import sys
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from unmask.cli.evaluating.show import print_detectors, print_figures, print_matrix, print_robustness
from unmask.cli.evaluating.tasks import (
    check,
    evaluate_dataset,
    evaluate_matrix,
    evaluate_robustness,
    evaluate_tables,
    list_values,
)
from unmask.cli.shell import run_command
from unmask.errors import ConfigError, suggest

if TYPE_CHECKING:
    from unmask.evaluation.run import Evaluation

TASKS = ("evaluate", "robustness")


_KEPT = "What is written is kept. Write elsewhere with UNMASK_HOME=... and run the same command again."


def main() -> None:
    """Run `python evaluate.py checkpoint=... dataset.root=...`, or `scores=[...]`."""
    run_command(run, config_name="evaluate", check=check, kept=_KEPT)


def run(cfg: DictConfig) -> float | None:
    """Do the task, print the figures; return the ROC-AUC per video, of several results the first or their mean."""
    if cfg.task not in TASKS:
        meant = suggest(cfg.task, TASKS, key="task")
        raise ConfigError(f"No task '{cfg.task}' (task).{meant} Choose one of: {', '.join(TASKS)}")
    if cfg.task == "robustness":
        robustness = evaluate_robustness(cfg)
        print_robustness(robustness, split=cfg.split)
        mean: float = robustness.table["video_auroc"].astype(float)[1:].mean()
        return mean
    if cfg.scores:
        evaluations = evaluate_tables(cfg)
        print_detectors(evaluations)
        first: float | None = evaluations[0].figures["video"]["auroc"]
        return first
    if len(list_values(cfg.checkpoint)) > 1 or len(list_values(cfg.dataset.root)) > 1:
        matrix = evaluate_matrix(cfg)
        print_matrix(matrix)
        means = [one for name in matrix.rows if (one := matrix.summarize(name)["mean"]) is not None]
        return max(means, default=None)
    evaluation = evaluate_dataset(cfg)
    print_figures(evaluation, split=cfg.split)
    if evaluation.card is not None:
        print(f"card    {evaluation.card}")
    _check_coverage(evaluation, cfg.min_coverage)
    auroc: float | None = evaluation.figures["video"]["auroc"]
    return auroc


def _check_coverage(evaluation: "Evaluation", least: float) -> None:
    """Exit with code 3 if fewer videos have a score than the configuration demands."""
    coverage = evaluation.figures["coverage"]
    if coverage["num_scored"] < least * coverage["num_videos"]:
        print(
            f"Coverage: {coverage['num_scored']} of {coverage['num_videos']} have a score, less than "
            f"min_coverage={least:g}. The report lists the others.",
            file=sys.stderr,
        )
        sys.exit(3)
