"""140k Real and Fake Faces of Kaggle (xhlulu): photographs of FFHQ, and faces that StyleGAN generated."""

import logging
from pathlib import Path, PurePosixPath

from unmask.errors import SourceError, list_problems
from unmask.media.kinds import IMAGE_SUFFIXES
from unmask.sources.folders import DownloadedSource, list_entries, list_folders, note_unexpected, quote_some
from unmask.sources.recognition import refuse_layout
from unmask.sources.table import read_header, read_table
from unmask.types import ORIGINAL, Label, MediaKind, Video

METHOD = "StyleGAN"

_SPLITS = {"train": "train", "valid": "val", "test": "test"}
_LABELS = {"real": Label.REAL, "fake": Label.FAKE}
_MEANINGS = {"1": "real", "0": "fake"}
"""Of the column `label`: in these tables 1 means real. The column `label_str` has the words."""

_WRAPPERS = ("real-vs-fake", "real_vs_fake")
"""The folders around the splits, from the inside."""

logger = logging.getLogger(__name__)


class Faces140k(DownloadedSource):
    """Read `real_vs_fake/real-vs-fake/{train,valid,test}/{real,fake}/*.jpg`, with the splits of the folders.

    The tables `train.csv`, `valid.csv` and `test.csv` (`original_path,id,label,label_str,path`) are optional. If they
    exist, they must agree with the folders, and the images that only they name are listed as missing. Identities are
    unknown: each image is a group of its own.

    Args:
        root: Folder that contains the splits, or one or two folders above it.
        name: First part of every `video_id`.
        tables: Whether to read the tables.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self, root: str | Path, *, name: str = "faces_140k", tables: bool = True, follow_links: bool = False
    ) -> None:
        self.root = Path(root)
        self.name = name
        self.tables = tables
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize the folder `real-vs-fake`, or the tables beside it."""
        base = _find_base(root)
        if base is None:
            return None
        if base.name == _WRAPPERS[0]:
            return f"'{base.name}/' with 'train/', 'valid/' or 'test/'"
        tables = [path for path in _find_tables(base, root) if "original_path" in read_header(path)]
        return f"'{tables[0].name}' with a column 'original_path'" if tables else None

    def list_videos(self) -> list[Video]:
        """Return every image in the folders, and missing ones from the tables."""
        self._start_listing()
        base = _find_base(self.root)
        if base is None:
            raise refuse_layout(
                self.root,
                source="faces_140k",
                layout="140k Real and Fake Faces",
                looked_for="'train/', 'valid/' or 'test/' with 'real/' and 'fake/' in them",
                advice="Set source.root to the folder that contains them; source=image_folder reads other names.",
            )
        absent = [f"{split}/{label}" for split in _SPLITS for label in _LABELS if not (base / split / label).is_dir()]
        if absent:
            logger.warning("Missing in '%s': %s.", base, quote_some(absent))
        names = dict.fromkeys(self._list_images(base))
        tables = _find_tables(base, self.root) if self.tables else []
        if tables:
            listed = dict.fromkeys(_read_tables(tables))
            unlisted = [name for name in names if name not in listed and _split_of(name) in _list_stems(tables)]
            if unlisted:
                logger.warning("%s images are in no table: %s.", f"{len(unlisted):,}", quote_some(unlisted))
            for part in dict.fromkeys(map(_part_of, unlisted)):
                note_unexpected(self, part, "read, but in no table", [one for one in unlisted if _part_of(one) == part])
            names |= listed
        return [self._make_video(base, name) for name in sorted(names)]

    def part_of(self, video: Video) -> str:
        """Return the folder of an image, such as `valid/real`."""
        return _part_of(video.video_id.removeprefix(f"{self.name}/"))

    def _list_images(self, base: Path) -> list[str]:
        """Return the images as `train/real/00001.jpg`; log and note everything else beside them."""
        known = {base: {*_SPLITS, *(f"{split}.csv" for split in _SPLITS)}}
        known |= {base / split: set(_LABELS) for split in _SPLITS}
        for folder, names in known.items():
            self._skip(base, folder, [path for path in self._list_entries(base, folder) if path.name not in names])
        images = []
        for folder in (base / split / label for split in _SPLITS for label in _LABELS):
            entries = self._list_entries(base, folder)
            images += [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES]
            self._skip(base, folder, [path for path in entries if path.suffix.lower() not in IMAGE_SUFFIXES])
        return [path.relative_to(base).as_posix() for path in images]

    def _list_entries(self, base: Path, folder: Path) -> list[Path]:
        hidden: list[str] = []
        entries = list_entries(folder, skipped=hidden)
        note_unexpected(self, _name_place(folder, base), "hidden or unfinished", hidden)
        return entries

    def _skip(self, base: Path, folder: Path, paths: list[Path]) -> None:
        names = [path.name for path in paths]
        if names:
            logger.warning("Skipped in '%s': %s.", folder, quote_some(names))
        note_unexpected(self, _name_place(folder, base), "of another kind", names)

    def _make_video(self, base: Path, name: str) -> Video:
        split, folder, _ = name.split("/")
        label = _LABELS[folder]
        return Video(
            video_id=f"{self.name}/{name}",
            path=base / name,
            label=label,
            method=ORIGINAL if label == Label.REAL else METHOD,
            kind=MediaKind.IMAGE,
            split=_SPLITS[split],
        )


def _find_base(root: Path) -> Path | None:
    """Return the folder that contains the splits: the root, or a folder one or two levels below it."""
    level = [root]
    for _ in range(3):
        for folder in level:
            if any((folder / split / label).is_dir() for split in _SPLITS for label in _LABELS):
                return folder
        level = [child for folder in level for child in list_folders(folder)]
    return None


def _find_tables(base: Path, root: Path) -> list[Path]:
    """Return the tables of the splits beside the splits, or in a folder above them that belongs to the dataset."""
    folders = [base]
    while folders[-1] != root and root in folders[-1].parents:
        folders.append(folders[-1].parent)
    for wrapper in _WRAPPERS:
        if folders[-1].name == wrapper:
            folders.append(folders[-1].parent)
    tables = {split: [folder / f"{split}.csv" for folder in folders] for split in _SPLITS}
    found = (next((path for path in paths if path.is_file()), None) for paths in tables.values())
    return [path for path in found if path is not None]


def _list_stems(tables: list[Path]) -> set[str]:
    return {path.stem for path in tables}


def _split_of(name: str) -> str:
    return name.partition("/")[0]


def _name_place(folder: Path, base: Path) -> str:
    """Return a folder as `train/real`; "" for the one that contains the splits."""
    return "" if folder == base else folder.relative_to(base).as_posix()


def _part_of(name: str) -> str:
    return name.rpartition("/")[0]


def _read_tables(tables: list[Path]) -> list[str]:
    """Return the images that the tables name, as `train/real/00001.jpg`.

    Raises:
        SourceError: A row contradicts the folders of its path in label or split; counts and lists them.
    """
    names, problems = [], []
    for path in tables:
        for row in read_table(path, columns={}):
            parts = PurePosixPath(row.values["path"].replace("\\", "/")).parts[-3:]
            label = row.others.get("label_str", "").lower() or _MEANINGS.get(row.values["label"], "")
            if len(parts) != 3 or parts[0] not in _SPLITS or parts[1] not in _LABELS:
                problems.append(f"'{path.name}' line {row.line}: path '{row.values['path']}'")
            elif (parts[0], parts[1]) != (path.stem, label):
                problems.append(
                    f"'{path.name}' line {row.line}: {label or row.values['label']}, path '{row.values['path']}'"
                )
            else:
                names.append("/".join(parts))
    if problems:
        raise SourceError(
            f"{len(problems):,} rows of the tables contradict the folders of their paths:\n{list_problems(problems)}\n"
            f"Download the tables again, or ignore them with source.tables=false."
        )
    return names
