from hydra.errors import InstantiationException

from unmask.cli.shell import find_own_error
from unmask.errors import ConfigError


def test_error_that_hydra_wrapped_is_found_again() -> None:
    ours = ConfigError("No sampling 'odd'.")
    wrapped = InstantiationException("Error in call to target")
    wrapped.__cause__ = ours
    assert find_own_error(ours) is ours
    assert find_own_error(wrapped) is ours
    assert find_own_error(InstantiationException("no cause")) is None
    assert find_own_error(ValueError("a bug of ours")) is None
