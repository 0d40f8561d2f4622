"""The answers to `--help` and to wrong overrides: groups, keys, and the choices that a name may have meant."""

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

from unmask.cli.arguments import Call
from unmask.config import config_dir
from unmask.errors import suggest


def explain_config_error(error: Exception, *, call: Call) -> str:
    """Turn an error of Hydra or OmegaConf into one message with what, where and the choices.

    Args:
        error: Error raised while composing.
        call: Parsed command line.
    """
    arguments = call.overrides
    unreadable = _explain_grammar(arguments)
    if unreadable is not None:
        return unreadable
    missing_option = re.search(r"Could not find '([^']+)/([^'/]+)'", str(error))
    if missing_option:
        return _explain_choice(missing_option.group(1), missing_option.group(2), str(error))
    text = _first_lines(error)
    several = re.search(r"Ambiguous value for argument '(([^=]+)=(.*?))'", text)
    if several:
        argument, key, value = several.groups()
        return f"'{argument}' holds several values. Add -m for a job with each; {key}=[{value}] is a list."
    key = _find_key(error, arguments)
    if key is None:
        return f"{text}\nSee the keys with: --cfg job"
    cfg = _compose_choices(call)
    value = next((argument for argument in arguments if argument.lstrip("+~").startswith(f"{key}=")), key)
    if cfg is None:
        return f"{text} (in '{value}')"
    return _explain_key(key, value, cfg, call=call, text=text)


def _explain_key(key: str, value: str, cfg: DictConfig, *, call: Call, text: str) -> str:
    """Say which part of a dotted key is not there, or what its value must be."""
    parent = key.rpartition(".")[0]
    while parent and not OmegaConf.is_dict(OmegaConf.select(cfg, parent)):
        key, parent = parent, parent.rpartition(".")[0]
    node = OmegaConf.select(cfg, parent) if parent else cfg
    file = _find_file(parent, cfg, call)
    choices = {str(name) for name in node}
    leaf = key.removeprefix(f"{parent}.")
    if leaf in choices:
        return f"Bad value in '{value}': {text} The key is defined in {file}."
    if not parent:
        groups = cfg.hydra.runtime.choices
        choices = (choices | {str(name) for name in groups if "/" not in str(name)}) - {"hydra", "local"}
    near = difflib.get_close_matches(leaf, sorted(choices), n=1)
    where = f"'{parent}'" if parent else "The root"
    hint = f" Did you mean '{f'{parent}.' if parent else ''}{near[0]}'?" if near else ""
    return f"No key '{key}' (in '{value}').{hint} {where} in {file} has the keys: {', '.join(sorted(choices))}"


def _explain_grammar(arguments: Sequence[str]) -> str | None:
    """Say which argument is no override at all, and how to write it."""
    parser = OverridesParser.create()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        try:
            parser.parse_override(argument)
        except HydraException as error:
            reason = str(error).splitlines()[0]
            if not equals:
                return f"'{argument}' is neither an option nor key=value. Write a value behind it: {argument}=..."
            return (
                f"Cannot read '{argument}': {reason}. A value with signs such as = , [ needs two pairs of quotes: "
                + (f"{key}='\"{value}\"'")
            )
    return None


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


def _explain_choice(group: str, option: str, text: str) -> str:
    """Say which options a group has: those in our folder and those of Hydra's plugins, as Hydra lists them."""
    listed = text.partition(f"Available options in '{group}':\n")[2]
    options = [line.strip() for line in listed.splitlines() if line.startswith("\t") and "provider=" not in line]
    hint = suggest(option, options, key=group) or (_find_network(option) if group == "model" else "")
    folder = config_dir() / group
    where = f" (folder {_shorten(folder)})" if folder.is_dir() else ""
    return f"No option '{option}' for '{group}'{where}.{hint} Choose one of: {', '.join(options)}"


def _find_network(name: str) -> str:
    """Return how to choose a network that is no option of ours but one of timm's."""
    from unmask.errors import ConfigError
    from unmask.models.backbones import find_timm  # seconds, for a name that would take longer to look up

    try:
        return f" timm has it: model=timm model.name={find_timm(name)}."
    except ConfigError:
        return ""


def _compose_choices(call: Call) -> DictConfig | None:
    """Compose with the group choices of the command line alone."""
    parser = OverridesParser.create()
    chosen = {}
    for argument in call.overrides:
        try:
            override = parser.parse_override(argument)
        except HydraException:
            continue
        group = override.key_or_group
        if _is_group(group, call) or group.startswith("hydra/"):
            chosen[group] = argument
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return compose(call.config_name, overrides=[*call.search_path, *chosen.values()], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException):
        return None


def _is_group(group: str, call: Call) -> bool:
    return any((folder / group).is_dir() for folder in _list_folders(call))


def _list_folders(call: Call) -> list[Path]:
    return [config_dir()] if call.config_dir is None else [config_dir(), call.config_dir]


def _find_file(parent: str, cfg: DictConfig, call: Call) -> str:
    """Return the file that defines the keys of a node, or what of Hydra's own does."""
    choices = cfg.hydra.runtime.choices
    group = "/".join(parent.split(".")[:2]) if parent.startswith("hydra.") else parent.split(".", maxsplit=1)[0]
    option = choices.get(group)
    for folder in _list_folders(call) if option else ():
        if (folder / group / f"{option}.yaml").is_file():
            return _shorten(folder / group / f"{option}.yaml")
    if parent.startswith("hydra.") and option:
        return f"{group}={option}"
    roots = [folder / f"{call.config_name}.yaml" for folder in _list_folders(call)]
    return _shorten(next((root for root in roots if root.is_file()), roots[0]))


def _shorten(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


FLAGS = ("--help", "-h")


def render_help(call: Call) -> str:
    """Return the examples of a command, its config groups with their options, and every key with its value.

    Args:
        call: Parsed command line: its `hydra.help.header` holds the examples, and its overrides choose the
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
