"""What our HTML reports share: one file without external requests, its style, figures and thumbnails of crops."""

import base64
import logging
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmask.decision import show_score
from unmask.errors import MediaError
from unmask.media.image import decode_crop_file, encode_jpeg

_SHARED = ("page.css",)

logger = logging.getLogger(__name__)


def render_page(package: str, template: str, **values: Any) -> str:
    """Render a self-contained page; all text from data is escaped.

    Args:
        package: Package whose folder `templates` holds the template.
        template: Name of the template; it includes `page.css` for the style.
        **values: Variables of the template; an undefined one is an error.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def load(name: str) -> str:
        return (files("unmask" if name in _SHARED else package) / "templates" / name).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(load)
    )
    environment.filters["figure"] = show_figure
    environment.filters["score"] = show_score
    return environment.get_template(template).render(**values)


def show_figure(value: float | int | None) -> str:
    """Format a count as an integer, a ratio with four decimals, and a missing value as a dash."""
    if value is None:
        return "–"  # noqa: RUF001
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def draw_thumbnail(path: Path, *, side: int) -> bytes:
    """Return a small JPEG of a crop, or b"" if it has become unreadable since the tables were written.

    Args:
        path: Crop file.
        side: Maximum side in pixels.
    """
    try:
        crop = decode_crop_file(path)
    except (MediaError, OSError) as error:
        logger.warning("Cannot show the crop '%s' in the report: %s", path, error)
        return b""
    scale = min(side / max(crop.shape[:2]), 1.0)
    size = [max(round(length * scale), 1) for length in crop.shape[1::-1]]
    small = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    return encode_jpeg(small, quality=80)


def embed_jpeg(image: bytes) -> str:
    """Return a JPEG as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(image).decode()
