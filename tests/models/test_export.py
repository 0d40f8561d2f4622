from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tests.networks import make_network

from unmask.models.bundle import export_onnx


@pytest.mark.parametrize(("name", "size", "cells"), [("tiny", 64, 4), ("resnet18", 96, 3)])
def test_exported_network_scores_alike_for_any_number_of_crops(
    tmp_path: Path, name: str, size: int, cells: int
) -> None:
    network = make_network(name=name, input_size=size, dropout=0.5).eval()
    export_onnx(network, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for count in (1, 5):
        images = np.random.default_rng(count).integers(0, 256, (count, 3, size, size), np.uint8)
        logit, activation_map = session.run(["logit", "activation_map"], {"images": images})
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        assert logit == pytest.approx(expected, abs=1e-4)
        assert activation_map.shape == (count, cells, cells)
        bias = network.head.bias.item()
        assert activation_map.mean((1, 2)) + bias == pytest.approx(logit, abs=1e-4)


def test_export_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = make_network(name="tiny", input_size=32).train()
    export_onnx(network, tmp_path / "folder" / "model.onnx")
    assert network.training
