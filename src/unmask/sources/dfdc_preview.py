"""DFDC Preview dataset (Dolhansky et al., The Deepfake Detection Challenge (DFDC) Preview Dataset, 2019)."""

import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from unmask.errors import SourceError, list_problems
from unmask.sources.folders import (
    DownloadedSource,
    kind_of,
    list_root,
    note_unexpected,
    quote_some,
    warn_of_absent,
)
from unmask.sources.labels import check_fraction, split_around_test
from unmask.sources.reading import read_entries
from unmask.sources.recognition import refuse_layout
from unmask.types import ORIGINAL, Label, Video

TABLE = "dataset.json"

_ORIGINALS, _METHODS = "original_videos", ("method_A", "method_B")
_PARTS = (*_METHODS, _ORIGINALS)
_LABELS = {"real": Label.REAL, "fake": Label.FAKE}
_SETS = ("train", "test")

logger = logging.getLogger(__name__)


class DFDCPreview(DownloadedSource):
    """Read `dataset.json`, `original_videos/<actor>/*.mp4` and `method_A/<actor>/<clip>/*.mp4`.

    Test is as the table says; validation shows other people than training. The parts may be one level deeper, in
    `<part>/videos/`, and `<part>/frames/` holds extracted frames, one folder per video.

    Args:
        root: Folder that contains `dataset.json`.
        name: First part of every `video_id`.
        val_fraction: Share of the people outside the test set for validation.
        seed: Seed of the validation split.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "dfdc_preview",
        val_fraction: float = 0.15,
        seed: int = 0,
        follow_links: bool = False,
    ) -> None:
        check_fraction("val_fraction", val_fraction)
        self.root = Path(root)
        self.name = name
        self.val_fraction = val_fraction
        self.seed = seed
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize the table by its keys, or the folders of originals and of a method."""
        path = root / TABLE
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                head = file.read(400)
            if any(f'"{part}/' in head for part in _PARTS):
                return f"'{TABLE}'"
        there = [part for part in _PARTS if (root / part).is_dir()]
        return f"'{there[0]}/' and '{there[-1]}/'" if _ORIGINALS in there and len(there) > 1 else None

    def list_videos(self) -> list[Video]:
        """Return every video in the table, whether it exists or not."""
        self._start_listing()
        if self.recognize(self.root) is None:
            raise refuse_layout(
                self.root, source="dfdc_preview", layout="the DFDC Preview dataset",
                looked_for=f"'{TABLE}' with keys such as '{_METHODS[0]}/643049/643049_A/x.mp4', and '{_ORIGINALS}/'",
            )  # fmt: skip
        entries = self._read_table()
        warn_of_absent(self.root, [part for part in _PARTS if not (self.root / part).is_dir()])
        videos = {key: self._make_video(key, entries) for key in sorted(entries)}
        self._count_unlisted(videos)
        parts: dict[str, list[Video]] = {name: [] for name in _SETS}
        for key, video in videos.items():
            parts[str(entries[key]["set"]).lower()].append(video)
        return split_around_test(
            parts["test"], parts["train"], val_fraction=self.val_fraction, seed=self.seed, known_leaks=self.known_leaks
        )

    def _read_table(self) -> Mapping[str, Mapping[str, Any]]:
        path = self.root / TABLE
        if not path.is_file():
            raise SourceError(
                f"No table '{path}', which holds the labels and the split. Download it again and put it there."
            )
        self.read.add(path)
        entries = read_entries(path, example='{"method_A/1/1_A/a.mp4": {"label": "fake", "set": "train"}}')
        problems = [
            f"{key}: label '{entry.get('label')}', set '{entry.get('set')}'" for key, entry in entries.items()
            if str(entry.get("label")).lower() not in _LABELS or str(entry.get("set")).lower() not in _SETS
        ]  # fmt: skip
        if problems or not entries:
            raise SourceError(
                f"{len(problems)} of the {len(entries)} entries of '{path}' have a label other than real or fake, or a "
                f"set other than train or test:\n{list_problems(problems)}\nDownload the table again."
            )
        return entries

    def _make_video(self, key: str, entries: Mapping[str, Mapping[str, Any]]) -> Video:
        entry = entries[key]
        part, _, rest = key.partition("/")
        label = _LABELS[str(entry["label"]).lower()]
        path = self._find_path(part, rest)
        actors = [rest.partition("/")[0]] if "/" in rest else []
        given = [str(entry[name]) for name in ("target_id", "swapped_id") if entry.get(name) not in (None, "")]
        original = self._find_original(rest, entries) if label == Label.FAKE else None
        return Video(
            video_id=self._make_id(key, label),
            path=path,
            label=label,
            method=part if label == Label.FAKE else ORIGINAL,
            kind=kind_of(path),
            identities=tuple(dict.fromkeys([*actors, *given])),
            original=original,
        )

    def _find_path(self, part: str, rest: str) -> Path:
        """Return where a video or its frames exist, or else where the table puts it."""
        frames = self.root / part / "frames"
        stem = PurePosixPath(rest).with_suffix("")
        places = (
            self.root / part / rest, self.root / part / "videos" / rest, frames / stem, frames / stem.name,
            self.root / part / stem,
        )  # fmt: skip
        return next((place for place in places if place.exists()), places[0])

    def _find_original(self, rest: str, entries: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Return the original of `<actor>/<actor>_A/<donor>_<actor>_A_001.mp4`, if the table lists it."""
        actor, _, _ = rest.partition("/")
        name = PurePosixPath(rest).name
        key = f"{_ORIGINALS}/{actor}/{actor}{name.partition(actor)[2]}"
        return self._make_id(key, Label.REAL) if key in entries else None

    def _make_id(self, key: str, label: Label) -> str:
        part, _, rest = PurePosixPath(key).with_suffix("").as_posix().partition("/")
        return "/".join((self.name, part if label == Label.FAKE else ORIGINAL, rest))

    def _count_unlisted(self, videos: Mapping[str, Video]) -> None:
        known = {video.path for video in videos.values()}
        others = [
            path.relative_to(self.root) for path in list_root(self.root, source=self).files
            if path not in known and path.parent not in known
        ]  # fmt: skip
        if others:
            logger.warning(
                "Skipped %d files in '%s' that '%s' does not list: %s.", len(others), self.root, TABLE,
                quote_some(path.as_posix() for path in others),
            )  # fmt: skip
        for part in ("", *_PARTS):
            names = [path.as_posix() for path in others if part == (path.parts[0] if path.parts[0] in _PARTS else "")]
            note_unexpected(self, part, f"not in '{TABLE}'", names)

    def part_of(self, video: Video) -> str:
        """Return the folder of a video, such as `original_videos` or `method_A`."""
        return video.method if video.label == Label.FAKE else _ORIGINALS
