"""Say what a folder holds, for errors about layouts."""

from pathlib import Path

from unmask.errors import SourceError


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
