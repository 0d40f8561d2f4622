"""DeepFakeDetection, Google's videos of actors in FaceForensics++ (Dufour and Gully, 2019)."""

import logging
from pathlib import Path

from unmask.sources.ffpp import ACTORS, DEEP_FAKE_DETECTION, Clips, Tree, account_for
from unmask.sources.folders import DownloadedSource, note_unexpected, quote_some
from unmask.sources.labels import PeopleSplit
from unmask.sources.recognition import refuse_layout
from unmask.types import ORIGINAL, Label, Video

logger = logging.getLogger(__name__)


class DeepFakeDetection(DownloadedSource):
    """Read `original_sequences/actors` and `manipulated_sequences/DeepFakeDetection` of the FaceForensics++ layout.

    Kaggle's flat copy has only `DeepFakeDetection/`. `24__walking.mp4` shows actor 24;
    `24_07__walking__A1B2C3D4.mp4` shows the face of 07 on actor 24.

    Args:
        root: Folder that contains `original_sequences` and `manipulated_sequences`, or `DeepFakeDetection`.
        name: First part of every `video_id`.
        compression: `raw`, `c23` or `c40`.
        splits: `test` puts everything into test, as the dataset usually serves for cross-dataset evaluation; `actor`
            splits by actor, and drops fakes that mix actors from two splits.
        val_fraction: Share of the actors for validation, with `actor`.
        test_fraction: Share of the actors for test, with `actor`.
        seed: Seed of the split, with `actor`.
        media: `videos`, `images` or `frames`; None for the first that exists.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "dfd",
        compression: str = "c23",
        splits: str = "test",
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
        seed: int = 0,
        media: str | None = None,
        follow_links: bool = False,
    ) -> None:
        self.root = Path(root)
        self.name = name
        self.compression = compression
        self.split = PeopleSplit(splits, val_fraction, test_fraction, seed, by="actor")
        self.tree = Tree(self.root, compression, media)
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize the folder of fakes in the official or flat layout, or the folder of actors."""
        folders = (f"manipulated_sequences/{DEEP_FAKE_DETECTION}", DEEP_FAKE_DETECTION, f"original_sequences/{ACTORS}")
        return next((f"'{folder}/'" for folder in folders if (root / folder).is_dir()), None)

    def list_videos(self) -> list[Video]:
        """Return every video that exists; the dataset has no list of its videos."""
        self._start_listing()
        originals, forgeries = self.tree.list_originals(ACTORS), self.tree.list_fakes(DEEP_FAKE_DETECTION)
        if not originals.names and not forgeries.names:
            raise refuse_layout(
                self.root,
                source="dfd",
                layout="DeepFakeDetection",
                looked_for=f"videos in '{forgeries.folder}' and in '{originals.folder}'",
                advice="Set source.root to the folder that contains 'manipulated_sequences' or 'DeepFakeDetection', "
                "and source.compression to one that exists.",
            )
        account_for(self, [originals, forgeries])
        for method, clips in ((ORIGINAL, originals), (DEEP_FAKE_DETECTION, forgeries)):
            if not clips.names:
                logger.warning("No videos in '%s': the dataset will have only one class.", clips.folder)
            if clips.others:
                logger.warning("Skipped in '%s': %s.", clips.folder, quote_some(clips.others))
            note_unexpected(self, f"{method} {self.compression}", "of another kind", clips.others)
            note_unexpected(self, f"{method} {self.compression}", "hidden or unfinished", clips.passed_over)
        videos = [self._make_real(name, originals) for name in originals.names]
        known = {video.video_id for video in videos}
        videos += [self._make_fake(name, forgeries, known) for name in forgeries.names]
        return self.split.apply(videos)

    def _make_real(self, name: str, clips: Clips) -> Video:
        return Video(
            video_id=self._make_id(ORIGINAL, name),
            path=clips.path(name),
            label=Label.REAL,
            method=ORIGINAL,
            kind=clips.kind,
            compression=self.compression,
            identities=(self._person(name.partition("__")[0]),),
        )

    def _make_fake(self, name: str, clips: Clips, known: set[str]) -> Video:
        people, _, rest = name.partition("__")
        target, _, donor = people.partition("_")
        original = self._make_id(ORIGINAL, f"{target}__{rest.rpartition('__')[0]}")
        return Video(
            video_id=self._make_id(DEEP_FAKE_DETECTION, name),
            path=clips.path(name),
            label=Label.FAKE,
            method=DEEP_FAKE_DETECTION,
            kind=clips.kind,
            compression=self.compression,
            identities=tuple(self._person(person) for person in (target, donor) if person),
            original=original if original in known else None,
        )

    def _person(self, number: str) -> str:
        return f"actor {number}"

    def _make_id(self, method: str, name: str) -> str:
        return "/".join((self.name, method, self.compression, name))
