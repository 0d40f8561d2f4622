import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
LOCK = (REPOSITORY / "requirements.lock").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def locked() -> dict[str, list[Requirement]]:
    """The entries by name: one package may stand there several times, for different platforms."""
    found: dict[str, list[Requirement]] = {}
    for entry in re.findall(r"^([^\s#].*?)(?: \\)?$", LOCK, flags=re.MULTILINE):
        requirement = Requirement(entry)
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_lock_names_no_index_address() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", LOCK, re.MULTILINE)


def test_every_locked_package_has_one_version_and_hashes(locked: dict[str, list[Requirement]]) -> None:
    assert len(locked) > 100
    entries = re.split(r"^(?=[^\s#])", LOCK, flags=re.MULTILINE)[1:]
    for entry in entries:
        assert re.search(r"^\s+--hash=sha256:[0-9a-f]{64}( \\)?$", entry, re.MULTILINE), entry.splitlines()[0]
    for requirements in locked.values():
        for requirement in requirements:
            assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement


def test_lock_covers_retinaface_in_spite_of_its_pins(locked: dict[str, list[Requirement]]) -> None:
    assert [str(entry) for entry in locked["retinaface-pytorch"]] == ["retinaface-pytorch==0.0.8"]
    assert not Requirement("torch==1.9.0").specifier.contains(str(locked["torch"][0].specifier).removeprefix("=="))


@pytest.mark.parametrize("wanted", [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]], ids=str)
def test_lock_satisfies_every_dependency_of_the_project(locked: dict[str, list[Requirement]], wanted: str) -> None:
    requirement = Requirement(wanted)
    for entry in locked[canonicalize_name(requirement.name)]:
        assert requirement.specifier.contains(str(entry.specifier).removeprefix("=="), prereleases=True)
