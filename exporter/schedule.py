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
    number: int = 0

    @property
    def due(self) -> float:
        return self.time_of(self.number)

    def time_of(self, number: int) -> float:
        # Computed from a whole number of intervals each time, so that no error adds up.
        return self.offset + number * self.interval

    def latest(self, now: float) -> int:
        """The number of the last turn that is due by `now`."""
        number = math.floor((now - self.offset) / self.interval)
        # The division rounds, so it may be one turn off to either side.
        if self.time_of(number) > now:
            return number - 1
        return number + 1 if self.time_of(number + 1) <= now else number


class Schedule:
    """Fixed-rate turns for many names, each on its own interval and its own phase.

    A name's phase is a stable hash of it, so that a thousand targets spread evenly over their
    interval, every restart finds them where they were, and adding one moves no other.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._queue: list[tuple[float, str]] = []

    def set(self, name: str, interval: float, now: float) -> None:
        """Adds `name`, or gives it a new interval (seconds); one that keeps its interval keeps its turn.

        The first turn is due after `now`, at most an interval later.
        """
        entry = self._entries.get(name)
        if entry is not None and entry.interval == interval:
            return
        entry = _Entry(interval, stable_fraction(name) * interval)
        entry.number = entry.latest(now) + 1
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
            latest = entry.latest(now)
            turns.append(Turn(name, entry.time_of(latest), missed=latest - entry.number))
            entry.number = latest + 1
            heapq.heappush(self._queue, (entry.due, name))
        return turns

    def _is_current(self, due: float, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is not None and entry.due == due


def stable_fraction(name: str) -> float:
    """A number in [0, 1) that depends on `name` alone, on every machine and at every start."""
    digest = blake2b(name.encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48
