"""Tell images from videos."""

import stat
import warnings
from mmap import ACCESS_READ, mmap
from pathlib import Path

from unmask.errors import MediaError
from unmask.media.amplifiers import check_parts
from unmask.types import MediaKind

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
"""Pillow's names of what it reads here. It knows many more, and starts Ghostscript for some of them."""

IMAGE_NAMES = (*IMAGE_FORMATS, "HEIC")
"""What messages call the images that are read; libheif reads HEIC, Pillow the others."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif"}
    | {".heic", ".heif", ".hif", ".heics", ".heifs"}
)
VIDEO_FORMATS = ("MP4", "MOV", "MKV", "WEBM", "AVI", "WMV", "FLV", "MPEG", "TS", "OGG")
"""What messages call the videos that are read."""

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp"}
    | {".ts", ".mts", ".m2ts", ".ogv"}
)

_SUFFIXES_OF_CODE = frozenset({".ts", ".mts"})
"""Of TypeScript too, of which a folder may hold thousands of files."""

# Brands of ISO/IEC 23008-12 (HEIF) and of AVIF; a file names its main one first.
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_ANY_HEIF = frozenset({b"mif1", b"msf1"})  # whichever codec: AVIF, where a further brand says so
_AVIF = frozenset({b"avif", b"avis"})


def sniff_kind(path: Path, *, name: str | None = None) -> MediaKind:
    """Detect from the first bytes whether a file is an image; any other file counts as a video.

    Args:
        path: Any file.
        name: Name of the file in messages; None for its path.

    Raises:
        MediaError: As `check_file`.
    """
    check_file(path, name=name)
    is_text_of_image = path.suffix.lower() in IMAGE_SUFFIXES and is_text(path)
    return MediaKind.IMAGE if is_text_of_image or is_image(path) else MediaKind.VIDEO


def is_image(path: Path) -> bool:
    """Return whether a file is an image in a supported format, intact or damaged."""
    from PIL import Image, UnidentifiedImageError

    with path.open("rb") as file:
        head = file.read(256)
    if is_heic(head):
        return True  # FFmpeg would open it as a video of its first tile, in which no face may be whole
    try:
        _check_parts_of(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # reading it applies our own limit
            with Image.open(path, formats=IMAGE_FORMATS):
                return True
    except UnidentifiedImageError:
        # Of an AVIF that Pillow cannot read, FFmpeg might make a video: of its first tile.
        return not _AVIF.isdisjoint(_list_brands(head))
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError, MediaError):
        return True  # its format is known, and something is wrong with it: reading it as an image will say what


def _check_parts_of(path: Path) -> None:
    """Raise a MediaError where already opening an image would take long."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        check_parts(data, where=str(path))


def is_text(path: Path) -> bool:
    """Return whether a file contains text, which FFmpeg would render and treat as a video."""
    with path.open("rb") as file:
        return b"\0" not in file.read(4096)


def check_file(path: Path, *, name: str | None = None) -> None:
    """Raise a MediaError unless the path is a readable file that is not empty.

    Args:
        path: Any path.
        name: Name of the file in messages; None for its path.
    """
    name = name or str(path)
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise MediaError(f"No such file: '{name}'. Check the path.") from error
    except (OSError, ValueError) as error:  # too long for a name, with a null byte, a loop of links
        raise MediaError(f"'{name}' cannot be read: {error}. Check the path.") from error
    if not stat.S_ISREG(found.st_mode):
        raise MediaError(f"'{name}' is not a file. Give an image or a video.")
    if found.st_size == 0:
        raise MediaError(f"'{name}' is empty (0 bytes). Download or copy it again.")
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise MediaError(f"'{name}' cannot be read: {error.strerror}. Check its permissions and the disk.") from error


def is_heic(head: bytes) -> bool:
    """Tell by the first bytes of a file whether it is a HEIC or another HEIF that is not an AVIF."""
    main, *others = _list_brands(head) or [b""]
    return main in _HEIC or (main in _ANY_HEIF and _AVIF.isdisjoint(others))


def _list_brands(data: bytes) -> list[bytes]:
    """Return what the first box of an MP4, HEIF or AVIF says it is, the main brand first; nothing of other files."""
    head = data[:256]
    if head[4:8] != b"ftyp":
        return []
    length, start = int.from_bytes(head[:4], "big"), 8
    if length == 1:  # stands behind, in 64 bits
        length, start = int.from_bytes(head[8:16], "big"), 16
    end = min(length or len(head), len(head))
    return [head[place : place + 4] for place in (start, *range(start + 8, end - 3, 4))]  # a version stands between


def is_typescript(path: Path) -> bool:
    """Tell whether what is called `.ts` or `.mts` is TypeScript and no video: its content tells."""
    return path.suffix.lower() in _SUFFIXES_OF_CODE and not _is_transport_stream(path)


def _is_transport_stream(path: Path) -> bool:
    """Tell by the first byte of two packets (ISO/IEC 13818-1), before each of which cameras write four of their own."""
    try:
        with path.open("rb") as file:
            head = file.read(197)
    except OSError:
        return True  # reading it as a video will say why
    return any(head[first : first + 1] == head[then : then + 1] == b"G" for first, then in ((0, 188), (4, 196)))
