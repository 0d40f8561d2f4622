"""Tell pictures from videos, and find both in folders."""

import stat
import warnings
from pathlib import Path

from unmask.errors import MediaError
from unmask.types import MediaKind

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
"""Pillow's names of what is read. It knows many more, and starts Ghostscript for some of them."""

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp"})


def sniff_kind(path: Path, *, name: str | None = None) -> MediaKind:
    """Tell from the first bytes whether a file is a picture; what is not is taken for a video.

    Args:
        path: Any file.
        name: What messages call it; None for its path.

    Raises:
        MediaError: The file is absent, a folder, or holds 0 bytes.
    """
    from PIL import Image, UnidentifiedImageError

    check_file(path, name=name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # reading it applies our own limit
            with Image.open(path, formats=PICTURE_FORMATS):
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


def check_file(path: Path, *, name: str | None = None) -> None:
    """Raise a MediaError unless the path is a file that holds something.

    Args:
        path: Any.
        name: What messages call it; None for the path.
    """
    name = name or str(path)
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise MediaError(f"No such file: '{name}'. Check the path.") from error
    except (OSError, ValueError) as error:  # too long for a name, with a null byte, a loop of links
        raise MediaError(f"'{name}' cannot be read: {error}. Check the path.") from error
    if not stat.S_ISREG(found.st_mode):
        raise MediaError(f"'{name}' is not a file. Name a picture or a video.")
    if found.st_size == 0:
        raise MediaError(f"'{name}' holds 0 bytes. Download or copy it again.")


def list_media(folder: Path) -> list[Path]:
    """Return the pictures and videos below a folder by their suffix, sorted; hidden files are passed over."""
    suffixes = PICTURE_SUFFIXES | VIDEO_SUFFIXES
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )
