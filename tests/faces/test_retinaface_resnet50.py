import importlib.util
import pickle
import sys
import urllib.error
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from unmask.errors import DetectorError
from unmask.faces.retinaface_resnet50 import WEIGHTS_URL, RetinaFaceResNet50
from unmask.types import Image

if importlib.util.find_spec("retinaface") is None:
    pytest.skip("retinaface-pytorch is not installed", allow_module_level=True)

NOTHING = [np.zeros((32, 32, 3), np.uint8)]


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded weights whose classifier is confident at a few places, so that something is found."""
    import torch
    from retinaface.network import RetinaFace

    torch.manual_seed(0)
    layers = {"layer2": 1, "layer3": 2, "layer4": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = RetinaFace("Resnet50", pretrained=False, in_channels=256, return_layers=layers, out_channels=256)
    for head in network.ClassHead:
        head.conv1x1.weight.data.mul_(20)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def images() -> list[Image]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in [(96, 128), (96, 128), (64, 80), (96, 128)]]


def test_a_batch_finds_what_each_image_alone_does(random_weights: Path, images: list[Image]) -> None:
    detector = RetinaFaceResNet50(weights=str(random_weights), confidence=0.5, batch_size=2, device="cpu")
    together = detector.detect(images)
    assert all(together)
    for faces, image in zip(together, images, strict=True):
        [alone] = detector.detect([image])
        assert len(faces) == len(alone)
        for one, other in zip(faces, alone, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-2)
            assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
            assert np.array(one.landmarks) == pytest.approx(np.array(other.landmarks), abs=1e-2)


def test_faces_are_those_of_the_packages_own_prediction(
    random_weights: Path, images: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from retinaface.predict_single import Model

        model = Model(max_size=128)
    model.load_state_dict(torch.load(random_weights, weights_only=True))
    model.eval()
    theirs = model.predict_jsons(images[0], confidence_threshold=0.5, nms_threshold=0.4)
    [ours] = RetinaFaceResNet50(weights=str(random_weights), confidence=0.5, device="cpu").detect(images[:1])
    by_box = {tuple(found["bbox"]): found for found in theirs}
    inside = [face for face in ours if tuple(round(value, 2) for value in face.box) in by_box]
    assert len(inside) > 0.9 * len(theirs) > 0  # the package drops boxes outside the image, and rounds
    for face in inside:
        found = by_box[tuple(round(value, 2) for value in face.box)]
        assert face.confidence == pytest.approx(found["score"], abs=0.006)
        assert np.array(face.landmarks) == pytest.approx(np.array(found["landmarks"]), abs=0.02)


def test_no_face_is_an_empty_list(random_weights: Path, images: list[Image]) -> None:
    assert RetinaFaceResNet50(weights=str(random_weights), confidence=1.0).detect(images[:1]) == [[]]


def test_large_images_are_shrunk_and_their_boxes_scaled_back(random_weights: Path, images: list[Image]) -> None:
    big = np.kron(images[2], np.ones((4, 4, 1), np.uint8))
    options = {"weights": str(random_weights), "confidence": 0.5, "device": "cpu"}
    [small_faces] = RetinaFaceResNet50(**options).detect([images[2]])  # type: ignore[arg-type]
    [big_faces] = RetinaFaceResNet50(**options, max_side=80).detect([big])  # type: ignore[arg-type]
    assert np.array([face.box for face in big_faces]) == pytest.approx(
        np.array([face.box for face in small_faces]) * 4, abs=0.05
    )


def test_weights_in_a_zip_as_released_are_the_same_weights(
    random_weights: Path, images: list[Image], tmp_path: Path
) -> None:
    import torch

    # The release is in the format of torch before 1.6.
    old = tmp_path / "old.pth"
    torch.save(torch.load(random_weights, weights_only=True), old, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(tmp_path / "released.zip", "w") as archive:
        archive.write(old, "retinaface_resnet50.pth")
    zipped, plain = (
        RetinaFaceResNet50(weights=str(path), confidence=0.5, device="cpu") for path in (tmp_path / "released.zip", old)
    )
    assert zipped.detect(images[:1]) == plain.detect(images[:1])
    assert zipped.weights_sha256 == plain.weights_sha256
    assert plain.weights_sha256 != RetinaFaceResNet50(weights=str(random_weights)).weights_sha256


def test_pickled_after_use_it_finds_the_same(random_weights: Path, images: list[Image]) -> None:
    detector = RetinaFaceResNet50(weights=str(random_weights), confidence=0.5)
    before = detector.detect(images[2:3])
    data = pickle.dumps(detector)
    assert len(data) < 10_000
    assert pickle.loads(data).detect(images[2:3]) == before


def test_without_network_the_error_names_the_file_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def fail(url: str, place: str) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(DetectorError) as caught:
        RetinaFaceResNet50().detect(NOTHING)
    place = tmp_path / "hub" / "checkpoints" / "retinaface_resnet50_2020-07-20-f168fae3c.zip"
    for part in (WEIGHTS_URL, str(place), "no route", "detector.weights=<file>"):
        assert part in str(caught.value)


def test_downloaded_weights_are_used_where_the_package_keeps_them(
    random_weights: Path, images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def pretend(url: str, place: str) -> None:
        assert url == WEIGHTS_URL
        with zipfile.ZipFile(place, "w") as archive:
            archive.write(random_weights, "retinaface.pth")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", pretend)
    assert RetinaFaceResNet50(confidence=0.5).detect(images[:1])[0]
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_: pytest.fail("downloaded again"))
    assert RetinaFaceResNet50().weights_sha256 == RetinaFaceResNet50(weights=str(random_weights)).weights_sha256


def test_address_is_that_of_the_package() -> None:
    spec = importlib.util.find_spec("retinaface.pre_trained_models")
    assert spec is not None
    assert spec.origin is not None
    assert f'"{WEIGHTS_URL}"' in Path(spec.origin).read_text()


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "retinaface.network", None)
    with pytest.raises(DetectorError, match=r"uv pip install --no-deps retinaface-pytorch==0.0.8"):
        RetinaFaceResNet50().detect(NOTHING)


def test_absent_damaged_and_foreign_weights_are_named(tmp_path: Path) -> None:
    import torch

    damaged, listed, foreign = (tmp_path / name for name in ("damaged.pth", "list.pth", "foreign.pth"))
    damaged.write_bytes(b"not a checkpoint")
    torch.save([1, 2], listed)
    torch.save({"weight": torch.zeros(1)}, foreign)
    for path, message in [
        (tmp_path / "absent.pth", "No such file"),
        (damaged, "cannot be read"),
        (listed, "list instead of a state dict"),
        (foreign, "weights of another network"),
    ]:
        with pytest.raises(DetectorError, match=message) as caught:
            RetinaFaceResNet50(weights=str(path)).detect(NOTHING)
        assert str(path) in str(caught.value)


def test_an_unusable_device_is_named_with_the_choices(random_weights: Path) -> None:
    with pytest.raises(DetectorError, match=r"detector.device='gpu'.*Choose auto, cpu or cuda"):
        RetinaFaceResNet50(weights=str(random_weights), device="gpu").detect(NOTHING)


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_does(random_weights: Path, images: list[Image]) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    cpu, gpu = (
        RetinaFaceResNet50(weights=str(random_weights), confidence=0.5, device=device).detect(images[:1])[0]
        for device in ("cpu", "cuda")
    )
    assert len(cpu) == pytest.approx(len(gpu), abs=3)
    assert cpu[0].box == pytest.approx(gpu[0].box, abs=1)
