"""What the processes of the service share, without FastAPI: settings, API keys and the log."""

import hashlib
import hmac
import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.errors import ConfigError

if TYPE_CHECKING:
    from unmask.inference.predictor import PredictorSettings

OF_SERVICE = "this service, which its operator can raise"
"""Owner of the file limits, as named in messages to clients."""


def _default_predictor() -> "PredictorSettings":
    from unmask.inference.predictor import PredictorSettings  # imports OpenCV, which a command line cannot wait for

    return PredictorSettings()


@dataclass(frozen=True)
class ModelSettings:
    """The model of a worker.

    Args:
        path: Bundle or checkpoint.
        predictor: Keyword arguments of the predictor.
    """

    path: str
    predictor: "PredictorSettings" = field(default_factory=_default_predictor)


@dataclass  # not frozen: as a Hydra config node it would be read-only
class ServiceLimits:
    """Limits of the service, per client and in total.

    Args:
        image_bytes: Maximum size of an image.
        video_bytes: Maximum size of a video.
        files: Maximum number of images per request.
        images_at_once: Image requests read or scored at a time; further ones get 503. A client holds no more of these
            places than are still free, and gets 429 beyond that. The same holds for `jobs`.
        jobs: Videos queued or being scored; further ones get 429.
        image_seconds: Worker time for all images of a request.
        job_seconds: Worker time for a video.
        upload_seconds: Time for the whole body of a request to arrive.
        idle_seconds: Time for the next chunk of a body to arrive.
        keep_hours: Retention of a finished job and its files.

    Raises:
        ConfigError: A limit is not above 0.
    """

    image_bytes: int = 20_000_000
    video_bytes: int = 500_000_000
    files: int = 16
    images_at_once: int = 32
    jobs: int = 8
    image_seconds: float = 60
    job_seconds: float = 1800
    upload_seconds: float = 600
    idle_seconds: float = 15
    keep_hours: float = 24

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"service.{name}={value} must be above 0.")


PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[\w.~-]+)*", re.ASCII)
"""A URL prefix: empty, or a path without empty segments, which browsers would read as a host name."""


def clean_prefix(prefix: str) -> str:
    """Return a prefix without trailing slashes; empty for none.

    Raises:
        ConfigError: It is not a path of letters, digits and `._~-`.
    """
    cleaned = prefix.rstrip("/")
    if not PREFIX.fullmatch(cleaned):
        raise ConfigError(
            f"root_path='{prefix}' is not a valid URL path. Give the prefix that the proxy strips, such as /unmask."
        )
    return cleaned


def check_names(hosts: tuple[str, ...]) -> None:
    """Raise a ConfigError if a host is a URL or has a port."""
    for host in hosts:
        if "/" in host or (":" in host and not host.startswith("[")) or host in ("", "*"):
            raise ConfigError(f"hosts: '{host}' must be a host name without scheme or port, such as unmask.example.")


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of the service.

    Args:
        model: Model that the workers load.
        limits: Limits of requests.
        folder: Folder of jobs and uploads.
        image_workers: Number of processes for images.
        video_workers: Number of processes for videos.
        api_keys: Hashes from `hash_key`; if empty, no key is required.
        cors_origins: Other origins whose web pages may send requests.
        hosts: Accepted host names beside those of this machine; if empty, a service that others can reach accepts any.
        root_path: URL prefix that a proxy strips.
        trusted_proxies: Addresses whose forwarded headers are trusted; `*` for all.
    """

    model: ModelSettings
    folder: Path
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    image_workers: int = 2
    video_workers: int = 1
    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    root_path: str = ""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")

    def __post_init__(self) -> None:
        for name in ("image_workers", "video_workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1.")
        check_names(self.hosts)
        clean_prefix(self.root_path)


_PREFIX = "sha256:"
_HASH = re.compile(_PREFIX + "[0-9a-f]{64}")


def make_key() -> str:
    """Return a new key of 256 random bits, enough to make an unsalted hash safe."""
    return f"unmask_{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    """Return the hash of a key, as the configuration stores it."""
    return _PREFIX + hashlib.sha256(key.encode()).hexdigest()


def check_hashes(hashes: Sequence[str]) -> None:
    """Raise a ConfigError unless all come from `hash_key`; a key itself does not belong in a configuration."""
    for place, text in enumerate(hashes, start=1):
        if not _HASH.fullmatch(text):  # it may be a key, so the message must not show it
            raise ConfigError(
                f"Entry {place} of {len(hashes)} in api_keys is not a key hash: 'sha256:' and 64 hexadecimal digits in "
                f"lower case. Make a key and its hash with: python serve.py task=key"
            )


def is_known(key: str, hashes: Sequence[str]) -> bool:
    """Return whether a key matches one of the hashes, in constant time."""
    given = hash_key(key)
    return any([hmac.compare_digest(given, known) for known in hashes])


# Attributes of every record, and uvicorn's coloured copy of its message.
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """Format records as JSON lines: time, level, logger, event, and the values of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        entry |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_as_json() -> None:
    """Write every log record and warning of this process to stdout as JSON, and nowhere else.

    uvicorn, pebble and asyncio log through the root logger, whose handlers from Hydra are replaced.
    """
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
        if isinstance(old, logging.FileHandler):
            _remove_if_empty(Path(old.baseFilename))
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


def _remove_if_empty(file: Path) -> None:
    """Remove the empty log file that Hydra created, and its folder if that is empty too."""
    if file.is_file() and not file.stat().st_size:
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
