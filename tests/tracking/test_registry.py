from pathlib import Path
from typing import Any

import pytest
import torch

from unmask.models.checkpoint import load_checkpoint
from unmask.tracking.store import Store, open_experiment
from unmask.tracking.unsent import Message, Outbox


def test_logged_model_gives_the_scores_of_the_checkpoint(client: Any, result: dict[str, Any]) -> None:
    import mlflow.pyfunc
    import numpy as np

    model = mlflow.pyfunc.load_model(str(client.download_artifacts(result["run_id"], "model")))
    assert model.metadata.signature.inputs.input_names() == ["images"]
    assert model.metadata.saved_input_example_info is not None
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), np.uint8)
    network = load_checkpoint(result["best_checkpoint"]).build_network()
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    found = model.predict({"images": images})
    assert found["logit"] == pytest.approx(expected, abs=1e-4)
    assert found["activation_map"].shape == (3, 4, 4)


def test_alias_best_points_to_the_registered_run(client: Any, result: dict[str, Any]) -> None:
    version = client.get_model_version_by_alias("faces", "best")
    assert (version.run_id, version.tags["objective"]) == (result["run_id"], "val/video_auroc")


def test_repeated_registration_creates_one_version(tmp_path: Path) -> None:
    client, experiment = open_experiment(Store(None, str(tmp_path / "mlflow.db"), str(tmp_path / "artifacts"), "faces"))
    outbox = Outbox(client, uri="", run_id=client.create_run(experiment).info.run_id, folder=tmp_path)
    for objective in (0.5, 0.5, 0.75):
        outbox.send(Message("register", {"name": "faces", "objective_key": "val/auroc", "objective": objective}))
    versions = client.search_model_versions("name = 'faces'")
    assert sorted(version.tags["value"] for version in versions) == ["0.5", "0.75"]
    assert client.get_model_version_by_alias("faces", "best").tags["value"] == "0.75"
