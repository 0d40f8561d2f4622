"""Numbers on a command line, looked at before anything is started."""

from omegaconf import DictConfig

from unmask.parameters import as_config_error, check_whole


def check_values(cfg: DictConfig, **least: int) -> None:
    """Raise unless each of some root keys is a whole number, or null where it may be.

    Args:
        cfg: Of the command.
        least: The smallest value that each key may have.

    Raises:
        ConfigError: Names the key, its value, and what it must be.
    """
    for key, bound in least.items():
        if cfg[key] is not None:  # which the types of the keys allow or not
            with as_config_error():
                check_whole(key, cfg[key], least=bound)
