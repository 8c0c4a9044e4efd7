"""How many operations of a target failed or were slow of late, in little memory."""

from array import array

from exporter.window import Counts

SLICES = 30
"""The long window is this many slices of time; an operation leaves it with its slice, up to 1/30 early."""

SHORT = 12
"""The short window is the latest of these: 2 minutes of 5."""

_CALLS, _FAILURES, _SLOW = range(3)


class Tally:
    """A ring of time slices with two windows on it. Times and `width` are in seconds.

    It takes half a kilobyte where two of `exporter.window` take five, for there is one for each target
    whether it has a breaker or not; nobody waits for it, so it may count slowly when it is asked.
    """

    __slots__ = ("_now", "_ring", "_slice", "bad", "ends", "width")

    def __init__(self, width: float, now: float) -> None:
        self.width = width
        self._slice = width / SLICES
        self._ring = array("I", bytes(3 * SLICES * array("I").itemsize))
        self._now = 0  # the slice that fills
        self.ends = now + self._slice
        """When the filling slice is full."""
        self.bad = 0
        """Failures and slow operations in the ring, those that are both twice."""

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """An operation ended at `now`."""
        self.roll(now)
        at = 3 * self._now
        self._ring[at + _CALLS] += 1
        self._ring[at + _FAILURES] += failed
        self._ring[at + _SLOW] += slow
        self.bad += failed + slow

    def forget(self) -> None:
        """Empties it."""
        for index in range(3 * SLICES):
            self._ring[index] = 0
        self.bad = 0

    def roll(self, now: float) -> None:
        """Begins the slice that `now` lies in, and drops those that have left."""
        if now < self.ends:
            return
        passed = int((now - self.ends) / self._slice) + 1
        self.ends += passed * self._slice
        for _ in range(min(passed, SLICES)):
            self._now = (self._now + 1) % SLICES
            at = 3 * self._now
            self.bad -= self._ring[at + _FAILURES] + self._ring[at + _SLOW]
            self._ring[at] = self._ring[at + _FAILURES] = self._ring[at + _SLOW] = 0

    def long(self, now: float) -> Counts:
        """What the long window holds."""
        self.roll(now)
        return Counts(*(sum(self._ring[column::3]) for column in range(3)))

    def short(self, now: float) -> Counts:
        """What the short window holds."""
        self.roll(now)
        latest = [3 * ((self._now - back) % SLICES) for back in range(SHORT)]
        return Counts(*(sum(self._ring[at + column] for at in latest) for column in range(3)))
