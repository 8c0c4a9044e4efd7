"""Secrets as `***`, wherever text from elsewhere goes out."""

import re
from collections.abc import Iterable
from urllib.parse import quote

from pydantic import Secret

MASK = "***"

_SECRET_KEY = re.compile(
    r"authorization|secret|password|passwd|token|signature|credential|cookie|private[-_]?key", re.IGNORECASE
)
_SECRET_TEXT = (
    re.compile(r"(authorization['\"]?\s*[:=]\s*['\"]?(?:[\w-]+ +)?)[^\s'\",]+", re.IGNORECASE),
    re.compile(r"((?:signature|security-token|credential)=)[^\s&'\",]+", re.IGNORECASE),
)
# Shorter strings would mask ordinary words all over the log.
_MIN_SECRET_LENGTH = 4


class _KnownSecrets:
    """The secret strings in use now. `pattern` is swapped whole, so any thread may read it."""

    def __init__(self) -> None:
        self.pattern: re.Pattern[str] | None = None

    def replace(self, secrets: Iterable[str]) -> None:
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= _MIN_SECRET_LENGTH
            for spelling in (secret, _quoted(secret), repr(secret)[1:-1])
        }
        longest_first = sorted(spellings, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first))) if spellings else None


def _quoted(secret: str) -> str:
    """As it stands in a URL."""
    return quote(secret, safe="", errors="replace")


_known = _KnownSecrets()


def register_secrets(secrets: Iterable[str | Secret[str]]) -> None:
    """Mask these strings wherever they appear in a line, tracebacks included.

    Replaces what was registered before, so that a reload forgets retired secrets. Strings
    under four characters are not masked in running text, only under a secret-looking key.
    """
    _known.replace(s if isinstance(s, str) else s.get_secret_value() for s in secrets)


def mask(text: str) -> str:
    """`text` with registered secrets and anything that looks like a credential as `***`."""
    if _known.pattern is not None:
        text = _known.pattern.sub(MASK, text)
    for pattern in _SECRET_TEXT:
        text = pattern.sub(rf"\1{MASK}", text)
    return text


def is_secret_key(key: str) -> bool:
    """Whether a field or header of this name holds a secret; `token_file` holds a path."""
    return _SECRET_KEY.search(key) is not None and not key.lower().endswith("_file")
