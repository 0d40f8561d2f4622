"""What `--help` prints. Hydra's own lists the groups of every command, and takes seconds over it where plugins are."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from unmask.cli.arguments import Call
from unmask.config import config_dir

FLAGS = ("--help", "-h")


def render_help(call: Call) -> str:
    """Return the examples of a command, its config groups with their options, and every key with its value.

    Args:
        call: What the command line asks for: its `hydra.help.header` holds the examples, and its overrides choose the
            options whose keys are shown.

    Raises:
        HydraException: An override is wrong.
    """
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        cfg = compose(call.config_name, overrides=[*call.search_path, *call.overrides], return_hydra_config=True)
    folders = [config_dir(), *([call.config_dir] if call.config_dir else [])]
    groups = [str(name) for name in cfg.hydra.runtime.choices if "/" not in str(name)]
    options = {name: ", ".join(names) for name in groups if (names := _list_options(name, folders))}
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


def _list_options(group: str, folders: list[Path]) -> list[str]:
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})
