"""How a predictor is set up: the keys that `predict.yaml`, `serve.yaml` and the web app share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from unmask.decision import MARGIN
from unmask.inference.deciding import Deciding
from unmask.inference.limits import Limits

if TYPE_CHECKING:
    from unmask.inference.predictor import Predictor


@dataclass(frozen=True)
class PredictorSettings:
    """Keywords of `Predictor.load`, kept until a model is loaded, in this process or another.

    Args:
        device: `auto`, `cpu`, `cuda` ...
        threshold: None for the one in the checkpoint, chosen on the validation split.
        margin: How much of the way from the threshold to 0, and to 1, is `uncertain`.
        batch_size: Crops scored at once.
        num_frames: Looked at per video; None for as many as the model's training data had.
        every_n: Looks at every n-th frame of a video instead.
        detector_weights: File of the detector's weights; None for those it fetches itself.
        trusted_modules: Packages whose networks and detectors may be built from the file; see `unmask.trust`.
        limits: How much of one file is looked at.
        deciding: Which of several faces decides.
    """

    device: str = "auto"
    threshold: float | None = None
    margin: float = MARGIN
    batch_size: int = 32
    num_frames: int | None = None
    every_n: int | None = None
    detector_weights: str | None = None
    trusted_modules: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    deciding: Deciding = field(default_factory=Deciding)

    @classmethod
    def from_config(cls, cfg: Mapping[Any, Any]) -> Self:
        """Take the keys of this class out of a configuration that may have more.

        Raises:
            ConfigError: A limit is not above 0, or `deciding` names no face.
        """
        values = {name: cfg[name] for name in cls.__dataclass_fields__ if name not in ("limits", "deciding")}
        values["trusted_modules"] = tuple(values["trusted_modules"])
        return cls(**values, limits=Limits(**cfg["limits"]), deciding=Deciding(**cfg["deciding"]))

    def load(self, path: str | Path, *, num_threads: int | None = None, maps: bool = True) -> "Predictor":
        """Load a model; see `Predictor.load`."""
        from unmask.inference.predictor import Predictor

        return Predictor.load(path, num_threads=num_threads, maps=maps, **vars(self))
