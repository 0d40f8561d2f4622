"""Run a command: Hydra composes its configuration, and user errors end as one message."""

import copy
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from unmask.cli.arguments import accept_lazy_help, put_flags_first, quote_arguments, read_call
from unmask.cli.help import FLAGS, explain_config_error, render_help
from unmask.config import check_complete, config_dir, register_schemas
from unmask.errors import ConfigError, Interrupted, OutputError, UnmaskError
from unmask.parameters import as_config_error, check_whole
from unmask.paths import describe_refusal, is_of_disk
from unmask.processes import end_with_starter, mark_children
from unmask.training.interruption import ending_on_sigterm

logger = logging.getLogger(__name__)


def check_values(cfg: DictConfig, **least: int) -> None:
    """Raise unless each of some root keys is a whole number, or null where it may be.

    Args:
        cfg: Configuration of the command.
        least: Minimum of each key.

    Raises:
        ConfigError: Names the key, its value, and what it must be.
    """
    for key, bound in least.items():
        if OmegaConf.select(cfg, key) is not None:  # which the types of the keys allow or not
            with as_config_error():
                check_whole(key, OmegaConf.select(cfg, key), least=bound)


def run_command(
    task: Callable[[DictConfig], float | None],
    *,
    config_name: str,
    check: Callable[[DictConfig], None] = check_complete,
    kept: str = "",
) -> None:
    """Compose the configuration, run the task, and print a user error as one message with exit code 2.

    SIGTERM ends the command as Ctrl-C does: files and runs are closed, and no child process is left.

    Args:
        task: Function of the composed configuration; returns the objective of a sweep, or None.
        config_name: Root config, such as `train`.
        check: Function that raises if the configuration lacks a value.
        kept: Addition to the message about a file that cannot be written: what is kept, and how to continue.
    """
    end_with_starter()
    mark_children()
    logging.raiseExceptions = False  # a log file on a full disk, for one, would print a traceback for each line
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no version check over the network
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise, so that the message is ours
    register_schemas()
    sys.argv[1:] = quote_arguments(put_flags_first(sys.argv[1:]), config_name=config_name)

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)
    def run(cfg: DictConfig) -> float | None:
        end_with_starter()  # a launcher may have started this process, with this function as all it calls
        try:
            check(cfg)
            logger.info("Configs from %s.", config_dir())
            return task(cfg)
        except Exception as error:
            told = find_own_error(error)
            if told is not None and HydraConfig.get().mode == RunMode.RUN:
                fail(_add_kept(told, kept))  # a sweep needs the exception, and continues with its other jobs
            raise

    try:
        with ending_on_sigterm():
            if any(flag in sys.argv[1:] for flag in FLAGS):
                print(render_help(read_call(sys.argv[1:], config_name=config_name)))
            else:
                with accept_lazy_help():
                    run()
    except (HydraException, OmegaConfBaseException, UnmaskError) as error:
        told = find_own_error(error)
        if told is not None:
            fail(_add_kept(told, kept))
        fail(explain_config_error(error, call=read_call(sys.argv[1:], config_name=config_name)))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has read enough
    except OSError as error:
        if not is_of_disk(error):
            raise
        fail(_add_kept(OutputError(describe_refusal(error)), kept))  # Hydra's own files
    except (KeyboardInterrupt, Interrupted) as error:
        print("Interrupted.", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, Interrupted) else 130)


def _add_kept(error: UnmaskError, kept: str) -> str:
    # A process that decodes hands over the traceback as the message, which ends with the message.
    text = re.sub(
        rf"^Caught \w+ in DataLoader .*\n[\w.]+{type(error).__name__}: ", "", str(error), flags=re.DOTALL
    ).strip()
    return f"{text} {kept}".rstrip() if isinstance(error, OutputError) else text


def find_own_error(error: BaseException) -> UnmaskError | None:
    """Return the error itself, or the one of ours that Hydra wrapped while it built an object from its config.

    A full disk that nobody has put into words becomes one of ours too.
    """
    if isinstance(error, OSError) and is_of_disk(error):
        return OutputError(describe_refusal(error))
    while not isinstance(error, UnmaskError):
        if not isinstance(error, HydraException) or error.__cause__ is None:
            return None
        error = error.__cause__
    return error


def fail(message: str) -> NoReturn:
    """Print an error and end with exit code 2."""
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(2)


_LOCK = threading.RLock()
"""Hydra keeps its state in the process: one call at a time."""


@dataclass(frozen=True)
class Job:
    """A composed command.

    Args:
        cfg: Configuration.
        overrides: Overrides of the command line.
        folder: Run folder; it exists.
    """

    cfg: DictConfig
    overrides: list[str]
    folder: Path


@contextmanager
def composing(name: str, overrides: Sequence[str], folder: str | Path | None) -> Iterator[Job]:
    """Compose a command, and leave Hydra as it was: the caller may be a Hydra program itself."""
    given = [str(text) for text in overrides]
    flags = [text for text in given if text.startswith("-")]
    if flags:
        raise ConfigError(f"'{flags[0]}' is a flag. unmask.{name} takes overrides (key=value); for flags: {name}.py")
    with _LOCK:
        before = (GlobalHydra.instance().hydra, HydraConfig.instance().cfg)
        GlobalHydra.instance().clear()
        try:
            register_schemas()
            quoted = quote_arguments(given, config_name=name)
            logger.info("Configs from %s.", config_dir())
            with initialize_config_dir(str(config_dir()), version_base="1.3"):
                yield _compose(name, quoted, None if folder is None else Path(folder))
        finally:
            # Their instances by now: what was initialized here took others with it.
            GlobalHydra.instance().hydra, HydraConfig.instance().cfg = before


def _compose(name: str, overrides: list[str], folder: Path | None) -> Job:
    try:
        cfg = compose(name, overrides=overrides, return_hydra_config=True)
        folder = Path(cfg.hydra.run.dir) if folder is None else folder
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain_config_error(error, call=read_call(overrides, config_name=name))) from error
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder.absolute())
        cfg.hydra.mode = "RUN"
        HydraConfig.instance().set_config(copy.deepcopy(cfg))
        del cfg["hydra"]
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra" / "overrides.yaml")
    return Job(cfg, overrides, folder.absolute())
