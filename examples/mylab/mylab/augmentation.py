"""An augmentation that makes fakes: a patch of the face is moved over another place of it."""

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


class MovedPatch:
    """Serve real crops, and for each of them a fake with a patch from elsewhere in the same crop.

    Args:
        share: Side of the patch as a share of the crop's side.
    """

    makes_fakes = True
    needs_landmarks = False

    def __init__(self, share: float = 0.3) -> None:
        self.share = share
        self._rng = np.random.default_rng()

    def set_seed(self, seed: int) -> None:
        """Start the random draws anew."""
        self._rng = np.random.default_rng(seed)

    def __call__(self, crop: Image, landmarks: object = None) -> Image:
        """Return the real crop, mirrored half of the time."""
        return np.ascontiguousarray(crop[:, ::-1]) if self._rng.random() < 0.5 else crop

    def forge(self, crop: Image, landmarks: object) -> Image:
        """Return the crop with a patch moved."""
        forged = self(crop).copy()
        side = max(int(len(forged) * self.share), 1)
        (top, left), (row, column) = self._rng.integers(0, len(forged) - side, size=(2, 2))
        forged[row : row + side, column : column + side] = forged[top : top + side, left : left + side].copy()
        return forged
