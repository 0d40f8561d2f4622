import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.preparation.test_shards import _contents
from tests.sessions import assert_none_left, list_session, open_session, wait_until

from unmask.errors import ConfigError
from unmask.preparation.ray_runner import RayRunner

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'unmask[ray]'")


def test_without_ray_one_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.preparation.ray_runner.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"runner=ray.*pip install 'unmask\[ray\]'.*runner=local"):
        RayRunner()
    extra = re.search(r"^ray = \[\"(ray\b.*)\"\]", (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert extra, "the extra that the message names"


def test_command_without_ray_ends_before_it_works(tmp_path: Path, synthetic_root: Path) -> None:
    (tmp_path / "hide.py").write_text(
        "import importlib.util, runpy, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'ray' else find(name, *rest)\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "hide.py", *_command(synthetic_root), "runner=ray"], cwd=tmp_path, text=True,
        capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "unmask[ray]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "faces").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("num_actors", 0), ("num_cpus", 0), ("num_cpus", "many"), ("num_gpus", -1), ("num_actors", 1.5)]
)
def test_senseless_values_are_refused_with_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"runner\.{key}={value}"):
        RayRunner(**{key: value})  # type: ignore[arg-type]


def _command(synthetic_root: Path, *more: str) -> tuple[str, ...]:
    source = ("source=ffpp", f"source.root={synthetic_root}", f"source.splits={synthetic_root}/splits")
    return (str(REPOSITORY / "prepare.py"), *source, "output=faces", "num_workers=0", "crop.crop_size=64",
            "crop.num_frames=2", *more)  # fmt: skip


def _run(home: Path, *command: str) -> tuple[int, str]:
    home.mkdir(exist_ok=True)
    with open_session(home, *command) as process:
        code = process.wait(600)
    return code, (home / "output.txt").read_text()


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local clusters have two CPUs, whatever the machine has."""
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2}')


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_ray_makes_what_one_process_makes_byte_for_byte_and_resumes(synthetic_root: Path, tmp_path: Path) -> None:
    assert _run(tmp_path / "here", *_command(synthetic_root))[0] == 0
    home = tmp_path / "ray"
    home.mkdir()
    journal = home / "faces" / "prepare.jsonl"
    for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with open_session(home, *_command(synthetic_root, "runner=ray")) as process:
            before = journal.read_text().count("\n") if journal.is_file() else 0
            assert wait_until(
                lambda: journal.is_file() and journal.read_text().count("\n") > before,  # noqa: B023
                seconds=300,
            ), (home / "output.txt").read_text()
            if number != signal.SIGKILL:
                assert assert_none_left(process, number, seconds=60) == code
                continue
            process.kill()
            assert process.wait(10) == code
            assert wait_until(lambda: not _list_workers(process.pid), seconds=60), _list_workers(process.pid)
    code, output = _run(home, *_command(synthetic_root, "runner=ray"))
    assert code == 0, output
    assert re.search(r"with 2 Ray actors", output)
    assert _contents(home / "faces") == _contents(tmp_path / "here" / "faces")
    assert not [path for path in (home / "faces").rglob("*") if ".part" in path.name or path.name.startswith(".")]


def _list_workers(session: int) -> list[str]:
    """Return the processes of a session, without agents of Ray, which end a minute after their cluster."""
    names = [(process.cmdline() or [""])[0] for process in list_session(session)]
    return [name for name in names if not re.fullmatch(r"ray::\w+Agent", name)]


OWN = """
import os
from pathlib import Path
from unmask.errors import OutputError
from unmask.types import Face


class Middle:
    def __init__(self, fault=""):
        self.fault = fault
        self.is_built = False

    def detect(self, images):
        if not self.is_built and images[0].shape[0] > 64:  # not the blank image of the check
            self.is_built = True
            Path("built.txt").open("a").write(f"{os.getpid()}\\n")
        if self.fault == "death" and self.is_built:
            os._exit(1)
        if self.fault == "disk" and self.is_built:
            raise OutputError("Cannot write 'x': No space left on device.")
        return [[Face((32.0, 32.0, 96.0, 96.0), None, 1.0)] for _ in images]
"""


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_each_actor_builds_one_detector_and_faults_are_told_in_one_message(
    synthetic_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "configs" / "detector").mkdir(parents=True)
    (tmp_path / "configs" / "detector" / "own.yaml").write_text("_target_: own.Middle\nfault: ''\n")
    (tmp_path / "start.py").write_text(
        f"import runpy, sys\nsys.path[:0] = [{str(tmp_path)!r}]\nsys.argv = sys.argv[1:]\n"
        f"runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = ("start.py", *_command(synthetic_root, "runner=ray", "detector=own", "--config-dir=configs"))
    for fault, words in (
        ("death", ["Ray actor", ".mp4", "Finished videos are kept", "runner=local"]),
        ("disk", ["No space left on device", "finished are kept"]),
    ):
        code, output = _run(tmp_path, *command, f"detector.fault={fault}")
        assert code == 2, output
        for word in ("Error: ", *words):
            assert word in output
        assert "Traceback" not in output
        assert not [path for path in (tmp_path / "faces").rglob("*") if path.is_file()]
        (tmp_path / "built.txt").unlink()
        (tmp_path / "output.txt").unlink()
    code, output = _run(tmp_path, *command)
    assert code == 0, output
    assert len((tmp_path / "built.txt").read_text().split()) == 2


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("runner.num_cpus=3",), ["runner.num_cpus=3", "2 CPU"]),
        (("runner.address=auto",), ["runner.address=auto", "ray start --head", "runner.address=null"]),
    ],
)
def test_cluster_without_room_or_that_is_not_there_is_told(
    synthetic_root: Path, tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    code, output = _run(tmp_path, *_command(synthetic_root, "runner=ray", *arguments))
    assert code == 2, output
    for word in ("Error: ", *words):
        assert word in output
    assert "Traceback" not in output
