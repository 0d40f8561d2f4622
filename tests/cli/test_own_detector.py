"""The detector of docs/datasets.md that is no part of Unmask: from preparing to prediction, and in a repair."""

import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY, train_tiny

from unmask.errors import UntrustedError
from unmask.inference.predictor import Predictor

Run = Callable[..., int]


def find_block(language: str) -> str:
    text = (REPOSITORY / "docs" / "datasets.md").read_text()
    section = text.partition("### A detector of your own\n")[2].partition("\n## ")[0]
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    return str(block)


@pytest.fixture
def run(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name, text in (("mylab/faces.py", find_block("py")), ("myconfigs/detector/middle.yaml", find_block("yaml"))):
        (in_folder / name).parent.mkdir(parents=True)
        (in_folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(in_folder))
    for name in ("mylab", "mylab.faces"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
        try:
            runpy.run_path(str(REPOSITORY / "prepare.py"), run_name="__main__")
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


def test_custom_detector_is_stored_in_the_spec_and_built_from_it(
    run: Run, in_folder: Path, synthetic_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(find_block("sh"))[2:]
    root, splits = f"source.root={synthetic_root}", f"source.splits={synthetic_root / 'splits'}"
    given = [root if word.startswith("source.root=") else word for word in words]
    small = ("crop.num_frames=2", "crop.crop_size=64", "num_workers=0", splits)
    assert run(*given, *small) == 0, capfd.readouterr().err
    dataset = in_folder / "data" / "middle"
    spec = json.loads((dataset / "dataset.json").read_text())["preprocessing"]
    assert (spec["detector"], spec["detector_options"]) == ("mylab.faces.Middle", {"share": 0.6})
    result = train_tiny(dataset, in_folder / "run")
    clip = next(synthetic_root.rglob("*.mp4"))
    for path in (str(result["bundle"]), str(result["best_checkpoint"])):
        with pytest.raises(UntrustedError, match=r"trusted_modules=\[mylab\]"):
            Predictor.load(path, device="cpu")
        predictor = Predictor.load(path, device="cpu", trusted_modules=["mylab"])
        (face,) = predictor.predict_video(clip).frames[0].faces
        assert face.box == pytest.approx((25.6, 25.6, 102.4, 102.4))
    next(dataset.rglob("*.jpg")).write_bytes(b"")
    repair = ("task=repair", f"output={dataset}", "num_workers=0")
    assert run(*repair) == 2
    assert "trusted_modules=[mylab]" in capfd.readouterr().err
    assert run(*repair, "trusted_modules=[mylab]") == 0, capfd.readouterr().err
    assert "1 made again" in capfd.readouterr().out
