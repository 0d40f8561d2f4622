"""Say what is wrong with an override: the key, the file that defines its neighbours, and the choices."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unmask.config import config_dir


def explain_config_error(error: Exception, *, config_name: str, arguments: Sequence[str]) -> str:
    """Turn an error of Hydra or OmegaConf into one message with what, where and the choices.

    Args:
        error: As raised while composing.
        config_name: Root config of the command.
        arguments: The command line.
    """
    text = _first_lines(error)
    key = _find_key(error, arguments)
    missing_option = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if missing_option:
        return _explain_choice(missing_option.group(1), missing_option.group(2))
    if key is None:
        return f"{text}\nSee the keys with: --cfg job"
    defaults, file = _locate(key, config_name, arguments)
    value = next((argument for argument in arguments if argument.lstrip("+~").startswith(f"{key}=")), key)
    if defaults is None:
        return f"{text} (in '{value}')"
    leaf, parent = key.rpartition(".")[2], key.rpartition(".")[0]
    if leaf in defaults:
        return f"Bad value in '{value}': {text} The key is defined in {file}."
    choices = sorted(str(name) for name in defaults)
    near = difflib.get_close_matches(leaf, choices, n=1)
    where = f"'{parent}'" if parent else "The root"
    hint = f" Did you mean '{f'{parent}.' if parent else ''}{near[0]}'?" if near else ""
    return f"No key '{key}' (in '{value}').{hint} {where} in {file} has the keys: {', '.join(choices)}"


def _first_lines(error: BaseException) -> str:
    told = error.__cause__ if "Error merging override" in str(error) and error.__cause__ else error
    lines = [line.strip() for line in str(told).splitlines() if line.strip()]
    kept = [
        line
        for line in lines
        if not re.match(r"(full_key|object_type|reference_type|key|Config search path|Set the env)", line)
    ]
    text = " ".join(kept[:3])
    return text if text.endswith(".") else text + "."


def _find_key(error: BaseException, arguments: Sequence[str]) -> str | None:
    for cause in (error, error.__cause__):
        match = re.search(r"Could not override '([^']+)'", str(cause)) or re.search(r"full_key: (\S+)", str(cause))
        if match:
            return match.group(1).removeprefix("+")
    match = re.search(r"'(\w+)' is not in struct|Key '(\w+)' not in", str(error))
    if match:
        name = match.group(1) or match.group(2)
        return next((arg.split("=")[0] for arg in arguments if arg.split("=")[0].split(".")[-1] == name), name)
    return None


def _explain_choice(group: str, option: str) -> str:
    """Say which options a group has."""
    folder = config_dir() / group
    options = sorted(path.stem for path in folder.glob("*.yaml"))
    near = difflib.get_close_matches(option, options, n=1)
    hint = f" Did you mean '{group}={near[0]}'?" if near else ""
    return f"No option '{option}' for '{group}' (folder {_shorten(folder)}).{hint} Choose one of: {', '.join(options)}"


def _locate(key: str, config_name: str, arguments: Sequence[str]) -> tuple[DictConfig | None, str]:
    """Compose with the group choices alone; return the node that should hold the key, and the file that defines it."""
    parser = OverridesParser.create()
    chosen = {}
    for argument in arguments:
        try:
            override = parser.parse_override(argument)
        except HydraException:
            continue
        if (config_dir() / override.key_or_group).is_dir():
            chosen[override.key_or_group] = argument
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            cfg = compose(config_name, overrides=list(chosen.values()), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException):
        return None, ""
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(cfg, parent) if parent else cfg
    choices = cfg.hydra.runtime.choices
    file = config_dir() / f"{config_name}.yaml"
    group = parent.split(".")[0]
    if choices.get(group):
        file = config_dir() / group / f"{choices[group]}.yaml"
    if not OmegaConf.is_dict(node):
        return _locate(parent, config_name, arguments) if parent else (None, "")
    if not parent:
        node = OmegaConf.masked_copy(node, [str(name) for name in node if name != "hydra"])
    return node, _shorten(file)


def _shorten(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
