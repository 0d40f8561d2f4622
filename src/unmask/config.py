"""Locate and compose the Hydra configuration, and declare the root keys of each command.

The dataclasses below declare the types of the keys. Defaults are in the YAML files; `tests/test_defaults.py` keeps them
equal to the defaults of the Python API.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from unmask.errors import ConfigError
from unmask.keys import EvaluateKeys, PredictKeys, PrepareKeys, ServeKeys, TrainKeys
from unmask.paths import expand_home, is_path_key


class HomeExpandingLoader(ConfigLoaderImpl):
    """Config loader that expands `~` in all paths.

    Hydra creates its output folders before any of our code sees the configuration, in a launcher's processes too, and
    has no hook in between.
    """

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Compose the configuration and expand `~`."""
        cfg = super().load_configuration(*args, **kwargs)
        expand_paths(cfg)
        return cfg


def expand_paths(cfg: DictConfig) -> None:
    """Replace a leading `~` with the home folder in every path-valued key.

    Args:
        cfg: Configuration, changed in place.
    """
    for key in list(cfg):
        node = cfg._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            expand_paths(node)
        elif is_path_key(str(key)) and isinstance(node, ListConfig) and not node._is_none():
            _expand(node, range(len(node)))
        elif is_path_key(str(key)) or str(key).endswith("uri"):
            _expand(cfg, [key])


def _expand(parent: DictConfig | ListConfig, places: Iterable[Any]) -> None:
    for place in places:
        try:
            text = parent[place]
        except (OmegaConfBaseException, ValueError):  # interpolates a value not set yet, such as a job number
            continue
        if isinstance(text, str) and text != (expanded := expand_home(text)):
            with read_write(parent):
                parent[place] = escape_interpolation(expanded)


def escape_interpolation(text: str) -> str:
    """Escape `${` so that OmegaConf takes a text literally."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def expand_home_in_paths() -> None:
    """Make Hydra compose with `HomeExpandingLoader`, in commands, in `compose` and in launchers' processes."""
    hydra._internal.hydra.ConfigLoaderImpl = HomeExpandingLoader  # type: ignore[attr-defined]


def read_text(override: str) -> str:
    """Return the value of `key=value` as typed, without Hydra's quotes."""
    value = read_value(override)
    return value if isinstance(value, str) else override.partition("=")[2]


def read_value(override: str) -> Any:
    """Return the value of `key=value` as Hydra parses it on a command line."""
    return OverridesParser.create().parse_override(override).value()


def config_dir() -> Path:
    """Return the folder with the configs: inside the installed package, or at the root of a checkout."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"


def find_targets(group: str) -> dict[str, str]:
    """Return the `_target_` of each option of a config group, by option name.

    Args:
        group: Name of the config group, such as `source`.
    """
    paths = sorted((config_dir() / group).glob("*.yaml"))
    nodes = {path.stem: DictConfig(OmegaConf.load(path)) for path in paths}
    return {name: str(node["_target_"]) for name, node in nodes.items() if "_target_" in node}


COMMANDS: dict[str, type] = {
    "prepare": PrepareKeys,
    "train": TrainKeys,
    "evaluate": EvaluateKeys,
    "predict": PredictKeys,
    "serve": ServeKeys,
}
"""Dataclass with the root keys of each command."""


def list_typed_keys(keys: type, *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a command and their types, including nested keys.

    Args:
        keys: Dataclass from `COMMANDS`.
        prefix: Prefix of the keys, with a trailing dot.
    """
    for name, hint in get_type_hints(keys).items():
        if is_dataclass(hint) and isinstance(hint, type):
            yield from list_typed_keys(hint, prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint


def register_schemas() -> None:
    """Register the typed root keys of each command with Hydra, so that a misspelt key fails fast."""
    expand_home_in_paths()
    store = ConfigStore.instance()
    for name, keys in COMMANDS.items():
        store.store(name=f"{name}_keys", node=keys)


def read_defaults(name: str) -> DictConfig:
    """Compose a command's default configuration outside the command.

    Args:
        name: Name of a file in `configs`, without suffix.
    """
    from hydra import compose, initialize_config_dir

    register_schemas()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(name)


def check_complete(cfg: DictConfig, optional: Collection[str] = ()) -> None:
    """Raise a ConfigError that lists every key without a value.

    Args:
        cfg: Configuration of a command.
        optional: Keys that need no value.
    """
    missing = sorted(OmegaConf.missing_keys(cfg) - set(optional))
    if missing:
        example = " ".join(f"{key}=..." for key in missing)
        raise ConfigError(f"No value for: {', '.join(missing)}. Set it on the command line: {example}")


def run_dir() -> Path:
    """Return the output folder of the running Hydra job."""
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def find_choices() -> dict[str, str]:
    """Return the chosen option of each config group of the running Hydra job; empty outside a job."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return {}
    choices = HydraConfig.get().runtime.choices
    return {str(group): str(option) for group, option in choices.items() if "/" not in str(group) and option}


def to_plain(node: Any) -> Any:
    """Convert a node to plain dicts, lists and values, with interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
