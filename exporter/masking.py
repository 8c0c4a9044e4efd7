"""Secrets as `***`, wherever text from elsewhere goes out."""

import re
import threading
from collections.abc import Iterable

from pydantic import Secret

from exporter.spellings import in_base64, plainly

MASK = "***"

_SECRET_KEY = re.compile(
    r"authorization|secret|password|passwd|token|signature|credential|cookie|private[-_]?key", re.IGNORECASE
)
_IS = r"[\\'\"]*\s*[:=]\s*[\\'\"]*"
_VALUE = r"[^\s&'\",;<\\]+"
_SECRET_TEXT = re.compile(
    rf"(authorization{_IS}(?:[\w-]+ +)?|(?:signature|security-token|credential){_IS})"
    rf"{_VALUE}|(cookie{_IS}){_VALUE}(?:; *{_VALUE})*",
    re.IGNORECASE,
)
_SECRET_WORDS = ("authorization", "signature", "security-token", "credential", "cookie")
"""Found faster than the pattern, in text that has none of them."""

# Shorter strings would mask ordinary words all over the log.
_MIN_SECRET_LENGTH = 4


class _KnownSecrets:
    """The secret strings in use, by who uses them. `patterns` is swapped whole, so any thread may read it."""

    def __init__(self) -> None:
        self.patterns: tuple[re.Pattern[str], ...] = ()
        self._used: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        self._changing = threading.Lock()

    def replace(self, user: str, secrets: frozenset[str]) -> None:
        with self._changing:
            now, _ = self._used.get(user, (frozenset(), frozenset()))
            if secrets == now:
                return
            self._used[user] = secrets, now
            known = frozenset().union(*(each for pair in self._used.values() for each in pair))
            self.patterns = (re.compile(plainly(known)), re.compile(in_base64(known))) if known else ()


_known = _KnownSecrets()


def register_secrets(secrets: Iterable[str | Secret[str]], user: str = "configuration") -> None:
    """Mask these strings wherever they appear in a line, tracebacks included, in any usual spelling.

    Replaces what was registered for `user` before. What was in use until now is masked until the next
    change, for it may be in an answer under way. Strings under four characters are not masked in running
    text, only under a secret-looking key.
    """
    texts = (each if isinstance(each, str) else each.get_secret_value() for each in secrets)
    _known.replace(user, frozenset(text for text in texts if len(text) >= _MIN_SECRET_LENGTH))


def mask(text: str) -> str:
    """`text` with registered secrets and anything that looks like a credential as `***`."""
    for pattern in _known.patterns:
        text = pattern.sub(MASK, text)
    lower = text.lower()
    return _SECRET_TEXT.sub(rf"\1\2{MASK}", text) if any(word in lower for word in _SECRET_WORDS) else text


def is_secret_key(key: str) -> bool:
    """Whether a field or header of this name holds a secret; `token_file` holds a path."""
    return _SECRET_KEY.search(key) is not None and not key.lower().endswith("_file")
