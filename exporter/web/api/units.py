"""From the units inside the exporter to those of its answers."""

import math
from datetime import UTC, datetime

LATEST = 253_402_300_799.0
"""The last second of the year 9999, which RFC 3339 can write."""


def milliseconds(seconds: float | None) -> float | None:
    """To the microsecond; null for what is not known or never ends."""
    return round(seconds * 1000, 3) if seconds is not None and math.isfinite(seconds) else None


def time_of(unix: float) -> datetime:
    """Unix seconds as a time in UTC, to the millisecond; what RFC 3339 cannot write is the nearest it can."""
    return datetime.fromtimestamp(round(min(max(unix, 0.0), LATEST), 3), UTC)


def time_or_none(unix: float | None) -> datetime | None:
    return None if unix is None else time_of(unix)
