"""What `--help` prints. Hydra's own lists the groups of every command, and takes seconds over it where plugins are."""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from unmask.config import config_dir

FLAGS = ("--help", "-h")


def render_help(config_name: str, overrides: Sequence[str]) -> str:
    """Return the examples of a command, its config groups with their options, and every key with its value.

    Args:
        config_name: Root config, whose `hydra.help.header` holds the examples.
        overrides: Of the command line, so that the keys of the chosen options are shown.

    Raises:
        HydraException: An override is wrong.
    """
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        cfg = compose(config_name, overrides=list(overrides), return_hydra_config=True)
    groups = [
        name for name in cfg.hydra.runtime.choices if (config_dir() / str(name)).is_dir() and "/" not in str(name)
    ]
    options = {name: ", ".join(sorted(path.stem for path in (config_dir() / name).glob("*.yaml"))) for name in groups}
    shown = "\n".join(
        f"  {name:<13} {text}" for name, text in sorted(options.items()) if name not in ("paths", "local")
    )
    keys = OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name not in ("hydra", "paths")])
    choices = f"Groups, each chosen with group=option:\n{shown}\n\n" if shown else ""
    return (
        f"{cfg.hydra.help.header.strip()}\n\n{choices}"
        f"Keys, each changed with key=value:\n\n{OmegaConf.to_yaml(keys)}\n"
        f"--cfg job prints the keys alone; -m runs every combination of comma-separated values; --hydra-help has more."
    )
