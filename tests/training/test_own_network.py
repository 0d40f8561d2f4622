"""The network of docs/training.md that is no part of Unmask: trained, exported and used as the page says."""

import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY

from unmask.models.checkpoint import load_checkpoint

SMALL = ("debug=fast", "trainer.max_epochs=1", "trainer.accelerator=cpu")


def read_section() -> str:
    text = (REPOSITORY / "docs" / "training.md").read_text()
    return text.partition("## A network of your own\n")[2].partition("\n## ")[0]


def find_block(language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", read_section(), flags=re.MULTILINE | re.DOTALL)
    return str(block)


@pytest.fixture
def lab(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("mylab/nets.py", find_block("py")), ("myconfigs/model/small.yaml", find_block("yaml"))):
        (in_folder / name).parent.mkdir(parents=True)
        (in_folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(in_folder))
    for name in ("mylab", "mylab.nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return in_folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(script: str, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        try:
            runpy.run_path(str(REPOSITORY / script), run_name="__main__")
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


def test_custom_network_trains_by_config_or_overrides_and_predicts(
    lab: Path, run: Callable[..., int], face_dataset: Path, synthetic_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second, predict = (shlex.split(line)[1:] for line in find_block("sh").splitlines())
    data = f"dataset.root={face_dataset}"
    found = []
    for words in (first, second):
        script, *arguments = [data if word.startswith("dataset.root=") else word for word in words]
        assert run(script, *arguments, *SMALL) == 0, capfd.readouterr().err
        told = capfd.readouterr()
        assert "trusted_modules=[mylab]" in told.out + told.err
        assert "no heat maps" not in told.out + told.err
        results = sorted(lab.glob("outputs/**/result.json"), key=lambda path: path.stat().st_mtime_ns)
        found.append(json.loads(results[-1].read_text()))
    configs = [load_checkpoint(result["best_checkpoint"]).network_config for result in found]
    assert [config["width"] for config in configs] == [8, 16]
    assert {config["_target_"] for config in configs} == {"mylab.nets.Small"}
    clip = next(synthetic_root.rglob("*.mp4"))
    for key in ("bundle", "best_checkpoint"):
        given = [f"checkpoint={found[0][key]}" if word.startswith("checkpoint=") else word for word in predict[1:-1]]
        assert run("predict.py", *given, "device=cpu", "num_frames=2", str(clip)) == 0, capfd.readouterr().err
    without = [f"checkpoint={found[0]['best_checkpoint']}", data, "device=cpu", "split=val"]
    assert run("evaluate.py", *without) == 2
    assert "trusted_modules=[mylab]" in capfd.readouterr().err
    assert run("evaluate.py", *without, "trusted_modules=[mylab]") == 0, capfd.readouterr().err


def test_logits_of_another_shape_stop_before_training(
    lab: Path, run: Callable[..., int], face_dataset: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ("model=custom", "model._target_=torchvision.models.resnet18", "+model.num_classes=3")
    assert run("train.py", *arguments, "model.input_size=64", f"dataset.root={face_dataset}", *SMALL) == 2
    told = capfd.readouterr().err
    assert "(3, 3)" in told
    assert "(N,), (N, 1) or (N, 2)" in told
