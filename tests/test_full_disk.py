"""What is said and kept where a disk is full."""

import errno
import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import REPOSITORY
from tests.preparation.test_prepare import _prepare, _video

from unmask.data.tables import FaceDataset
from unmask.errors import OutputError
from unmask.media.encode import write_video
from unmask.paths import describe_refusal, remove_parts, write_bytes, writing
from unmask.preparation.records import Journal
from unmask.types import Image, Label


@contextmanager
def longest_file(num_bytes: int) -> Iterator[None]:
    """Let no file grow longer, in this process and those that it starts; the system says "File too large"."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _noise(count: int) -> list[Image]:
    return list(np.random.default_rng(0).integers(0, 255, (count, 128, 128, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk space"),
        (errno.EDQUOT, "disk space"),
        (errno.EFBIG, "disk space"),
        (errno.EROFS, "writable"),
        (errno.EACCES, "writable"),
        (errno.ENOTDIR, "writable"),
    ],
)
def test_refusal_names_the_file_the_reason_and_what_helps(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(OutputError) as told, writing(tmp_path / "a.json"):
        raise OSError(number, os.strerror(number), "b.part")
    for word in (str(tmp_path / "a.json"), os.strerror(number), words):
        assert word in str(told.value)
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)  # as a worker process hands it over


def test_other_errors_are_let_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path):
        (tmp_path / "none").read_text()


def test_file_that_was_being_written_is_found(tmp_path: Path) -> None:
    with longest_file(10), pytest.raises(OSError, match="too large") as raised:
        (tmp_path / "long.txt").write_text("x" * 100)
    raised.value.filename = None
    assert str(tmp_path / "long.txt") in describe_refusal(raised.value)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_bytes(path, bytes(100_000)),
        lambda path: write_video(path, _noise(20), fps=25, crf=5),
    ],
    ids=["bytes", "video"],
)
def test_full_disk_leaves_what_was_there_and_no_part(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("before")
    with longest_file(20_000), pytest.raises(OutputError, match=r"a\.mp4.*File too large"):
        write(path)
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"a.mp4": "before"}


def test_full_disk_while_a_video_is_annotated_is_not_the_fault_of_its_source(tmp_path: Path) -> None:
    from unmask.media.encode import write_with_sound
    from unmask.types import Frame

    write_video(tmp_path / "clip.mp4", _noise(20), fps=25)
    frames = [Frame(image, number, number / 25) for number, image in enumerate(_noise(20))]
    with longest_file(20_000), pytest.raises(OutputError, match=r"annotated\.mp4.*File too large"):
        write_with_sound(tmp_path / "annotated.mp4", frames, source=tmp_path / "clip.mp4", crf=5)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_full_disk_leaves_the_bundle_that_was_there(checkpoint: Path, tmp_path: Path) -> None:
    from unmask.models.bundle import write_bundle
    from unmask.models.checkpoint import load_checkpoint

    folder = write_bundle(load_checkpoint(checkpoint), tmp_path / "bundle")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with longest_file(1000), pytest.raises(OutputError, match=r"bundle.*File too large"):
        write_bundle(load_checkpoint(checkpoint), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_line_of_the_journal_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    videos = [_video(tmp_path, name, label=Label(name > "a")) for name in "ab"]
    _prepare(videos, tmp_path / "out")
    path = tmp_path / "out" / "prepare.jsonl"
    journal = Journal(path, spec=FaceDataset.load(tmp_path / "out").spec)
    records, before = journal.read(videos), path.read_bytes()
    with longest_file(len(before) + 50), pytest.raises(OutputError, match=r"prepare\.jsonl"):
        journal.append(videos[0], records["listed/a"])
    assert path.read_bytes() == before


def test_full_disk_in_prepare_keeps_finished_videos_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [_video(tmp_path, name, label=Label(name > "b")) for name in "abcd"]
    _prepare(videos, tmp_path / "whole")
    written: list[Path] = []

    def fill(path: Path, data: bytes) -> None:
        if len(written) == 10:
            with writing(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        write_bytes(path, data)

    with monkeypatch.context() as full:
        full.setattr("unmask.preparation.prepare_video.write_bytes", fill)
        with pytest.raises(OutputError, match="No space left"):
            _prepare(videos, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/crops/listed").iterdir()) == ["a", "b"]
    result = _prepare(videos, tmp_path / "out")
    assert (result.num_reused, result.num_faces) == (2, 16)
    for path in (tmp_path / "whole/crops").rglob("*.jpg"):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes()


def test_parts_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    names = [
        f".a.{int(gone.stdout)}.part.mp4",
        f".b.jpg.{int(gone.stdout)}.part",
        f".c.{os.getpid()}.part.mp4",
        "d.part",
    ]
    for name in names:
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[2:])


def test_service_whose_folder_is_full_is_told_in_one_message(
    checkpoint: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmask.inference.predictor import PredictorSettings
    from unmask.web.api.jobs import JobStore
    from unmask.web.api.settings import ModelSettings
    from unmask.web.api.uploads import copied_model, own_folder

    model, folder = ModelSettings(str(checkpoint), PredictorSettings()), in_folder / "service"
    with own_folder(folder):
        with longest_file(1000), pytest.raises(OutputError, match="service"), copied_model(model, folder):
            pass
        with longest_file(1000), pytest.raises(OutputError, match=r"jobs\.sqlite"):
            JobStore(folder / "jobs").create()
    monkeypatch.setattr("tempfile.mkdtemp", _refuse)
    with pytest.raises(OutputError, match="Read-only"), copied_model(model, folder):
        pass


def _refuse(**_: object) -> str:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk that can be made larger; only root of a machine that lets it mount has one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")

    def enlarge(size: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
        return folder

    yield enlarge
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _run(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "UNMASK_HOME": str(home), "PYTHONPATH": str(REPOSITORY / "src")}
    return subprocess.run(
        [sys.executable, str(REPOSITORY / command[0]), *command[1:]], env=environment, cwd=home.parent,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def _assert_one_message(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "Logging error" not in done.stderr
    for word in ("Error: ", "No space left on device", *words):
        assert word in done.stderr


def _assert_no_parts(disk: Path) -> None:
    assert not [path for path in disk.rglob("*") if ".part" in path.name or path.name.endswith(".new")]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_prepare_on_a_full_disk_goes_on_when_there_is_room(
    synthetic_root: Path, small_disk: Callable[[str], Path], num_workers: int
) -> None:
    disk = small_disk("150k")
    source = ("source=ffpp", f"source.root={synthetic_root}", f"source.splits={synthetic_root}/splits")
    command = ("prepare.py", *source, f"output={disk}/faces", "crop.num_frames=4", f"num_workers={num_workers}")
    _assert_one_message(_run(disk, *command), str(disk), "finished are kept", "same command")
    _assert_no_parts(disk)
    small_disk("40m")
    done = _run(disk, *command)
    assert done.returncode == 0, done.stderr
    (result,) = disk.glob("outputs/prepare/*/result.json")
    assert json.loads(result.read_text())["videos"] == {"ok": 40}


@pytest.mark.slow
def test_drawing_on_a_full_disk(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("150k")
    source = ("source=synthetic", "source.num_identities=6", "source.num_frames=6", "source.size=128")
    done = _run(disk, "prepare.py", *source, f"output={disk}/faces", "num_workers=2")
    _assert_one_message(done, str(disk / "data"))
    _assert_no_parts(disk)


@pytest.mark.slow
def test_evaluate_and_predict_on_a_full_disk(
    face_dataset: Path, checkpoint: Path, synthetic_root: Path, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("80k")
    done = _run(disk, "evaluate.py", f"checkpoint={checkpoint}", f"dataset.root={face_dataset}", "num_workers=1")
    _assert_one_message(done, "report.html", "What is written is kept")
    (folder,) = disk.glob("outputs/evaluate/*")
    assert {"scores_frames.parquet", "scores_videos.parquet"} <= {path.name for path in folder.iterdir()}
    _assert_no_parts(disk)
    small_disk("150k")
    clips = sorted(map(str, (synthetic_root / "original_sequences").rglob("*.mp4")))[:3]
    done = _run(disk, "predict.py", f"checkpoint={checkpoint}", *clips, "save=[heatmaps,video]")
    _assert_one_message(done, str(disk), "What is written is kept")
    (folder,) = disk.glob("outputs/predict/*")
    assert len(json.loads((folder / "predictions.json").read_text())) == 3
    _assert_no_parts(disk)
