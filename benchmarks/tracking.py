"""What tracking costs: epochs of 2,000 crops at 112 px with logger=mlflow and with logger=none, in alternating rounds.

python benchmarks/tracking.py [rounds] [dataset.root]

Without a face dataset it draws one, about a minute. ResNet-18 from scratch, two cores. The first pair of rounds is
thrown away. Bar: the median epoch with tracking and checkpoints takes at most 3 % longer than the one without either.
Both trainings write checkpoints, since no training does without; the seconds spent in writing them are counted, and
taken off the epoch without tracking. What a run costs once (MLflow's import, store, figures, upload of the checkpoints,
model) is printed beside it, also as a share of a run of 10 epochs. Every run starts on a fresh sqlite store, whose
tables are made once: part of that cost.
"""

import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from unmask.config import config_dir, register_schemas

BAR_RATIO = 1.03
NUM_CROPS = 2000
NUM_EPOCHS = 2


def main() -> None:
    """Alternate both, and print medians and the ratio."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        faces = Path(sys.argv[2]) if len(sys.argv) > 2 else draw_faces(folder)
        epochs: dict[str, list[float]] = {"mlflow": [], "none": []}
        once: dict[str, list[float]] = {"mlflow": [], "none": []}
        saves: dict[str, list[float]] = {"mlflow": [], "none": []}
        for number in range(rounds + 1):
            for name in ("mlflow", "none") if number % 2 else ("none", "mlflow"):
                epoch, rest, save = measure(name, faces, folder / f"{name}-{number}")
                if number:  # the first pair warms caches up
                    epochs[name].append(epoch)
                    once[name].append(rest)
                    saves[name].append(save)
    report(epochs, once, saves, rounds)


def measure(name: str, faces: Path, folder: Path) -> tuple[float, float, float]:
    """Return the median seconds of an epoch, those of a training beside its epochs, and those of saving in an epoch."""
    import lightning as L

    from unmask.training.resume import SafeCheckpointIO
    from unmask.training.run import train

    hook, save_hook, saved = L.Trainer.fit, SafeCheckpointIO.save_checkpoint, [0.0]
    starts: list[float] = []

    class Clock(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            starts.append(time.perf_counter())

        def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            starts.append(time.perf_counter())

    def fit(trainer: L.Trainer, *arguments: object, **options: object) -> None:
        trainer.callbacks.append(Clock())
        hook(trainer, *arguments, **options)

    def save(io: SafeCheckpointIO, *arguments: object, **options: object) -> None:
        begin = time.perf_counter()
        save_hook(io, *arguments, **options)
        saved[0] += time.perf_counter() - begin

    L.Trainer.fit, SafeCheckpointIO.save_checkpoint = fit, save
    folder.mkdir()
    start = time.perf_counter()
    try:
        train(configure(name, faces, folder), folder=folder, overrides=[])
    finally:
        L.Trainer.fit, SafeCheckpointIO.save_checkpoint = hook, save_hook
    whole = time.perf_counter() - start
    seconds = [after - before for before, after in itertools.pairwise(starts)]
    return statistics.median(seconds), whole - sum(seconds), saved[0] / len(seconds)


def configure(name: str, faces: Path, folder: Path) -> DictConfig:
    """Compose a training of `NUM_EPOCHS` epochs."""
    register_schemas()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        cfg = compose(
            "train",
            overrides=[
                f"dataset.root={faces}", f"dataset.samples_per_epoch={NUM_CROPS}", "dataset.num_workers=1",
                "model.weights=null", "model.input_size=112", f"trainer.max_epochs={NUM_EPOCHS}",
                "trainer.accelerator=cpu", f"logger={name}", f"paths.root={folder}",
            ],
        )  # fmt: skip
    with open_dict(cfg):
        cfg.pop("hydra", None)
    return cfg


def draw_faces(folder: Path) -> Path:
    """Draw, forge and prepare 32 people."""
    from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
    from unmask.faces.spec import CropSpec
    from unmask.preparation.prepare import prepare
    from unmask.sources.synthetic import SyntheticFaces

    source = SyntheticFaces(folder / "drawn", num_identities=32, num_frames=8)
    source.create(num_workers=2)
    detector = RetinaFaceMobileNet()
    spec = CropSpec(detector.name, detector.weights_sha256, crop_size=128, num_frames=4)
    fractions = {"train": 0.7, "val": 0.15, "test": 0.15}
    prepare(source, output=folder / "faces", detector=detector, spec=spec, fractions=fractions, seed=0, num_workers=2)
    return folder / "faces"


def report(
    epochs: dict[str, list[float]], once: dict[str, list[float]], saves: dict[str, list[float]], rounds: int
) -> None:
    """Print medians, the ratio and whether the bar is held."""
    print(f"Median of {rounds} alternating rounds, {NUM_CROPS} crops at 112 px, {torch.get_num_threads()} threads")
    for name in ("none", "mlflow"):
        spread = f"{min(epochs[name]):.2f} to {max(epochs[name]):.2f}"
        print(f"  logger={name:<7} epoch {statistics.median(epochs[name]):6.2f} s ({spread})   ", end="")
        print(f"saving {statistics.median(saves[name]):4.2f} s of it   ", end="")
        print(f"beside the epochs {statistics.median(once[name]):5.2f} s")
    bare = statistics.median(epochs["none"]) - statistics.median(saves["none"])
    ratio = statistics.median(epochs["mlflow"]) / bare
    rounds_alone = [with_it / without for with_it, without in zip(epochs["mlflow"], epochs["none"], strict=True)]
    added = statistics.median(once["mlflow"]) - statistics.median(once["none"])
    print(f"  tracking costs {added:.2f} s once a run: store, figures, checkpoints, model ", end="")
    print(f"({100 * added / (10 * bare):.1f} % of 10 epochs)")
    print(f"  tracking alone, round by round: {', '.join(f'{value:.4f}' for value in rounds_alone)}")
    print(f"{'held' if ratio <= BAR_RATIO else 'missed'}: an epoch takes {ratio:.4f} times as long (bar {BAR_RATIO})")


if __name__ == "__main__":
    main()
