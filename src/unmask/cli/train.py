"""The command that trains a detector."""

from omegaconf import DictConfig

from unmask.cli.shell import run_command


def main() -> None:
    """Run `python train.py dataset.root=...`."""
    run_command(run, config_name="train")


def run(cfg: DictConfig) -> float:
    """Train, print where everything is, and return the objective for a sweep."""
    from hydra.core.hydra_config import HydraConfig

    from unmask.config import run_dir
    from unmask.training.run import train

    result = train(cfg, folder=run_dir(), overrides=list(HydraConfig.get().overrides.task))
    print(f"{result.objective_key} {result.objective:.4f} in epoch {result.best_epoch + 1}")
    print(f"Checkpoint  {result.best_checkpoint}")
    if result.run_id is not None:
        print(f"MLflow run  {result.run_id} in {result.tracking_uri}; look at it with: make ui")
    print(f"Next        python evaluate.py checkpoint={result.best_checkpoint} dataset.root={cfg.dataset.root}")
    return result.objective
