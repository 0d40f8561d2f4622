import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unmask.errors import DetectorError
from unmask.faces.boxes import box_area, overlaps
from unmask.faces.retinaface_mobilenet import MOBILENET_SHA256, RetinaFaceMobileNet, _merge
from unmask.faces.track import follow_largest
from unmask.media.image import read_image
from unmask.media.video import read_frames
from unmask.types import Face, Image

DrawHead = Callable[..., Image]


def test_drawn_head_is_found_with_its_landmarks_as_the_viewer_sees_them(
    mobilenet: RetinaFaceMobileNet, draw_head: DrawHead
) -> None:
    [[face]] = mobilenet.detect([draw_head(centre=(200, 130), radius=50)])
    x1, y1, x2, y2 = face.box
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((200, 130), abs=15)
    assert 60 < x2 - x1 < 110
    assert face.landmarks is not None
    expected = [(183.5, 120), (216.5, 120), (200, 138), (190, 155), (210, 155)]
    assert np.abs(np.array(face.landmarks) - expected).max() < 12
    assert 0.7 < face.confidence <= 1
    assert all(type(value) is float for value in (*face.box, *face.landmarks[0], face.confidence))


def test_faces_come_largest_first(mobilenet: RetinaFaceMobileNet, draw_head: DrawHead) -> None:
    image = np.hstack([draw_head(radius=30), draw_head(radius=70)])
    [faces] = mobilenet.detect([image])
    assert len(faces) == 2
    assert box_area(faces[0].box) > 2 * box_area(faces[1].box)


def test_large_images_are_shrunk_and_their_boxes_scaled_back(mobilenet_file: Path, draw_head: DrawHead) -> None:
    image = draw_head(height=720, width=1100, centre=(800, 300), radius=150)
    detector = RetinaFaceMobileNet(weights=str(mobilenet_file), max_side=320)
    [[face]] = detector.detect([image])
    x1, y1, x2, y2 = face.box
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((800, 300), abs=45)
    assert 180 < x2 - x1 < 330


def test_boxes_reach_beyond_the_frame(mobilenet: RetinaFaceMobileNet, draw_head: DrawHead) -> None:
    [[face]] = mobilenet.detect([draw_head(height=240, centre=(160, 225), radius=60)])
    assert face.box[3] > 250


def test_a_face_does_not_depend_on_the_images_beside_it(mobilenet: RetinaFaceMobileNet, draw_head: DrawHead) -> None:
    images = [draw_head(), draw_head(height=300, width=201, centre=(90, 150)), draw_head(radius=40)]
    together = mobilenet.detect(images)
    assert together == [mobilenet.detect([image])[0] for image in images]
    assert [len(faces) for faces in together] == [1, 1, 1]


def test_pickled_after_use_it_finds_the_same(mobilenet: RetinaFaceMobileNet, draw_head: DrawHead) -> None:
    before = mobilenet.detect([draw_head()])
    assert pickle.loads(pickle.dumps(mobilenet)).detect([draw_head()]) == before


@pytest.mark.parametrize("shape", [(20, 20), (1, 1), (1, 500), (9, 40), (300, 400)])
@pytest.mark.parametrize("grey", [0, 127, 255])
def test_images_with_nothing_to_see_hold_no_face(
    mobilenet: RetinaFaceMobileNet, shape: tuple[int, int], grey: int
) -> None:
    assert mobilenet.detect([np.full((*shape, 3), grey, np.uint8)]) == [[]]


def test_network_sees_blue_green_red_less_their_means() -> None:
    seen = []

    class Network:
        def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            seen.append(inputs["input"])
            return [np.zeros((1, 6, size), np.float32) for size in (4, 2, 10)]

    detector = RetinaFaceMobileNet()
    detector._session = Network()
    assert detector.detect([np.full((8, 8, 3), (200, 150, 100), np.uint8)]) == [[]]
    assert seen[0].shape == (1, 3, 8, 8)
    assert seen[0][0, :, 3, 3].tolist() == [100 - 104, 150 - 117, 200 - 127]


def test_no_images_give_no_faces(mobilenet: RetinaFaceMobileNet) -> None:
    assert mobilenet.detect([]) == []


def test_confidence_decides_what_is_kept(mobilenet_file: Path, draw_head: DrawHead) -> None:
    assert RetinaFaceMobileNet(weights=str(mobilenet_file), confidence=1.0).detect([draw_head()]) == [[]]


def test_hash_of_the_default_weights_needs_no_file(monkeypatch: pytest.MonkeyPatch, mobilenet_file: Path) -> None:
    assert RetinaFaceMobileNet(weights=str(mobilenet_file)).weights_sha256 == MOBILENET_SHA256
    monkeypatch.setenv("UNMASK_CACHE", "/nowhere")
    assert RetinaFaceMobileNet().weights_sha256 == MOBILENET_SHA256


def test_absent_and_foreign_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"No such file: detector\.weights='/nowhere/a.onnx'"):
        RetinaFaceMobileNet(weights="/nowhere/a.onnx").detect([np.zeros((9, 9, 3), np.uint8)])
    path = tmp_path / "b.onnx"
    path.write_text("no network")
    with pytest.raises(DetectorError, match=r"b.onnx' \(detector.weights\) is not an ONNX model"):
        RetinaFaceMobileNet(weights=str(path)).detect([np.zeros((9, 9, 3), np.uint8)])


def test_real_photographs_have_their_face(mobilenet: RetinaFaceMobileNet, real_data: Path) -> None:
    images = [read_image(path) for path in sorted((real_data / "real_faces").glob("*.jpg"))[::8]]
    faces = mobilenet.detect(images)
    assert len(faces) == 30
    assert all(faces)
    assert sum(len(found) for found in faces) <= 31


def test_every_frame_of_a_real_video_has_the_one_person(mobilenet: RetinaFaceMobileNet, real_data: Path) -> None:
    frames = [frame.image for frame in read_frames(real_data / "real_video" / "carphone.mp4")]
    followed = follow_largest(mobilenet.detect(frames))
    assert len(followed) == 120
    assert None not in followed


def test_a_first_search_finds_the_large_and_the_small_face(mobilenet_file: Path, draw_head: DrawHead) -> None:
    image = draw_head(height=720, width=1280, centre=(300, 360), radius=200)
    image[60:260, 1000:1200] = draw_head(height=200, width=200, centre=(100, 100), radius=40)
    whole = RetinaFaceMobileNet(weights=str(mobilenet_file)).detect([image])[0]
    twice = RetinaFaceMobileNet(weights=str(mobilenet_file), first_side=320).detect([image])[0]
    assert [len(whole), len(twice)] == [2, 2]
    for face, other in zip(whole, twice, strict=True):
        assert overlaps(np.array(face.box), np.array([other.box]))[0] > 0.75
        assert face.landmarks is not None
        assert other.landmarks is not None
        distance = np.linalg.norm(np.array(face.landmarks) - np.array(other.landmarks), axis=1).max()
        assert distance < 0.12 * (face.box[2] - face.box[0])


def test_after_a_first_search_only_parts_are_searched(
    mobilenet_file: Path, draw_head: DrawHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = RetinaFaceMobileNet(weights=str(mobilenet_file), first_side=320)
    sizes: list[tuple[int, int]] = []
    search = detector._search

    def watch(image: Image, **options: Any) -> list[Face]:
        sizes.append((image.shape[1], image.shape[0]))
        return search(image, **options)

    monkeypatch.setattr(detector, "_search", watch)
    [faces] = detector.detect([draw_head(height=480, width=640, centre=(320, 240), radius=150)])
    assert len(faces) == 1
    assert sizes[0] == (320, 240)
    assert (640, 480) not in sizes
    sizes.clear()
    assert detector.detect([np.full((480, 640, 3), 127, np.uint8)]) == [[]]
    assert sizes == [(320, 240), (640, 480)]  # nothing was found, so the whole image is searched
    sizes.clear()
    detector.detect([draw_head(height=240, width=320)])
    assert sizes == [(320, 240)]  # a smaller search would save nothing


def test_a_first_search_loses_no_face_of_real_photographs(mobilenet_file: Path, real_data: Path) -> None:
    images = [read_image(path) for path in sorted((real_data / "real_faces").glob("*.jpg"))[::8]]
    frames = [np.tile(image, (2, 2, 1)) for image in images]  # large enough for two searches
    whole = RetinaFaceMobileNet(weights=str(mobilenet_file)).detect(frames)
    twice = RetinaFaceMobileNet(weights=str(mobilenet_file), first_side=320).detect(frames)
    assert sum(map(len, twice)) >= sum(map(len, whole)) >= 4 * 29


def test_parts_that_overlap_become_one() -> None:
    assert _merge([(0, 0, 64, 64), (96, 0, 128, 64), (32, 32, 100, 40), (0, 96, 32, 128)]) == [
        (0, 0, 128, 64),
        (0, 96, 32, 128),
    ]
    assert _merge([]) == []
