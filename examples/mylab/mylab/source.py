"""A source: the lab's own layout of files."""

from pathlib import Path

from unmask import SourceError
from unmask.forgeries import Forgeries
from unmask.types import ORIGINAL, Label, MediaKind, Video

SUFFIXES = {".mp4": MediaKind.VIDEO, ".jpg": MediaKind.IMAGE}


class CaseFiles:
    """Read one folder per case, with `authentic/` files and `edited/<tool>/` files that were made from them.

    Files of one case show the same person, so no split may separate them: the case is their identity.

    Args:
        root: Folder that holds the cases.
        name: First part of every `video_id`.
    """

    forgeries = Forgeries.EXTERNAL

    def __init__(self, root: str | Path, *, name: str = "cases") -> None:
        self.root = Path(root)
        self.name = name

    def list_videos(self) -> list[Video]:
        """Return every file of every case.

        Raises:
            SourceError: The folder is missing or holds no case.
        """
        found = sorted(path for path in self.root.glob("*/*/**/*") if path.suffix.lower() in SUFFIXES)
        videos = [video for path in found if (video := self._read(path)) is not None]
        if not videos:
            raise SourceError(
                f"No case in source.root='{self.root}': looked for '<case>/authentic/*' and '<case>/edited/<tool>/*'."
            )
        return videos

    def _read(self, path: Path) -> Video | None:
        case, kind, *rest = path.relative_to(self.root).parts
        if (kind, len(rest)) not in {("authentic", 1), ("edited", 2)}:
            return None
        method = ORIGINAL if kind == "authentic" else rest[0]
        return Video(
            video_id=f"{self.name}/{method}/{case}/{path.stem}",
            path=path,
            label=Label.REAL if kind == "authentic" else Label.FAKE,
            method=method,
            kind=SUFFIXES[path.suffix.lower()],
            identities=(f"{self.name}/{case}",),
        )
