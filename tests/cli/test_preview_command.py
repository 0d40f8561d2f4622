import json
from pathlib import Path

import pytest
from tests.conftest import compose_config

from unmask.cli.tasks import TASKS, preview
from unmask.media.image import read_image


def test_preview_writes_its_sheets_into_the_folder_of_the_run_and_says_where(
    face_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("unmask.cli.tasks.run_dir", lambda: tmp_path)
    overrides = ["task=preview", "augmentation=sbi", "dataset.num_workers=0", "model.input_size=40"]
    preview(compose_config("train", f"dataset.root={face_dataset}", *overrides))
    result = json.loads((tmp_path / "result.json").read_text())
    assert result == {name: str(tmp_path / f"preview_{name}.png") for name in ("real", "fake")}
    told = capsys.readouterr().out
    for name, path in result.items():
        assert f"{name.capitalize()}  {path}" in told
        assert read_image(Path(path)).shape[1] == 8 * 44
    assert "preview" in TASKS
