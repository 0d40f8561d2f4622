"""Forged source: authentic photographs or videos, and face swaps made from them."""

import hashlib
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from unmask.errors import ConfigError, SourceError, list_problems, names_limit
from unmask.faces.detector import Detector, hash_weights, name_detector
from unmask.forgeries import Forgeries
from unmask.forging.swap import FORGERS
from unmask.media.image import MAX_PIXELS
from unmask.paths import show_command
from unmask.sources.ffpp import FaceForensics
from unmask.sources.folders import DownloadedSource, find_forgeries, kind_of, list_root
from unmask.sources.forge_work import Encoding, FoundFace, Medium, check_photographs, find_face, forge_pair
from unmask.synthetic.layout import (
    COMPRESSION,
    Layout,
    Pair,
    check_fractions,
    claim_root,
    pair_up,
    split_pairs,
    write_json,
    write_splits,
)
from unmask.synthetic.write import run_jobs
from unmask.types import MediaKind, Video

_FORGING = 1
"""Version of the forging code, so that files of different versions are not mixed in one folder."""

_MEDIA_PER_JOB = 8
"""Media per job; larger than 1 because a worker reloads the detector for every job."""

logger = logging.getLogger(__name__)


class ForgedMedia(DownloadedSource):
    """Pair authentic photographs or videos at random, swap the faces of each pair, and write originals and forgeries.

    Each medium counts as a separate identity, so a person who appears in two of them may end up in two splits.

    Args:
        root: Folder of authentic photographs or videos, at any depth.
        output: Folder to write, in the layout of FaceForensics++.
        detector: Face detector that returns landmarks.
        kind: `image` or `video`; None for whichever the folder contains.
        methods: Names of forging functions.
        num_frames: Number of frames per video, evenly spaced.
        max_side: Maximum longer side of written frames in pixels; larger frames are scaled down.
        max_pixels: Maximum number of pixels of an image or video frame; larger files are skipped.
        jpeg_quality: JPEG quality of written images.
        crf: Constant rate factor of written videos.
        seed: Seed of the pairing.
        val_fraction: Share of the pairs for validation.
        test_fraction: Share of the pairs for test.
        frames_of: `none` if each image shows another person; None to refuse folders of images that are numbered anew in
            each, as the frames of one video are.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    name = "forge"

    is_generic = True

    def __init__(
        self,
        root: str | Path,
        output: str | Path,
        *,
        detector: Detector | None,
        kind: str | None = None,
        methods: Sequence[str] = tuple(FORGERS),
        num_frames: int = 48,
        max_side: int = 640,
        max_pixels: int = MAX_PIXELS,
        jpeg_quality: int = 95,
        crf: int = 23,
        seed: int = 0,
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
        frames_of: str | None = None,
        follow_links: bool = False,
    ) -> None:
        _check_arguments(detector=detector, kind=kind, methods=methods)
        check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
        self.root = Path(root)
        self.output = Path(output)
        self.detector = detector
        self.kind = MediaKind(kind) if kind else None
        self.methods = tuple(methods)
        self.num_frames = num_frames
        self.max_side = max_side
        self.max_pixels = max_pixels
        self.encoding = Encoding(jpeg_quality, crf)
        self.seed = seed
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        if frames_of not in (None, "none"):
            raise ConfigError(f"source.frames_of='{frames_of}' is unknown. Choose none or null.")
        self.frames_of = frames_of
        self.follow_links = follow_links

    @property
    def forgeries(self) -> Forgeries:
        """Who made the fakes: Unmask, from drawn faces if `root` is a drawn source."""
        return Forgeries.DRAWN if find_forgeries(self.root) is Forgeries.DRAWN else Forgeries.SELF_MADE

    def create(self, *, num_workers: int) -> None:
        """Detect faces, pair media and forge; resumes an interrupted run.

        Args:
            num_workers: Number of worker processes; 0 runs in this process.

        Raises:
            SourceError: There are no two usable media, or `output` contains other files.
        """
        self._start_listing()
        kind, paths = _choose_media(self, self.kind)
        digits = max(3, len(str(len(paths) - 1)))
        media = [
            Medium(f"{number:0{digits}d}", path, kind, self.num_frames, self.max_side, self.max_pixels)
            for number, path in enumerate(paths)
        ]
        parameters = self._describe(paths)
        claim_root(self.output, record="parameters.json", parameters=parameters, key="source.output")
        found = self._find_faces(media, num_workers=num_workers)
        usable = [medium.name for medium in media if not found[medium.name].problem]
        self._check_usable(usable, found, media)
        pairs = pair_up(usable, seed=self.seed)
        self._write_pairs(pairs, media, kind, num_workers=num_workers)
        self._write_lists(pairs, media, found, kind)

    def list_videos(self) -> list[Video]:
        """Return every original and forgery, with its identities and split."""
        if not (self.output / "forge.json").is_file():
            raise SourceError(
                f"No forged source in '{self.output}'. Create it first: "
                + show_command(
                    "prepare.py",
                    "source=forge",
                    f"source.root={self.root}",
                    f"source.output={self.output}",
                    "output=...",
                )
            )
        layout = FaceForensics(
            self.output, name=self.name, compression=COMPRESSION, methods=self.methods, splits=self.output / "splits"
        )
        videos = layout.list_videos()
        self.unexpected = [*self.__dict__.get("unexpected", ()), *layout.unexpected]
        return videos

    def _describe(self, paths: Sequence[Path]) -> dict[str, Any]:
        assert self.detector is not None
        listing = "\n".join(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}" for path in paths)
        return {
            "forging": _FORGING,
            "media": len(paths),
            "media_sha256": hashlib.sha256(listing.encode()).hexdigest()[:16],
            "detector": name_detector(self.detector),
            "detector_sha256": hash_weights(self.detector),
            "methods": list(self.methods),
            "num_frames": self.num_frames,
            "max_side": self.max_side,
            "jpeg_quality": self.encoding.jpeg_quality,
            "crf": self.encoding.crf,
            "seed": self.seed,
            "val_fraction": self.val_fraction,
            "test_fraction": self.test_fraction,
        }

    def _find_faces(self, media: Sequence[Medium], *, num_workers: int) -> dict[str, FoundFace]:
        assert self.detector is not None
        folder = self.output / "landmarks"
        todo = [medium for medium in media if not _is_found(folder / f"{medium.name}.json")]
        batches = [todo[start : start + _MEDIA_PER_JOB] for start in range(0, len(todo), _MEDIA_PER_JOB)]
        work = partial(_find_and_save, folder, self.detector)
        run_jobs(work, batches, num_workers=num_workers, description="Finding faces")
        return {medium.name: FoundFace.load(folder / f"{medium.name}.json") for medium in media}

    def _check_usable(self, usable: Sequence[str], found: dict[str, FoundFace], media: Sequence[Medium]) -> None:
        if len(usable) < 2:
            problems = [
                f"{medium.path}: {found[medium.name].problem}" for medium in media if found[medium.name].problem
            ]
            why = f"\n{list_problems(problems)}" if problems else ""
            raise SourceError(
                f"{len(usable)} of {len(media)} files in '{self.root}' show a face that can be forged, but at least "
                f"two are needed, because faces are swapped in pairs. Add photographs or videos.{why}"
            )

    def _write_pairs(
        self, pairs: Sequence[Pair], media: Sequence[Medium], kind: MediaKind, *, num_workers: int
    ) -> None:
        by_name = {medium.name: medium for medium in media}
        work = partial(forge_pair, Layout(self.output, kind), self.methods, self.encoding)
        jobs = [(by_name[first], by_name[second]) for first, second in pairs]
        run_jobs(work, jobs, num_workers=num_workers, description="Forging pairs")

    def _write_lists(
        self, pairs: Sequence[Pair], media: Sequence[Medium], found: dict[str, FoundFace], kind: MediaKind
    ) -> None:
        splits = split_pairs(pairs, val_fraction=self.val_fraction, test_fraction=self.test_fraction)
        write_splits(Layout(self.output, kind), splits)
        empty = [split for split, members in splits.items() if not members]
        if empty:
            logger.warning("%d pairs leave %s empty; all splits need at least three.", len(pairs), " and ".join(empty))
        paired = {name for pair in pairs for name in pair}
        skipped = [
            {
                "file": str(medium.path),
                "why": found[medium.name].problem or "odd number of files: no partner left",
            }
            for medium in media
            if medium.name not in paired
        ]
        originals = {medium.name: str(medium.path) for medium in media if medium.name in paired}
        write_json(
            self.output / "forge.json",
            {"forgeries": self.forgeries.value, "originals": originals, "skipped": skipped},
        )
        if skipped:
            logger.warning(
                "Skipped %d of %d files; '%s' lists them with the reasons.",
                len(skipped),
                len(media),
                self.output / "forge.json",
            )


def _check_arguments(*, detector: Detector | None, kind: str | None, methods: Sequence[str]) -> None:
    if detector is None:
        raise ConfigError(
            "source=forge needs landmarks to align faces, but detector=none finds none. Choose "
            "detector=retinaface_mobilenet or detector=retinaface."
        )
    if kind not in (None, *MediaKind):
        raise ConfigError(f"source.kind='{kind}' is unknown. Choose image, video or null.")
    unknown = [name for name in methods if name not in FORGERS]
    if unknown or not methods:
        raise ConfigError(f"source.methods={list(methods)} must name one or more of {', '.join(FORGERS)}.")


def _choose_media(source: ForgedMedia, kind: MediaKind | None) -> tuple[MediaKind, list[Path]]:
    root = source.root
    by_kind: dict[MediaKind, list[Path]] = {MediaKind.IMAGE: [], MediaKind.VIDEO: []}
    for path in list_root(root, source=source).files:
        by_kind[kind_of(path)].append(path)
    check_photographs(root, by_kind[MediaKind.IMAGE], frames_of=source.frames_of)
    held = [name for name, paths in by_kind.items() if paths]
    if kind is None and len(held) == 2:
        raise SourceError(
            f"'{root}' contains {len(by_kind[MediaKind.IMAGE])} images and {len(by_kind[MediaKind.VIDEO])} videos, "
            f"but source=forge reads only one kind. Choose source.kind=image or source.kind=video."
        )
    chosen = kind or (held[0] if held else MediaKind.IMAGE)
    if not by_kind[chosen]:
        wanted = {None: "images or videos", MediaKind.IMAGE: "images"}.get(kind, "videos")
        raise SourceError(f"'{root}' contains no {wanted}. Set source.root to a folder that contains authentic ones.")
    return chosen, by_kind[chosen]


def _is_found(path: Path) -> bool:
    return path.exists() and not names_limit(FoundFace.load(path).problem)


def _find_and_save(folder: Path, detector: Detector, media: Sequence[Medium]) -> None:
    for medium in media:
        find_face(medium, detector).save(folder / f"{medium.name}.json")
