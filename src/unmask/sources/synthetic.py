"""Synthetic source: talking heads drawn and forged by Unmask, for trying the pipeline without a download."""

from pathlib import Path

from unmask.errors import SourceError
from unmask.forgeries import Forgeries
from unmask.forging.swap import FORGERS
from unmask.paths import show_command
from unmask.sources.ffpp import FaceForensics
from unmask.synthetic.layout import COMPRESSION
from unmask.synthetic.write import SyntheticSpec, write_source
from unmask.types import Video

RECORD = "synthetic.json"


class SyntheticFaces:
    """Draw talking heads, forge their faces with four methods, and write them in the layout of FaceForensics++.

    Results on this source show that the pipeline works; they say nothing about detecting real deepfakes.

    Args:
        root: Folder to write; may exist if it was written with the same parameters.
        num_identities: Number of people, each with one real video and four forgeries of it; even, at least 6.
        num_frames: Number of frames per video.
        fps: Frame rate in frames per second.
        size: Side of the square frames in pixels.
        crf: Constant rate factor of x264; 23 is the c23 of FaceForensics++.
        seed: Seed of all random choices.
        val_fraction: Share of the identity pairs for validation.
        test_fraction: Share of the identity pairs for test.
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

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize a folder that this source has written."""
        return f"'{RECORD}'" if (root / RECORD).is_file() else None

    def create(self, *, num_workers: int) -> None:
        """Draw and forge the videos that do not exist yet.

        Args:
            num_workers: Number of worker processes; 0 runs in this process.

        Raises:
            SourceError: `root` contains other files.
        """
        write_source(self.root, self.spec, num_workers=num_workers)

    def list_videos(self) -> list[Video]:
        """Return every video, real and forged, with its identities and split."""
        if not (self.root / RECORD).is_file():
            raise SourceError(
                f"No synthetic source in '{self.root}'. Create it first: "
                + show_command("prepare.py", "source=synthetic", f"source.root={self.root}", "output=...")
            )
        layout = FaceForensics(
            self.root,
            name=self.name,
            compression=COMPRESSION,
            methods=tuple(FORGERS),
            splits=self.root / "splits",
        )
        videos = layout.list_videos()
        self.unexpected = layout.unexpected
        return videos
