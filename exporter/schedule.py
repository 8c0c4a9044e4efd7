"""When each target is due. Pure: time is passed in, as seconds of the monotonic clock."""

import heapq
import math
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Turn:
    """One target's turn: when it was due, and how many earlier turns went by unserved."""

    name: str
    due: float
    missed: int


@dataclass(slots=True)
class _Entry:
    interval: float
    offset: float
    number: int

    @property
    def due(self) -> float:
        # Computed from a whole number of intervals each time, so that no error adds up.
        return self.offset + self.number * self.interval


class Schedule:
    """Fixed-rate turns for many names, each on its own interval and its own phase.

    A name's phase is a stable hash of it, so that a thousand targets spread evenly over their
    interval, every restart finds them where they were, and adding one moves no other.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._queue: list[tuple[float, str]] = []

    def set(self, name: str, interval: float, now: float) -> None:
        """Adds `name`, or gives it a new interval (seconds); one that keeps its interval keeps its turn."""
        entry = self._entries.get(name)
        if entry is not None and entry.interval == interval:
            return
        offset = stable_fraction(name) * interval
        entry = _Entry(interval, offset, math.ceil((now - offset) / interval))
        if entry.due < now:  # the division above rounded down
            entry.number += 1
        self._entries[name] = entry
        heapq.heappush(self._queue, (entry.due, name))

    def remove(self, name: str) -> None:
        """Forgets `name`; one that was never set is no error."""
        self._entries.pop(name, None)

    def next_due(self) -> float | None:
        """When the next turn is due, or None with nothing to do."""
        while self._queue and not self._is_current(*self._queue[0]):
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def take_due(self, now: float) -> list[Turn]:
        """The turns due by `now`, the longest due first; each name at most once.

        After a stall of several intervals a name gets its latest turn, and `missed` says how
        many went by: they are never made up for in a burst.
        """
        turns = []
        while (due := self.next_due()) is not None and due <= now:
            _, name = heapq.heappop(self._queue)
            entry = self._entries[name]
            missed = max(0, math.floor((now - entry.due) / entry.interval))
            entry.number += missed
            if entry.due > now:  # the division above rounded up
                entry.number -= 1
                missed -= 1
            turns.append(Turn(name, entry.due, missed))
            entry.number += 1
            heapq.heappush(self._queue, (entry.due, name))
        return turns

    def _is_current(self, due: float, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is not None and entry.due == due


def stable_fraction(name: str) -> float:
    """A number in [0, 1) that depends on `name` alone, on every machine and at every start."""
    digest = blake2b(name.encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48
