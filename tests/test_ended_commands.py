"""Every command that starts processes, ended by real signals: none of its processes may be left."""

import signal
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.sessions import assert_none_left, list_session, open_session, wait_until

pytestmark = pytest.mark.slow

TRAINING = (
    "model=tiny", "precision=fp32", "trainer.accelerator=cpu", "trainer.max_epochs=1000", "dataset.batch_size=4",
    "dataset.samples_per_epoch=200", "callbacks.early_stopping=null", "logger=none",
)  # fmt: skip
WORKERS = "dataset.num_workers=2"
EPOCH = "Epoch 2 of 1000"


def _end(home: Path, number: int, *command: str, said: str, num_processes: int) -> int:
    """Start a command, wait until it has said something and has so many processes, and end it."""
    output = home / "output.txt"
    with open_session(home, str(REPOSITORY / command[0]), *command[1:]) as process:

        def is_at_work() -> bool:
            assert process.poll() is None, output.read_text()
            return said in output.read_text() and len(list_session(process.pid)) >= num_processes

        assert wait_until(is_at_work, seconds=600), output.read_text()
        return assert_none_left(process, number, seconds=30)


BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])


def _code(number: int) -> int:
    return 143 if number == signal.SIGTERM else -9


@BOTH
def test_drawing_of_a_source(tmp_path: Path, number: int) -> None:
    source = ("source=synthetic", "source.num_identities=40", "source.num_frames=60")
    command = ("prepare.py", *source, "output=faces", "num_workers=2")
    assert _end(tmp_path, number, *command, said="", num_processes=4) == _code(number)


@BOTH
@pytest.mark.parametrize("shard", [(), ("shard=1/2",)], ids=["whole", "shard"])
def test_prepare(synthetic_root: Path, tmp_path: Path, number: int, shard: tuple[str, ...]) -> None:
    source = ("source=ffpp", f"source.root={synthetic_root}", f"source.splits={synthetic_root}/splits")
    command = ("prepare.py", *source, "output=faces", "num_workers=2", "crop.num_frames=6", *shard)
    assert _end(tmp_path, number, *command, said="", num_processes=4) == _code(number)


@BOTH
def test_training_with_workers(face_dataset: Path, tmp_path: Path, number: int) -> None:
    command = ("train.py", f"dataset.root={face_dataset}", *TRAINING, WORKERS)
    assert _end(tmp_path, number, *command, said=EPOCH, num_processes=3) == _code(number)


@BOTH
def test_training_in_two_processes(face_dataset: Path, tmp_path: Path, number: int) -> None:
    command = ("train.py", f"dataset.root={face_dataset}", *TRAINING, WORKERS, "trainer=ddp", "trainer.devices=2")
    assert _end(tmp_path, number, *command, said=EPOCH, num_processes=4) == _code(number)


@BOTH
@pytest.mark.parametrize(
    "launcher",
    [
        (),
        ("trainer=ddp", "trainer.devices=2"),
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=3"),
        ("hydra/launcher=submitit_local",),
    ],
    ids=["basic", "own process", "joblib", "submitit_local"],
)
def test_sweep(face_dataset: Path, tmp_path: Path, number: int, launcher: tuple[str, ...]) -> None:
    command = ("train.py", "-m", f"dataset.root={face_dataset}", *TRAINING, WORKERS, "seed=1,2", *launcher)
    output = tmp_path / "output.txt"
    with open_session(tmp_path, str(REPOSITORY / command[0]), *command[1:]) as process:

        def is_at_work() -> bool:
            assert process.poll() is None, output.read_text()
            logs = [path.read_text() for path in tmp_path.glob("multirun/train/*/*/*.log")]
            return any(EPOCH in text for text in (output.read_text(), *logs))

        assert wait_until(is_at_work, seconds=600), output.read_text()
        assert_none_left(process, number, seconds=40)


@BOTH
def test_evaluation_with_workers(face_dataset: Path, checkpoint: Path, tmp_path: Path, number: int) -> None:
    command = ("evaluate.py", f"checkpoint={checkpoint}", f"dataset.root={face_dataset}", "num_workers=2")
    assert _end(tmp_path, number, *command, "batch_size=1", said="", num_processes=3) == _code(number)


@BOTH
def test_demo(tmp_path: Path, number: int) -> None:
    demo = "src/unmask/cli/demo.py"
    assert _end(tmp_path, number, demo, said="$ python prepare.py", num_processes=5) == _code(number)
