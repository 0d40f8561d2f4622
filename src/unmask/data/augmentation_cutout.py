"""Parts of the face blacked out, so that a network does not rest on one of them.

After Seferbekov's winning solution of the Deepfake Detection Challenge (2020).
"""

from typing import Any

import albumentations as A
import cv2
import numpy as np

from unmask.data.outline import fit_outline, order_landmarks
from unmask.parameters import check_number
from unmask.types import Picture


class LandmarkCutout(A.ImageOnlyTransform):  # type: ignore[misc]
    """Black out the eyes, the nose or the mouth; failing that half of the face; failing that half of the picture.

    The landmarks are those that the steps before have moved.

    Args:
        part_p: Probability that a part is blacked out.
        half_face_p: Of half of the face, where no part was.
        half_picture_p: Of half of the picture, where neither was.
        p: Probability of the whole step.
    """

    needs_landmarks = True

    def __init__(
        self, *, part_p: float = 0.7, half_face_p: float = 0.2, half_picture_p: float = 0.1, p: float = 1.0
    ) -> None:
        for name, value in (("part_p", part_p), ("half_face_p", half_face_p), ("half_picture_p", half_picture_p)):
            check_number(name, value, least=0, most=1)
        super().__init__(p=p)
        self.part_p, self.half_face_p, self.half_picture_p = part_p, half_face_p, half_picture_p

    @property
    def targets_as_params(self) -> list[str]:
        """What `get_params_dependent_on_data` sees beside the picture."""
        return ["keypoints"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw what is blacked out, as a mask of the picture; None for nothing."""
        points = order_landmarks(np.asarray(data["keypoints"], np.float64)[:, :2])
        shape, draw = params["shape"][:2], self.py_random
        if draw.random() < self.part_p:
            return {"blackout": _draw_part(shape, points, part=draw.choice(("eyes", "nose", "mouth")))}
        mask = None
        if draw.random() < self.half_face_p:
            mask = np.zeros(shape, np.uint8)
            cv2.fillPoly(mask, [np.round(fit_outline(points)).astype(np.int32)], 1)
            mask &= _draw_half(shape, centre=points[2], side=draw.randrange(4))
        elif draw.random() < self.half_picture_p:
            mask = _draw_half(shape, centre=np.array(shape[::-1]) / 2, side=draw.randrange(4))
        return {"blackout": mask}

    def apply(self, img: Picture, blackout: Any, **params: Any) -> Picture:
        """Black it out."""
        return img if blackout is None else np.where(blackout[..., None] > 0, np.uint8(0), img)


def _draw_part(shape: tuple[int, int], points: Any, *, part: str) -> Any:
    """Draw a thick line from eye to eye, down the nose, or along the mouth."""
    left_eye, right_eye, nose, left_mouth, right_mouth = points
    distance = float(np.linalg.norm(right_eye - left_eye))
    start, end = {
        "eyes": (left_eye, right_eye),
        "nose": ((left_eye + right_eye) / 2, nose),
        "mouth": (left_mouth, right_mouth),
    }[part]
    mask = np.zeros(shape, np.uint8)
    first, last = (tuple(int(value) for value in np.round(point)) for point in (start, end))
    cv2.line(mask, first, last, 1, max(1, round(distance * 0.35)))
    return mask


def _draw_half(shape: tuple[int, int], *, centre: Any, side: int) -> Any:
    """Draw all that lies left, right, above or below a point."""
    column, row = (round(float(value)) for value in np.clip(centre, 0, shape[::-1]))
    mask = np.zeros(shape, np.uint8)
    mask[[np.s_[:, :column], np.s_[:, column:], np.s_[:row, :], np.s_[row:, :]][side]] = 1
    return mask
