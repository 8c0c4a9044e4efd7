"""What happened lately: calls, failures and slow calls of a sliding window, and a moving average."""

import math
from dataclasses import dataclass

SLICES = 30
"""The window is this many slices of time; a call leaves it with its slice, so up to 1/30 early."""

FADED = 1e-6
"""Weight below which the moving average is that of calls too long ago: 20 half-lives after one call."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The calls of a window that had a result. A call may be both failed and slow."""

    calls: int = 0
    failures: int = 0
    slow_calls: int = 0

    @property
    def failure_ratio(self) -> float:
        """From 0 to 1; NaN without calls."""
        return self.failures / self.calls if self.calls else math.nan

    @property
    def slow_call_ratio(self) -> float:
        """From 0 to 1; NaN without calls."""
        return self.slow_calls / self.calls if self.calls else math.nan


class Window:
    """A ring of time slices: constant memory, and constant time for a call at any rate.

    `width` and `half_life` are in seconds, as are the times, of any clock that does not go back.
    The slice that fills is in the public attributes: before `ends`, a call that is neither failed nor
    slow may be added to `calls` and `seconds` by hand, which costs half as much as `add`.
    """

    __slots__ = (
        "_decay",
        "_past",
        "_past_calls",
        "_past_failures",
        "_past_slow",
        "_seconds",
        "_slice",
        "_weight",
        "calls",
        "ends",
        "failures",
        "seconds",
        "slow",
        "troubled",
    )

    def __init__(self, width: float, half_life: float, now: float) -> None:
        self._slice = width / SLICES
        self._decay = 0.5 ** (self._slice / half_life)
        self.ends = now + self._slice
        """When the filling slice is full."""
        self._seconds = self._weight = 0.0
        self._empty()

    def _empty(self) -> None:
        self._past = [(0, 0, 0)] * (SLICES - 1)
        self._past_calls = self._past_failures = self._past_slow = 0
        self.calls = self.failures = self.slow = 0
        self.seconds = 0.0
        self.troubled = False
        """Whether the window holds a failure or a slow call."""

    def add(self, now: float, duration: float, *, failed: bool, slow: bool) -> None:
        """A call that ended at `now` and took `duration` seconds."""
        self.roll(now)
        self.calls += 1
        self.seconds += duration
        self.failures += failed
        self.slow += slow
        self.troubled = self.troubled or failed or slow

    def forget(self) -> None:
        """Empties the window. The moving average stays: it tells of the service, not of our verdict."""
        self._fold(0)
        self._empty()

    def roll(self, now: float) -> None:
        """Begins the slice that `now` lies in, and drops those that have left the window."""
        if now < self.ends:
            return
        passed = int((now - self.ends) / self._slice) + 1
        self.ends += passed * self._slice
        self._fold(passed)
        if passed >= SLICES:
            self._empty()
            return
        for _ in range(passed):
            self._push()
        self.troubled = self._past_failures > 0 or self._past_slow > 0

    def counts(self, now: float) -> Counts:
        """What the window holds at `now`."""
        self.roll(now)
        return Counts(
            self._past_calls + self.calls, self._past_failures + self.failures, self._past_slow + self.slow
        )

    def mean_duration(self, now: float) -> float:
        """The exponential moving average of durations (seconds), NaN without any call of late.

        A call weighs half as much after each half-life. Its age is known to the slice.
        """
        self.roll(now)
        weight = self._weight + self.calls
        return (self._seconds + self.seconds) / weight if weight > FADED else math.nan

    def _fold(self, slices: int) -> None:
        faded = self._decay**slices
        self._seconds = (self._seconds + self.seconds) * faded
        self._weight = (self._weight + self.calls) * faded

    def _push(self) -> None:
        calls, failures, slow = self._past.pop(0)
        self._past.append((self.calls, self.failures, self.slow))
        self._past_calls += self.calls - calls
        self._past_failures += self.failures - failures
        self._past_slow += self.slow - slow
        self.calls = self.failures = self.slow = 0
        self.seconds = 0.0
