"""Crops a second on one core: decoding alone, and decoding with each augmentation, in the same rounds.

python benchmarks/augmentation.py [dataset.root] [rounds]

Without a face dataset it takes the one that `make demo` made.
"""

import os
import statistics
import sys
import time

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from unmask.config import config_dir, register_schemas
from unmask.data.datamodule import FaceDataModule
from unmask.data.sampler import Draw
from unmask.faces.spec import InputSpec

CROPS = 200


def open_data(root: str, augmentation: str) -> FaceDataModule:
    """Compose the preset and open the face dataset with it."""
    overrides = [f"augmentation={augmentation}", f"dataset.root={root}", "dataset.num_workers=0"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        cfg = compose("train", overrides=overrides)
        preset = None if augmentation == "none" else instantiate(cfg.augmentation)
        input_spec = InputSpec(size=cfg.model.input_size)
        data: FaceDataModule = instantiate(cfg.dataset, input_spec=input_spec, augmentation=preset, seed=0)
    data.setup()
    return data


def measure(data: FaceDataModule, draws: list[Draw]) -> float:
    """Return the crops a second of one pass."""
    crops, start = data.crops("train"), time.perf_counter()
    for draw in draws:
        crops[draw]
    return len(draws) / (time.perf_counter() - start)


def main() -> None:
    """Alternate the presets, and print medians beside plain decoding."""
    root = sys.argv[1] if len(sys.argv) > 1 else "data/demo-faces"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    register_schemas()
    presets = sorted(path.stem for path in (config_dir() / "augmentation").glob("*.yaml"))
    opened = {name: open_data(root, name) for name in presets}
    draws = {name: data.build_plan().draw_epoch(0, 0)[:CROPS] for name, data in opened.items()}
    rates: dict[str, list[float]] = {name: [] for name in presets}
    for _ in range(rounds):
        for name, data in opened.items():
            rates[name].append(measure(data, draws[name]))
    plain = statistics.median(rates["none"])
    print(f"Median of {rounds} alternating rounds of {CROPS} crops, one core")
    for name, values in sorted(rates.items(), key=lambda entry: -statistics.median(entry[1])):
        rate = statistics.median(values)
        told = "decoding and resizing alone" if name == "none" else name
        print(f"  {told:<28} {rate:6.0f} crops/s   {1000 / rate:5.2f} ms   {rate / plain:4.2f}")


if __name__ == "__main__":
    main()
