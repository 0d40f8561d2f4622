import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.web.api.conftest import wait_until_ready

from unmask.cli.predict import main
from unmask.config import read_defaults
from unmask.decision import MARGIN
from unmask.inference.predictor import Predictor, PredictorSettings
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import animate, draw_identity
from unmask.web.api.app import create_app
from unmask.web.api.settings import ModelSettings, ServiceSettings
from unmask.web.app.models import read_settings


@pytest.fixture
def image(tmp_path: Path) -> Path:
    import numpy as np

    from unmask.media.image import write_jpeg

    rng = np.random.default_rng(1)
    head = next(iter(film(Sitter(draw_identity(rng), size=192), animate(rng, num_frames=1, fps=25), rng)))
    write_jpeg(tmp_path / "face.jpg", head.image, quality=95)
    return tmp_path / "face.jpg"


def _ask_command(bundle: Path, image: Path, threshold: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = image.parent / "command"
    monkeypatch.setattr(
        sys, "argv",
        ["predict.py", f"checkpoint={bundle}", f"threshold={threshold}", str(image), f"hydra.run.dir={folder}"],
    )  # fmt: skip
    main()
    return json.loads((folder / "predictions.json").read_text())[0]


def _ask_service(bundle: Path, image: Path, threshold: float) -> Any:
    cfg = read_defaults("serve")
    cfg.threshold = threshold
    model = ModelSettings(str(bundle), PredictorSettings.from_config(cfg))
    with TestClient(create_app(ServiceSettings(model, image.parent / "service", image_workers=1))) as client:
        wait_until_ready(client)
        answer = client.post("/v1/images?heatmaps=false", files=[("files", ("face.jpg", image.read_bytes()))]).json()
        assert client.get("/v1/model").json()["decision"]["margin"] == MARGIN
    return answer["results"][0]


def test_every_entry_calls_the_same_image_uncertain(
    checkpoint: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    bundle = checkpoint.parents[1] / "bundle"
    score = Predictor.load(bundle).predict_file(image).score
    assert score is not None
    threshold = score - 0.01 if score < 0.5 else score + 0.01  # within the margin, and on one side without it
    from_python = Predictor.load(bundle, threshold=threshold)
    app = read_settings().predictor
    from_app = PredictorSettings(**{**vars(app), "threshold": threshold}).load(bundle)
    assert from_python.margin == from_app.margin == MARGIN
    command = _ask_command(bundle, image, threshold, monkeypatch)
    service = _ask_service(bundle, image, threshold)
    verdicts = {
        "Python": str(from_python.predict_file(image).verdict),
        "app": str(from_app.predict_file(image).verdict),
        "command": command["verdict"],
        "service": service["verdict"],
    }
    assert verdicts == dict.fromkeys(verdicts, "uncertain")
    assert command["score"] == pytest.approx(score, abs=1e-6)
    assert service["score"] == pytest.approx(score, abs=1e-6)
