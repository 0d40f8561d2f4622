"""Talking heads that Unmask draws and forges itself, so that everything can be tried without a download."""

from pathlib import Path

from unmask.errors import SourceError
from unmask.forgeries import Forgeries
from unmask.forging.swap import FORGERS
from unmask.paths import show_command
from unmask.sources.ffpp import FaceForensics
from unmask.synthetic.layout import COMPRESSION
from unmask.synthetic.write import SyntheticSpec, write_source
from unmask.types import Video


class SyntheticFaces:
    """Draw people, let them talk, forge their faces in four ways, and write it all in the layout of FaceForensics++.

    Results on it show that the machinery works; they say nothing about detecting real deepfakes.

    Args:
        root: Folder that is written, or was written before with the same parameters.
        num_identities: People, each with one real video and four forgeries of it; even, at least 6.
        num_frames: Frames of every video.
        fps: Frames a second.
        size: Side of the square frames in pixels.
        crf: Constant rate factor of x264; 23 is the c23 of FaceForensics++.
        seed: Of everything random.
        val_fraction: Share of the pairs of identities for validation.
        test_fraction: Share of the pairs of identities for test.
    """

    name = "synthetic"
    forgeries = Forgeries.DRAWN

    def __init__(
        self,
        root: str | Path,
        *,
        num_identities: int = 100,
        num_frames: int = 32,
        fps: float = 25,
        size: int = 256,
        crf: int = 23,
        seed: int = 0,
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
    ) -> None:
        self.root = Path(root)
        self.spec = SyntheticSpec(
            num_identities=num_identities,
            num_frames=num_frames,
            fps=fps,
            size=size,
            crf=crf,
            seed=seed,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
        )

    def create(self, *, num_workers: int) -> None:
        """Draw and forge every video that is not there yet.

        Args:
            num_workers: Processes; 0 works in this one.

        Raises:
            SourceError: `root` holds something else.
        """
        write_source(self.root, self.spec, num_workers=num_workers)

    def list_videos(self) -> list[Video]:
        """Return every video, real and forged, with its identities and split."""
        if not (self.root / "synthetic.json").is_file():
            raise SourceError(
                f"No synthetic source in '{self.root}'. Create it first: "
                + show_command("prepare.py", "source=synthetic", f"source.root={self.root}", "output=...")
            )
        return FaceForensics(
            self.root,
            name=self.name,
            compression=COMPRESSION,
            methods=tuple(FORGERS),
            splits=self.root / "splits",
        ).list_videos()
