from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet, mobilenet_weights
from unmask.types import Box, Face, Image

DATA = Path(__file__).parents[3] / "shared" / "data"


def _draw_head(
    *, height: int = 240, width: int = 320, centre: tuple[float, float] = (160, 120), radius: float = 50
) -> Image:
    """A shaded egg with eyes, brows, nose and mouth on a plain background."""
    image = np.full((height, width, 3), (70, 95, 120), np.uint8)

    def ellipse(x: float, y: float, axes: tuple[float, float], colour: tuple[int, int, int]) -> None:
        place = round(centre[0] + x * radius), round(centre[1] + y * radius)
        size = max(round(axes[0] * radius), 1), max(round(axes[1] * radius), 1)
        cv2.ellipse(image, place, size, 0, 0, 360, colour, -1, cv2.LINE_AA)

    ellipse(0, -0.35, (0.95, 1.1), (50, 35, 25))
    ellipse(0, 0, (0.78, 1.05), (214, 165, 135))
    for side in (-1, 1):
        ellipse(side * 0.33, -0.38, (0.2, 0.05), (60, 40, 30))
        ellipse(side * 0.33, -0.2, (0.16, 0.09), (245, 240, 235))
        ellipse(side * 0.33, -0.2, (0.075, 0.085), (40, 30, 25))
    ellipse(0, 0.12, (0.1, 0.2), (190, 140, 112))
    ellipse(0, 0.5, (0.28, 0.09), (170, 75, 75))
    return cv2.GaussianBlur(image, (0, 0), max(radius / 40, 0.5))


@pytest.fixture(scope="session")
def draw_head() -> Callable[..., Image]:
    return _draw_head


@pytest.fixture(scope="session")
def mobilenet_file() -> Path:
    return mobilenet_weights()


@pytest.fixture(scope="session")
def mobilenet(mobilenet_file: Path) -> RetinaFaceMobileNet:
    return RetinaFaceMobileNet(weights=str(mobilenet_file))


@pytest.fixture
def make_face() -> Callable[..., Face]:
    def make(*box: float, confidence: float = 0.9, eyes: tuple[float, ...] | None = None) -> Face:
        points = ((eyes[0], eyes[1]), (eyes[2], eyes[3]), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)) if eyes else None
        corners: Box = (box[0], box[1], box[2], box[3])
        return Face(box=corners, landmarks=points, confidence=confidence)

    return make


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"no real photographs in '{DATA}'")
    return DATA
