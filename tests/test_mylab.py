"""The package in examples/mylab, used from another folder as a lab would, without a line in src."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from tests.conftest import REPOSITORY
from tests.web.api.test_server import serve

from unmask.media.image import write_jpeg
from unmask.media.video import read_frames

MYLAB = REPOSITORY / "examples" / "mylab"
CONFIGS = ("--config-dir", str(MYLAB / "mylab" / "configs"))
SMALL = ("trainer=cpu", "precision=fp32", "trainer.max_epochs=2", "dataset.batch_size=8", "dataset.num_workers=0")


def run(script: str, *arguments: str, folder: Path, trusts: bool = True) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith("UNMASK_")}
    environment |= {"PYTHONPATH": str(MYLAB)} | ({"UNMASK_TRUSTED_MODULES": "mylab"} if trusts else {})
    command = [sys.executable, str(REPOSITORY / script), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def cases(synthetic_root: Path, tmp_path: Path) -> Path:
    """Drawn clips in the lab's own layout; an edited file lies with the case of its target."""
    root = tmp_path / "cases"
    for clip in sorted((synthetic_root / "original_sequences/youtube/c23/videos").glob("*.mp4")):
        (place := root / clip.stem / "authentic").mkdir(parents=True)
        shutil.copy(clip, place)
    for clip in sorted((synthetic_root / "manipulated_sequences").glob("*/c23/videos/*.mp4")):
        place = root / clip.stem.partition("_")[0] / "edited" / clip.parents[2].name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, place)
    return root


def test_every_part_of_an_own_package_works_without_a_line_in_src(cases: Path, tmp_path: Path) -> None:
    source = ("source=cases", f"source.root={cases}", "detector=alternative_cascade", "output=faces", "num_workers=0")
    done = run("prepare.py", *CONFIGS, *source, "crop.num_frames=2", "crop.crop_size=64", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    training = (*CONFIGS, "experiment=mylab", "dataset.root=faces", *SMALL)
    done = run("train.py", *training, "hydra.run.dir=run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["objective_key"] == "val/recall_at_5"
    assert {"val/recall_at_5", "val/video_recall_at_5"} <= result["metrics"].keys()
    logged = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert {"train/gradient_norm", "val/recall_at_5", "best/objective"} <= {key for line in logged for key in line}
    bundle, checkpoint = (f"checkpoint=run/{name}" for name in ("bundle", "checkpoints/best.ckpt"))
    clip = next(cases.glob("*/authentic/*.mp4"))
    write_jpeg(tmp_path / "photo.jpg", next(read_frames(clip, num_frames=1)).image, quality=95)
    scores = []
    for model in (bundle, checkpoint):
        done = run("predict.py", model, "photo.jpg", "device=cpu", f"hydra.run.dir={model[-4:]}", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        scores.append(json.loads((tmp_path / model[-4:] / "predictions.json").read_text())[0]["score"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    section = "+sections.groups._target_=mylab.section.ScoresByGroup"
    options = ("dataset.root=faces", "device=cpu", section, "hydra.run.dir=report")
    done = run("evaluate.py", checkpoint, *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "<h2>Scores by group</h2>" in (tmp_path / "report/report.html").read_text()
    for model in (bundle, checkpoint):
        done = run("predict.py", model, "photo.jpg", folder=tmp_path, trusts=False)
        assert done.returncode == 2
        assert "trusted_modules=[mylab]" in done.stderr


@pytest.mark.slow
def test_service_scores_with_own_parts_as_the_command_does(
    face_dataset: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    training = (*CONFIGS, "experiment=mylab", f"dataset.root={face_dataset}", *SMALL, "hydra.run.dir=run")
    done = run("train.py", *training, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    clip = next((synthetic_root / "original_sequences/youtube/c23/videos").glob("*.mp4"))
    write_jpeg(tmp_path / "photo.jpg", next(read_frames(clip, num_frames=1)).image, quality=95)
    environment = os.environ | {"PYTHONPATH": str(MYLAB), "UNMASK_TRUSTED_MODULES": "mylab"}
    with serve(tmp_path, tmp_path / "run/bundle", "limits.max_faces=4", environment=environment) as (address, _):
        sent = {"files": ("photo.jpg", (tmp_path / "photo.jpg").read_bytes())}
        answer = httpx2.post(f"{address}/v1/images", files=sent, timeout=60)
    assert answer.status_code == 200, answer.text
    done = run("predict.py", "checkpoint=run/bundle", "photo.jpg", "hydra.run.dir=said", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (expected,) = json.loads((tmp_path / "said/predictions.json").read_text())
    (row,) = answer.json()["results"]
    assert expected["score"] is not None
    assert row["verdict"] == expected["verdict"]
    assert row["score"] == pytest.approx(expected["score"], abs=1e-6)


@pytest.mark.slow
def test_own_parts_survive_a_sweep_and_a_resumption(face_dataset: Path, tmp_path: Path) -> None:
    training = (*CONFIGS, "experiment=mylab", f"dataset.root={face_dataset}", *SMALL)
    done = run("train.py", "-m", *training, "loss.epsilon=0,1", "hydra.sweep.dir=sweep", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "sweep").glob("*/result.json"))) == 2
    last = "resume=sweep/0/checkpoints/last.ckpt"
    done = run("train.py", *CONFIGS, last, "trainer.max_epochs=3", "hydra.run.dir=more", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "more/result.json").read_text())["objective_key"] == "val/recall_at_5"
