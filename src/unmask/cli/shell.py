"""The frame of every command: Hydra around a task, and errors that a user can act on."""

import os
import sys
from collections.abc import Callable

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from unmask.cli.explain import explain_config_error
from unmask.cli.help import FLAGS, render_help
from unmask.config import check_complete, config_dir, register_schemas
from unmask.errors import UnmaskError


def run_command(task: Callable[[DictConfig], float | None], *, config_name: str) -> None:
    """Compose the configuration, run the task, and print what a user must mend as one message with exit code 2.

    Args:
        task: Gets the composed configuration; what it returns is the objective of a sweep.
        config_name: Root config, such as `train`.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no version check over the network
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise, so that the message is ours
    register_schemas()

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)
    def run(cfg: DictConfig) -> float | None:
        check_complete(cfg)
        return task(cfg)

    try:
        if any(flag in sys.argv[1:] for flag in FLAGS):
            print(render_help(config_name, [argument for argument in sys.argv[1:] if not argument.startswith("-")]))
        else:
            run()
    except (HydraException, OmegaConfBaseException) as error:
        fail(explain_config_error(error, config_name=config_name, arguments=sys.argv[1:]))
    except UnmaskError as error:
        fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has read enough
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


def fail(message: str) -> None:
    """Print an error and end with exit code 2."""
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(2)
