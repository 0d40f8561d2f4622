import re
import shutil
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY


def test_documented_use_from_python_runs(
    bundle: Path, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (REPOSITORY / "docs/prediction.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for name, copy in (("face.jpg", "photo.jpg"), ("face.jpg", "other.jpg"), ("clip.mp4", "clip.mp4")):
        shutil.copy(media / name, copy)
    exec(block.replace("outputs/train/first/bundle", str(bundle)), {})
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"(real|fake|uncertain) 0\.\d+ \[\(\d", lines[0])
    assert [line.split()[0] for line in lines[1:3]] == ["photo.jpg", "other.jpg"]
    assert re.match(r"(Real|Fake|Uncertain)\b", lines[3])
    assert re.fullmatch(r"(\d+) of \1 frames", lines[-2])
    assert lines[-1].startswith("{'path': 'clip.mp4', 'kind': 'video'")
