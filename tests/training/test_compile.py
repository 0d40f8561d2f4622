import shutil
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import train_tiny

from unmask.models.checkpoint import load_checkpoint


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_network_trains_alike_and_its_checkpoint_loads_without_a_compiler(
    face_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "distutils"]:
        monkeypatch.delitem(sys.modules, name)  # of Python's own, by an earlier test: setuptools insists on its own
    options = ("trainer.max_epochs=2", "trainer.limit_train_batches=2", "callbacks.ema.decay=0.9")
    plain = train_tiny(face_dataset, tmp_path / "plain", *options)
    compiled = train_tiny(face_dataset, tmp_path / "compiled", *options, "compile=true")
    first, second = (load_checkpoint(str(result["last_checkpoint"])) for result in (plain, compiled))
    assert list(first.state) == list(second.state)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(first.build_network()(images), second.build_network()(images), atol=1e-4)
    assert compiled["bundle"] is not None
    assert compiled["metrics"] == pytest.approx(plain["metrics"], abs=1e-3)
