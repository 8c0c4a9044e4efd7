"""The only object keys this program writes, and the only ones it ever deletes."""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(?P<instance>[a-z0-9-]{1,63})/(?P<stamp>[0-9]{8}T[0-9]{6}Z)-(?P<nonce>[0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class ProbeKey:
    """A key under the probe prefix: `<prefix><instance>/<UTC time>-<128 random bits>`.

    Nobody else can guess it, R2's limit of one write a second for a key is never met, and the
    time in it lets a sweep tell a leftover from an object in use.
    """

    prefix: str
    instance: str
    created_at: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.prefix}{self.instance}/{_stamp(self.created_at)}-{self.nonce}"


def new_key(prefix: str, instance: str, now: float) -> ProbeKey:
    """A fresh key for an object written at `now` (Unix seconds)."""
    return ProbeKey(prefix, instance_slug(instance), int(now), secrets.token_hex(16))


def parse_key(prefix: str, key: str) -> ProbeKey | None:
    """The key as ours, or None for every key that `new_key` could not have made."""
    if not key.startswith(prefix):
        return None
    match = _NAME.fullmatch(key, len(prefix))
    if match is None or match["instance"] != instance_slug(match["instance"]):
        return None
    try:
        created = datetime.strptime(match["stamp"], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    ours = ProbeKey(prefix, match["instance"], int(created.timestamp()), match["nonce"])
    return ours if str(ours) == key else None


def leftovers(prefix: str, keys: list[str], now: float, min_age: float) -> list[ProbeKey]:
    """Our keys among `keys` that are at least `min_age` seconds old at `now` (Unix seconds)."""
    ours = (parse_key(prefix, key) for key in keys)
    return [key for key in ours if key is not None and now - key.created_at >= min_age]


@lru_cache(maxsize=256)
def _stamp(created_at: int) -> str:
    """Remembered, for a key is written for each operation of a run."""
    return datetime.fromtimestamp(created_at, UTC).strftime(_STAMP)


@lru_cache(maxsize=16)
def instance_slug(name: str) -> str:
    """`name` reduced to what a key may hold: lower-case letters, digits and dashes, at most 63."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-")
    return slug or "exporter"
