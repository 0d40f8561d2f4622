"""API keys: long random words, of which the service knows hashes only."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from unmask.errors import ConfigError

_PREFIX = "sha256:"


def make_key() -> str:
    """Return a new key: 256 random bits, so that a plain hash cannot be guessed back."""
    return f"unmask_{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    """Return what the configuration holds of a key."""
    return _PREFIX + hashlib.sha256(key.encode()).hexdigest()


def check_hashes(hashes: Sequence[str]) -> None:
    """Raise a ConfigError unless all are of `hash_key`; a key itself does not belong into a configuration."""
    for text in hashes:
        if not text.startswith(_PREFIX) or len(text) != len(_PREFIX) + 64:
            raise ConfigError(
                f"api_keys holds '{text[:12]}...', which is no hash of a key. Make key and hash with: "
                f"python serve.py task=key"
            )


def is_known(key: str, hashes: Sequence[str]) -> bool:
    """Tell whether a key is one of those; it takes as long whichever it is."""
    given = hash_key(key)
    return any([hmac.compare_digest(given, known) for known in hashes])
