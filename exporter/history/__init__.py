"""The local history: one SQLite file, one thread that writes it, a few that read it."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog

from exporter.history.backlog import Backlog
from exporter.history.database import HistoryUnavailableError, NewerSchemaError
from exporter.history.entries import BreakerEvent, Check, Skip
from exporter.history.reader import Reader
from exporter.history.retention import Retention
from exporter.history.writer import HistoryState, Writer
from exporter.outcome import Operation, Outcome

__all__ = [
    "BreakerEvent",
    "History",
    "HistoryState",
    "HistoryUnavailableError",
    "NewerSchemaError",
    "Retention",
]

SETTLE_SECONDS = 1.0
"""The longest that a question waits for what was recorded before it to be on the disk."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class History:
    """What the event loop sees of it. Nothing here waits for the disk but what is awaited."""

    def __init__(self, path: Path, retention: Retention | None = None) -> None:
        with suppress(FileNotFoundError):  # there may be no working directory, now or later
            path = path.absolute()
        self.path = path
        self._backlog = Backlog()
        self._writer = Writer(path, self._backlog, retention or Retention())
        self._reader = Reader(path, self._writer.suspect)

    def start(self) -> None:
        """Opens the file; blocks. Raises NewerSchemaError; with any other trouble it tries again later."""
        self._writer.start()

    async def stop(self, timeout: float, *, alerts_kept: bool = True) -> bool:
        """Writes what is left; False if the disk did not take it within `timeout` seconds.

        Says in the log what is lost; of alerts whoever changes them knows whether they are kept.
        """
        stopped = await asyncio.to_thread(self._writer.stop, timeout)
        if not alerts_kept:
            log.error("the history does not know of the last changes of alerts", file=str(self.path))
        self._reader.close()
        return stopped

    def record(self, outcome: Outcome) -> None:
        """Keeps a result that is known just now."""
        self._backlog.put(Check(time.time(), outcome))

    def skip(self, target: str, operation: Operation, count: int = 1) -> None:
        """Keeps that operations were not sent because the breaker was open."""
        self._backlog.put(Skip(time.time(), target, operation, count))

    def announce(self, event: BreakerEvent) -> asyncio.Future[bool]:
        """Keeps an event, and says after the first attempt whether it is on the disk."""
        return asyncio.wrap_future(self._backlog.announce(event))

    async def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in a transaction and returns what it does once that is on the disk.

        Raises what `work` raises, or HistoryUnavailableError.
        """
        return await asyncio.wrap_future(self._backlog.transact(work))

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What `query` returns; it sees all that was recorded before. Raises HistoryUnavailableError."""
        if self._writer.state().up:
            settled = asyncio.wrap_future(self._backlog.settle())
            await asyncio.wait({settled}, timeout=SETTLE_SECONDS)
        return await self._reader.run(query)

    @property
    def is_ours(self) -> bool:
        """Whether the file was ever opened: until then another exporter may have it, and change it."""
        return self._writer.state().opened > 0

    def state(self) -> HistoryState:
        """How it stands."""
        return self._writer.state()

    def retain(self, retention: Retention) -> None:
        """Other limits from now on."""
        self._writer.retention = retention
