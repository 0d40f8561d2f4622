"""A sampler: every method of forging as often as every other."""

import numpy as np
import numpy.typing as npt
import pandas as pd


class BalancedMethods:
    """Draw as many crops of each method, the originals among them, with replacement.

    Args:
        per_method: Number of crops of each method in an epoch.
    """

    def __init__(self, per_method: int = 100) -> None:
        self.per_method = per_method

    def draw(self, table: pd.DataFrame, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return the rows of an epoch, in order."""
        groups = table.groupby("method", sort=True).indices.values()
        return rng.permutation(np.concatenate([rng.choice(rows, self.per_method) for rows in groups]))
