import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import unmask
from unmask.media.image import write_jpeg
from unmask.media.video import read_frames

SMALL = [
    "model=tiny", "trainer=cpu", "precision=fp32", "logger=none", "trainer.max_epochs=1", "dataset.num_workers=0",
    "trainer.limit_train_batches=2", "dataset.batch_size=8",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["host", "--option", "of=another"])
    before = list(sys.argv)
    yield
    assert sys.argv == before


def test_import_is_light_and_says_what_there_is() -> None:
    code = "import sys, unmask; print([n for n in ('torch', 'hydra', 'numpy', 'cv2', 'pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
    assert set(unmask.__all__) <= set(dir(unmask))
    assert all(getattr(unmask, name) is not None for name in unmask.__all__)
    assert (Path(unmask.__file__).parent / "py.typed").is_file()


def test_the_whole_line_from_python(synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["source=ffpp", f"source.root={synthetic_root}", f"source.splits={synthetic_root / 'splits'}"]
    small = ["crop.num_frames=2", "crop.crop_size=64", "num_workers=0", "output=faces"]
    prepared = unmask.prepare([*source, *small])
    assert prepared.num_faces > 0
    trained = unmask.train([f"dataset.root={prepared.dataset}", *SMALL], folder="run")
    assert json.loads(Path("run/result.json").read_text())["best_checkpoint"] == trained.best_checkpoint
    assert Path(trained.best_checkpoint).is_relative_to(tmp_path / "run")
    more = unmask.train([f"resume={trained.last_checkpoint}", "trainer.max_epochs=2"], folder="more")
    assert OmegaConf.load("more/.hydra/config.yaml").model.name == "tiny"
    assert Path(more.best_checkpoint).is_relative_to(tmp_path / "more")
    evaluation = unmask.evaluate([f"checkpoint={trained.best_checkpoint}", f"dataset.root={prepared.dataset}"])
    assert evaluation.report.is_file()
    clip = next((synthetic_root / "original_sequences/youtube/c23/videos").glob("*.mp4"))
    write_jpeg(Path("a photo=1.jpg"), next(read_frames(clip, num_frames=1)).image, quality=95)
    found = unmask.predict("a photo=1.jpg", clip, checkpoint=str(trained.bundle), overrides=["num_frames=2"])
    assert [row.path for row in found] == ["a photo=1.jpg", str(clip)]
    assert all(row.error is None for row in found)
    assert "┃" not in capsys.readouterr().out


def test_mistakes_are_raised_as_they_are_told_on_the_command_line(face_dataset: Path) -> None:
    root = f"dataset.root={face_dataset}"
    with pytest.raises(unmask.ConfigError, match=r"optimizer\.lrr.*optimizer\.lr"):
        unmask.train([root, "optimizer.lrr=1"])
    with pytest.raises(unmask.ConfigError, match=r"dataset\.root"):
        unmask.train(SMALL)
    with pytest.raises(unmask.ConfigError, match=r"'-m'.*train\.py"):
        unmask.train([root, "-m"])
    with pytest.raises(unmask.CheckpointError, match=r"gone\.ckpt"):
        unmask.predict("x.jpg", checkpoint="gone.ckpt")


def test_evaluate_from_python_has_no_other_tasks() -> None:
    with pytest.raises(unmask.ConfigError, match=r"evaluate\.py.*task=robustness"):
        unmask.evaluate(["task=robustness", "checkpoint=best.ckpt", "dataset.root=faces"])


def test_a_program_that_uses_hydra_itself_is_left_as_it_was(face_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(tmp_path / "own"), version_base="1.3"):
        before = GlobalHydra.instance().hydra
        unmask.train([f"dataset.root={face_dataset}", *SMALL], folder="run")
        assert GlobalHydra.instance().hydra is before
        assert compose("own").a == 1


def test_calls_from_another_thread_and_twice_work(face_dataset: Path) -> None:
    results: list[object] = []

    def call() -> None:
        results.append(unmask.train([f"dataset.root={face_dataset}", *SMALL, "seed=1"], folder="thread"))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    again = unmask.train([f"dataset.root={face_dataset}", *SMALL, "seed=1"], folder="again")
    assert len(results) == 1
    assert getattr(results[0], "metrics", None) == again.metrics
