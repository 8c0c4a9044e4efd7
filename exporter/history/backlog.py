"""What waits to be written, handed over from any thread to the one that writes."""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from exporter.history.database import HistoryUnavailableError
from exporter.history.entries import BreakerEvent, Check, Skip

FLUSH_SECONDS = 0.5
"""The longest that a result waits for others to be written with; a kill -9 may lose a second of them."""

BATCH = 5_000
"""Results in one transaction."""

CAPACITY = 100_000
"""Results that wait while the disk does not take them; beyond, the oldest are dropped and counted."""

EVENT_CAPACITY = 10_000

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
Event = tuple[BreakerEvent, "Future[bool]"]


@dataclass(slots=True)
class Batch:
    """What is written in one transaction, and who is told of it. `settling` wait for no more than that."""

    checks: Sequence[Check | Skip] = ()
    events: Sequence[Event] = ()
    works: Sequence[tuple[Work, "Future[Any]"]] = ()
    settling: Sequence["Future[None]"] = field(default_factory=list)

    @property
    def entries(self) -> int:
        """Results and events."""
        return len(self.checks) + len(self.events)


class Backlog:
    """A queue with a bound, in memory. Giving never waits; `wait` and `take` are for the writer alone."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.dropped = 0
        self.stopping = False
        self._closed = False
        self._capacity = capacity
        self._checks: deque[Check | Skip] = deque()
        self._events: deque[Event] = deque()
        self._works: list[tuple[Work, Future[Any]]] = []
        self._settling: list[Future[None]] = []
        self._in_hand = Batch()
        self._woken = False
        self._flush_at = 0.0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Results and events that are not on the disk."""
        return sum(self.waiting())

    def waiting(self) -> tuple[int, int]:
        """The same, each by itself."""
        in_hand = self._in_hand
        return len(self._checks) + len(in_hand.checks), len(self._events) + len(in_hand.events)

    def put(self, entry: Check | Skip) -> None:
        """Gives a result, to be written within about a second."""
        with self._changed:
            self._checks.append(entry)
            self._drop_beyond_capacity()
            if len(self._checks) == 1:
                self._flush_at = time.monotonic() + FLUSH_SECONDS
            if len(self._checks) in (1, BATCH):
                self._changed.notify()

    def announce(self, event: BreakerEvent) -> "Future[bool]":
        """Gives an event, to be written at once.

        The future says after the first attempt whether it is on the disk; if it is not, it will be written
        as soon as the disk takes it.
        """
        written: Future[bool] = Future()
        with self._changed:
            if self._closed:
                written.set_result(False)
            else:
                self._events.append((event, written))
                self._drop_beyond_capacity()
                self._changed.notify()
        return written

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        """Runs `work` within a transaction at once, and says when that is on the disk.

        The future raises what `work` does, and HistoryUnavailableError if nothing could be written; it
        is not tried again.
        """
        done: Future[T] = Future()
        with self._changed:
            if self.stopping:
                done.set_exception(HistoryUnavailableError("the exporter is stopping"))
            else:
                self._works.append((work, done))
                self._changed.notify()
        return done

    def settle(self) -> "Future[None]":
        """Says when all that was given before is on the disk, or an attempt to write it failed."""
        settled: Future[None] = Future()
        with self._changed:
            if self.stopping:
                settled.set_result(None)
            else:
                self._settling.append(settled)
                self._changed.notify()
        return settled

    def wake(self) -> None:
        """Lets the writer have a look at its file."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def stop(self) -> None:
        """Takes no more works, and lets the writer come to its end."""
        with self._changed:
            self.stopping = True
            self._changed.notify()

    def close(self) -> Batch:
        """Takes no more events. Gives those that will not be written any more."""
        with self._changed:
            self._closed = True
            return Batch(events=list(self._events))

    def wait(self, deadline: float, *, retrying: bool) -> None:
        """Until something is to be done, at the latest at `deadline` (monotonic seconds).

        While `retrying` results and events do not count: they wait for that.
        """
        with self._changed:
            while not (self.stopping or self._works or self._settling or self._woken):
                due = deadline if retrying else min(deadline, self._due())
                if (left := due - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            self._woken = False

    def take(self) -> Batch:
        """The next batch; it is in the writer's hand until `done` or `put_back`."""
        with self._changed:
            checks = [self._checks.popleft() for _ in range(min(BATCH, len(self._checks)))]
            batch = Batch(checks, list(self._events), self._works)
            if not self._checks:
                batch.settling, self._settling = self._settling, []
            self._events.clear()
            self._works = []
            self._flush_at = 0.0
            self._in_hand = batch
            return batch

    def done(self) -> None:
        """The batch is written."""
        with self._changed:
            self._in_hand = Batch()

    def keep_in_hand(self, rest: Batch) -> None:
        """The other entries of the batch can never be written."""
        with self._changed:
            self.dropped += self._in_hand.entries - rest.entries
            self._in_hand = rest

    def put_back(self, batch: Batch) -> None:
        """The batch could not be written: its entries are the next again, as far as there is room.

        Whoever waits until an attempt was made has seen it fail: `batch.settling` is all of them.
        """
        with self._changed:
            self._in_hand = Batch()
            self._checks.extendleft(reversed(batch.checks))
            self._events.extendleft(reversed(batch.events))
            self._drop_beyond_capacity()
            batch.settling = [*batch.settling, *self._settling]
            self._settling = []

    def _drop_beyond_capacity(self) -> None:
        while len(self._checks) > self._capacity:
            self._checks.popleft()
            self.dropped += 1
        while len(self._events) > EVENT_CAPACITY:
            _, written = self._events.popleft()
            self.dropped += 1
            if not written.done() and written.set_running_or_notify_cancel():
                written.set_result(False)

    def _due(self) -> float:
        if self._events or len(self._checks) >= BATCH:
            return 0.0
        return self._flush_at if self._checks else float("inf")
