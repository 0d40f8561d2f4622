"""Say what a folder holds: for errors about layouts, and for the record of who made its forgeries."""

import json
from pathlib import Path

from unmask.errors import SourceError
from unmask.forgeries import Forgeries


def check_root(root: Path) -> None:
    """Raise a SourceError unless the root of a source is a folder."""
    if not root.exists():
        raise SourceError(f"No such folder: source.root='{root}'. Name the folder that holds the dataset.")
    if not root.is_dir():
        raise SourceError(f"source.root='{root}' is a file. Name the folder that holds the dataset.")


def describe_folder(folder: Path, *, limit: int = 8) -> str:
    """List the first names in a folder, such as `'a/', 'b.mp4'`, or say that it is empty or absent."""
    if not folder.is_dir():
        return "nothing, it does not exist"
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return (f"{shown} and {len(names) - limit} more" if len(names) > limit else shown) or "nothing, it is empty"


def find_forgeries(root: Path) -> Forgeries:
    """Say who made the fakes in a folder: Unmask where it left its mark there or above, else others.

    By the mark and not by the source's name: what Unmask wrote can be read as any dataset of the same layout.

    Args:
        root: Of the source.
    """
    for folder in (root.absolute(), *root.absolute().parents):
        if (folder / "synthetic.json").is_file():
            return Forgeries.DRAWN
        if (folder / "forge.json").is_file():
            return Forgeries.DRAWN if _is_of_drawn(folder / "forge.json") else Forgeries.SELF_MADE
    return Forgeries.EXTERNAL


def _is_of_drawn(record: Path) -> bool:
    """Tell whether the faces were drawn before they were forged; a record that cannot be read tells nothing."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("forgeries") == Forgeries.DRAWN
