"""The task `preview` of `train.py`."""

import json

from omegaconf import DictConfig


def preview(cfg: DictConfig) -> None:
    """Write a contact sheet per class of what the network would see, and say where."""
    from unmask.config import run_dir
    from unmask.data.preview import write_previews
    from unmask.faces.spec import InputSpec
    from unmask.media.picture import write_bytes
    from unmask.training.nodes import build_node

    data = build_node(
        cfg.dataset,
        input_spec=InputSpec(size=cfg.model.input_size),
        augmentation=build_node(cfg.augmentation),
        seed=cfg.seed,
    )
    data.setup()
    paths = write_previews(data, run_dir())
    text = json.dumps({name: str(path) for name, path in paths.items()}) + "\n"
    write_bytes(run_dir() / "result.json", text.encode())
    for name, path in paths.items():
        print(f"{name.capitalize()}  {path}")
