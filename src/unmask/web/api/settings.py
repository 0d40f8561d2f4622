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

from unmask.errors import ConfigError
from unmask.inference.settings import PredictorSettings

OF_SERVICE = "this service, which its operator can raise"
"""Whose limits those of files are, as clients are told."""


@dataclass(frozen=True)
class ModelSettings:
    """What a worker loads, and how.

    Args:
        path: Bundle or checkpoint.
        predictor: The keywords it is loaded with.
    """

    path: str
    predictor: PredictorSettings = field(default_factory=PredictorSettings)


@dataclass(frozen=True)
class ServiceLimits:
    """What one client can ask for, and all of them together.

    Args:
        image_bytes: Of one picture.
        video_bytes: Of one video.
        files: Pictures in one request.
        images_at_once: Requests with pictures that are read or scored at a time; more are answered 503. No client
            holds more of these places than are still free; beyond, it is answered 429. So with jobs.
        jobs: Videos that wait or are scored; more are answered 429.
        image_seconds: That all pictures of a request may take a worker.
        job_seconds: That one video may take a worker.
        upload_seconds: In which the whole body of a request must have arrived.
        idle_seconds: In which the next piece of a body must arrive.
        keep_hours: For which a finished job and its files are kept.

    Raises:
        ConfigError: One of them is not above 0.
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
                raise ConfigError(f"service.{name}={value} lets nothing through. Give a number above 0.")


PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[\w.~-]+)*", re.ASCII)
"""Of addresses: none, or a path without empty parts, which browsers would take for the name of a machine."""


def clean_prefix(prefix: str) -> str:
    """Return a prefix without slashes at its end; empty for none.

    Raises:
        ConfigError: It is not a path of letters, digits and `._~-`.
    """
    cleaned = prefix.rstrip("/")
    if not PREFIX.fullmatch(cleaned):
        raise ConfigError(
            f"root_path='{prefix}' cannot be the path of a page. Give one such as /unmask: what the proxy strips."
        )
    return cleaned


def check_names(hosts: tuple[str, ...]) -> None:
    """Raise a ConfigError where a name of the service is an address of a page, or has a port."""
    for host in hosts:
        if "/" in host or (":" in host and not host.startswith("[")) or host in ("", "*"):
            raise ConfigError(f"hosts: '{host}' must be a name without scheme and port, such as unmask.example.")


@dataclass(frozen=True)
class ServiceSettings:
    """The service as a whole.

    Args:
        model: What the workers load.
        limits: Of requests.
        folder: Where jobs and uploads lie.
        image_workers: Processes for pictures.
        video_workers: Processes for videos.
        api_keys: Hashes of `unmask.web.api.settings.hash_key`; none lets everyone in.
        cors_origins: Web pages of other origins that may ask.
        hosts: Names by which it may be asked, beside those of this machine; none lets a service that others can reach
            answer to every name.
        root_path: Prefix under which a proxy shows it.
        trusted_proxies: Addresses whose forwarded headers are believed; `*` for all.
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
                raise ConfigError(f"{name}={getattr(self, name)} leaves nobody to work. Give 1 or more.")
        check_names(self.hosts)
        clean_prefix(self.root_path)


_PREFIX = "sha256:"
_HASH = re.compile(_PREFIX + "[0-9a-f]{64}")


def make_key() -> str:
    """Return a new key: 256 random bits, so that a plain hash cannot be guessed back."""
    return f"unmask_{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    """Return what the configuration holds of a key."""
    return _PREFIX + hashlib.sha256(key.encode()).hexdigest()


def check_hashes(hashes: Sequence[str]) -> None:
    """Raise a ConfigError unless all are of `hash_key`; a key itself does not belong into a configuration."""
    for place, text in enumerate(hashes, start=1):
        if not _HASH.fullmatch(text):  # it may be a key, which no message shows
            raise ConfigError(
                f"Entry {place} of {len(hashes)} in api_keys is no hash of a key, which is 'sha256:' and 64 digits of "
                f"0-9 and a-f. Make key and hash with: python serve.py task=key"
            )


def is_known(key: str, hashes: Sequence[str]) -> bool:
    """Tell whether a key is one of those; it takes as long whichever it is."""
    given = hash_key(key)
    return any([hmac.compare_digest(given, known) for known in hashes])


# What every record has, and uvicorn's second copy of its message, with colours.
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """A JSON object a line: time, level, logger, event, and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
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
    """Let what anyone logs in this process, and every warning, leave through stdout as JSON, and nowhere else.

    uvicorn, pebble and asyncio log through the root, whose handlers Hydra has set; these are replaced.
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
    """Remove the log that Hydra began in a folder of this start, and the folder if nothing else is in it."""
    if file.is_file() and not file.stat().st_size:
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
