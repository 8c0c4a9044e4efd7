"""How the time between the signal to stop and the end is divided.

A storage that hangs is given as long as its own timeout, and all that ends besides has to fit in there
or into the second after it: who runs this program kills what does not end (docker after 10 s).
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST = 8.0
"""Seconds. A timeout beyond counts as this."""

SHORTEST = 0.4
"""Seconds. A timeout below counts as this."""

RUNS_SHARE = 0.3
"""Of the time: a storage that is well ends its runs within, and a cancelled one's cleanup has the rest."""

LAST_SECONDS = 0.3
"""For the disk, after the cleanups; the web side has what `exporter.web.server` grants it."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """Until when, in seconds of the monotonic clock, each part may go on."""

    runs_end: float
    cleanups_end: float
    disk_ends: float

    @classmethod
    def of(cls, timeouts: Iterable[float], now: float) -> "Farewell":
        """For targets with these timeouts (seconds)."""
        patience = min(max([SHORTEST, *timeouts]), LONGEST)
        ends = now + patience
        return cls(now + RUNS_SHARE * patience, ends, ends + LAST_SECONDS)


def left(until: float) -> float:
    """Seconds from now until then, 0 if it is past."""
    return max(0.0, until - time.monotonic())
