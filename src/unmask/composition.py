"""How Hydra composes for us: `~` in paths is the home folder; a text may hold what is an interpolation elsewhere."""

import re
from collections.abc import Iterable
from typing import Any

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, read_write
from omegaconf.errors import OmegaConfBaseException

from unmask.paths import expand_home, is_path_key


class HomeExpandingLoader(ConfigLoaderImpl):
    """Hydra's composition, in whose paths `~` is the home folder, wherever they come from.

    Hydra makes its folders before any code of ours sees the configuration, in the processes of a launcher too, and has
    no hook between.
    """

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Compose, and replace `~`."""
        cfg = super().load_configuration(*args, **kwargs)
        expand_paths(cfg)
        return cfg


def expand_paths(cfg: DictConfig) -> None:
    """Replace a leading `~` by the home folder in every key that is a path.

    Args:
        cfg: Changed in place.
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
        except (OmegaConfBaseException, ValueError):  # needs what is not there yet, such as the number of a job
            continue
        if isinstance(text, str) and text != (expanded := expand_home(text)):
            with read_write(parent):
                parent[place] = escape_interpolation(expanded)


def escape_interpolation(text: str) -> str:
    """Return a text that OmegaConf takes as it is, also where it holds `${`."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def expand_home_in_paths() -> None:
    """Let Hydra compose with `HomeExpandingLoader`, for commands, `compose` and the processes of launchers alike."""
    hydra._internal.hydra.ConfigLoaderImpl = HomeExpandingLoader  # type: ignore[attr-defined]


def read_text(override: str) -> str:
    """Return the value of `key=value` as it was typed, without the quotes that are Hydra's."""
    value = read_value(override)
    return value if isinstance(value, str) else override.partition("=")[2]


def read_value(override: str) -> Any:
    """Return the value of `key=value` as Hydra reads it on a command line, without its quotes."""
    return OverridesParser.create().parse_override(override).value()
