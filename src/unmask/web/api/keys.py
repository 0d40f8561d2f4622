"""API keys: long random words, of which the service knows hashes only."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

from unmask.errors import ConfigError

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
