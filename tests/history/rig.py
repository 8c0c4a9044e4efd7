"""What the tests of the history run on: results to keep, a writer at work, and a look at its file."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from exporter.history.backlog import CAPACITY, Backlog, Batch
from exporter.history.database import open_for_reading, upgrade
from exporter.history.entries import BreakerEvent, Check, Skip
from exporter.history.retention import Retention
from exporter.history.sums import RunningSums
from exporter.history.transaction import commit
from exporter.history.writer import HistoryState, Writer
from exporter.outcome import Failure, Operation, Outcome, Phase, Reason

DEADLINE = 30.0
HOUR, DAY = 3600.0, 86_400.0
MIDNIGHT = 20_000 * DAY
"""2024-10-04, 00:00 UTC."""

FOREVER = Retention(age=1000 * DAY, size=1 << 50)


def check(
    at: float = MIDNIGHT,
    target: str = "media",
    operation: Operation = Operation.PUT,
    *,
    success: bool = True,
    duration: float = 0.02,
    request_id: str = "",
    status: int | None = None,
) -> Check:
    """A result."""
    failure = None if success else Failure(Reason.SERVER, "the storage answered 503", "SlowDown", "Wait.")
    phases = {Phase.PROCESSING: duration / 2, Phase.TRANSFER: duration / 2}
    return Check(
        at, Outcome(target, operation, at, duration, phases, status or 200, request_id, failure=failure)
    )


def event(cause: str = "failures", target: str = "media", at: float = MIDNIGHT) -> BreakerEvent:
    """An opened breaker."""
    return BreakerEvent(at, target, "closed", "open", cause, "put", 10, 3, 1, 60.0)


def in_memory() -> sqlite3.Connection:
    """An empty history, read as the reader reads it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    upgrade(connection, ":memory:")
    connection.row_factory = sqlite3.Row
    return connection


def write(connection: sqlite3.Connection, *entries: Check | Skip) -> None:
    """What the writer would do with one batch."""
    commit(connection, RunningSums(), Batch(checks=entries))


def wait_for(condition: Callable[[], object]) -> None:
    """TimeoutError if it does not come true in time."""
    give_up = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(condition)
        time.sleep(0.005)


@dataclass
class Kept:
    """A writer at work."""

    path: Path
    backlog: Backlog
    writer: Writer

    def put(self, *entries: Check | Skip) -> None:
        for entry in entries:
            self.backlog.put(entry)

    def keep(self, *entries: Check | Skip) -> None:
        """Until they are on the disk."""
        self.put(*entries)
        self.settle()

    def settle(self) -> None:
        self.backlog.settle().result(DEADLINE)

    def announce(self, what: BreakerEvent) -> bool:
        return self.backlog.announce(what).result(DEADLINE)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The writer has something else in hand: what is given meanwhile becomes one batch."""
        began, go_on = Event(), Event()

        def hold(_: sqlite3.Connection) -> None:
            began.set()
            assert go_on.wait(DEADLINE)

        holding = self.backlog.transact(hold)
        assert began.wait(DEADLINE)
        try:
            yield
        finally:
            go_on.set()
            holding.result(DEADLINE)

    @property
    def state(self) -> HistoryState:
        return self.writer.state()

    def wait_until_down(self) -> None:
        wait_for(lambda: not self.state.up)

    def wait_until_written(self) -> None:
        """By itself: nothing wakes the writer."""
        wait_for(lambda: self.state.up and not self.state.queued)

    def ids(self) -> list[str]:
        """The request ids in the file, in the order they were written."""
        return request_ids(self.path)

    def causes(self) -> list[str]:
        """The causes of the events in the file, in the order they were written."""
        return [
            row["cause"] for row in rows(self.path, "SELECT cause FROM circuit_breaker_events ORDER BY id")
        ]


@contextmanager
def keeping(
    path: Path,
    *,
    retention: Retention = FOREVER,
    capacity: int = CAPACITY,
    clock: Callable[[], float] = time.time,
) -> Iterator[Kept]:
    """A writer that began; it is stopped at the end."""
    backlog = Backlog(capacity)
    writer = Writer(path, backlog, retention, clock)
    writer.start()
    try:
        yield Kept(path, backlog, writer)
    finally:
        assert writer.stop(DEADLINE)


def rows(path: Path, sql: str, *values: object) -> Sequence[Any]:
    """What plain SQL gives."""
    with closing(open_for_reading(path)) as connection:
        return connection.execute(sql, values).fetchall()


def request_ids(path: Path) -> list[str]:
    """Of the results in a file, in the order they were written."""
    return [row["request_id"] for row in rows(path, "SELECT request_id FROM r2_health_checks ORDER BY id")]


def count(path: Path, table: str = "r2_health_checks") -> int:
    [(number,)] = rows(path, f"SELECT count(*) FROM {table}")
    return int(number)


def numbered(numbers: Sequence[int]) -> list[Check]:
    """Results that are told apart by their request ids."""
    return [check(MIDNIGHT + number, request_id=str(number)) for number in numbers]


def integrity(path: Path) -> str:
    """What SQLite finds wrong with a file, or `ok`."""
    [(verdict,)] = rows(path, "PRAGMA integrity_check(1)")
    return str(verdict)


def beside(path: Path, suffix: str) -> Path:
    """The log of a file, or its shared memory."""
    return path.with_name(path.name + suffix)


def damage(path: Path, offset: int, length: int, byte: int = 165) -> None:
    """Overwrites a part of a file, in another process: closing it here would let go of SQLite's locks."""
    program = "import sys; f = open(sys.argv[1], 'r+b'); f.seek({}); f.write(bytes([{}]) * {})"
    subprocess.run([sys.executable, "-c", program.format(offset, byte, length), path], check=True)


def kept_aside(path: Path) -> list[Path]:
    """The corrupt files in whose place another one was begun."""
    return sorted(path.parent.glob(f"{path.name}.corrupt-*"))
