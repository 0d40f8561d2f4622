import argparse
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import InstantiationException

from unmask.cli.shell import find_own_error, run_command
from unmask.errors import ConfigError


def test_error_that_hydra_wrapped_is_found_again() -> None:
    ours = ConfigError("No sampling 'odd'.")
    wrapped = InstantiationException("Error in call to target")
    wrapped.__cause__ = ours
    assert find_own_error(ours) is ours
    assert find_own_error(wrapped) is ours
    assert find_own_error(InstantiationException("no cause")) is None
    assert find_own_error(ValueError("a bug of ours")) is None


@pytest.fixture
def strict_argparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsers look into every help text as soon as it is added, as those of Python 3.14 do."""
    add = argparse.ArgumentParser.add_argument

    def add_and_check(self: argparse.ArgumentParser, *names: str, **options: Any) -> argparse.Action:
        assert "%" not in (options.get("help") or "")
        return add(self, *names, **options)

    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", add_and_check)


@pytest.mark.usefixtures("strict_argparse")
def test_a_command_starts_where_parsers_look_into_help_texts(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="LazyCompletionHelp"):
        sys.modules["hydra.main"].get_args_parser()
    seen: list[str] = []
    monkeypatch.setattr(sys, "argv", ["predict.py", "checkpoint=a", "hydra.run.dir=run"])
    run_command(lambda cfg: seen.append(cfg.checkpoint), config_name="predict", check=lambda cfg: None)
    assert seen == ["a"]
