"""Tell pictures from videos, and find both in folders."""

from pathlib import Path

from unmask.errors import MediaError
from unmask.types import MediaKind

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp"})


def sniff_kind(path: Path) -> MediaKind:
    """Tell from the first bytes whether a file is a picture; what is not is taken for a video.

    Raises:
        MediaError: The file is absent, a folder, or holds 0 bytes.
    """
    from PIL import Image, UnidentifiedImageError

    check_file(path)
    try:
        with Image.open(path):
            return MediaKind.PICTURE
    except UnidentifiedImageError:
        return MediaKind.PICTURE if path.suffix.lower() in PICTURE_SUFFIXES and _is_text(path) else MediaKind.VIDEO
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError):
        # Pillow knew the format and choked on it: reading it as a picture will say why.
        return MediaKind.PICTURE


def _is_text(path: Path) -> bool:
    """Tell whether a file holds text: FFmpeg would draw it letter by letter and call that a video."""
    with path.open("rb") as file:
        return b"\0" not in file.read(4096)


def check_file(path: Path) -> None:
    """Raise a MediaError unless the path is a file that holds something."""
    if not path.exists():
        raise MediaError(f"No such file: '{path}'. Check the path.")
    if not path.is_file():
        raise MediaError(f"'{path}' is not a file. Name a picture or a video.")
    if path.stat().st_size == 0:
        raise MediaError(f"'{path}' holds 0 bytes. Download or copy it again.")


def list_media(folder: Path) -> list[Path]:
    """Return the pictures and videos below a folder by their suffix, sorted; hidden files are passed over."""
    suffixes = PICTURE_SUFFIXES | VIDEO_SUFFIXES
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )
