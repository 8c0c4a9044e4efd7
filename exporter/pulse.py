"""Whether this process had the time to measure: what it sees late is not the storage's doing."""

import asyncio
import math
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

INTERVAL = 0.25
"""Seconds from one beat to the next."""

STALL = 0.5
"""Seconds that a beat may be late. Beyond, the process was stopped, its machine asleep or far too busy."""


class Pulse:
    """Beats as long as the event loop runs; `beat` is told how late, and the time (monotonic)."""

    def __init__(self, beat: Callable[[float, float], None]) -> None:
        self._beat = beat
        self._last = math.inf
        self._stalled_at = -math.inf

    async def run(self) -> None:
        """Until cancelled."""
        self._last = time.monotonic()
        while True:
            await asyncio.sleep(INTERVAL)
            now = time.monotonic()
            late = self.feel(now)
            if late > STALL:
                log.warning(
                    "the process stood still; what was under way says nothing", seconds=round(late, 1)
                )
            try:
                self._beat(late, now)
            except Exception:
                log.exception("a beat failed unexpectedly")

    def feel(self, now: float) -> float:
        """A beat now; how many seconds late it is."""
        late = max(0.0, now - self._last - INTERVAL)
        if late > STALL:
            self._stalled_at = now
        self._last = now
        return late

    def stalled(self, since: float, now: float) -> bool:
        """Whether the loop stood still at some time since then, the present included."""
        return self._stalled_at > since or now - self._last > INTERVAL + STALL
