"""From the units inside the exporter to those of its answers."""

import math
from datetime import UTC, datetime


def milliseconds(seconds: float | None) -> float | None:
    """To the microsecond; null for what is not known or never ends."""
    return round(seconds * 1000, 3) if seconds is not None and math.isfinite(seconds) else None


def time_of(unix: float) -> datetime:
    """Unix seconds as a time in UTC, to the millisecond."""
    return datetime.fromtimestamp(round(unix, 3), UTC)


def time_or_none(unix: float | None) -> datetime | None:
    return None if unix is None else time_of(unix)
