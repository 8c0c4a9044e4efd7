"""Reading the history beside the thread that writes it, off the event loop."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from exporter.history.database import HistoryUnavailableError, is_corrupt, mend_of, open_for_reading

THREADS = 2
LONGEST = 10.0
"""Seconds after which a query is given up."""

STEPS = 100_000
"""Of SQLite's virtual machine between two looks at the clock: some milliseconds."""

T = TypeVar("T")
Query = Callable[[sqlite3.Connection], T]


class Reader:
    """Runs queries, each on one snapshot of the database. `suspect` is told of a corrupt file."""

    def __init__(self, path: Path, suspect: Callable[[], None]) -> None:
        self._path = path
        self._suspect = suspect
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="history-reader")

    async def run(self, query: Query[T]) -> T:
        """What `query` returns. Raises HistoryUnavailableError."""
        try:
            work = asyncio.get_running_loop().run_in_executor(self._threads, self.run_now, query)
        except RuntimeError as error:  # what a pool that was shut down says
            raise HistoryUnavailableError("the exporter is stopping") from error
        return await work

    def run_now(self, query: Query[T]) -> T:
        """The same in the caller's thread."""
        try:
            # A connection of its own: it opens in a fraction of a millisecond, and whatever happened to
            # the file before is none of its business.
            with closing(open_for_reading(self._path)) as connection:
                give_up = time.monotonic() + LONGEST
                connection.set_progress_handler(lambda: time.monotonic() > give_up, STEPS)
                connection.execute("BEGIN")
                return query(connection)
        except (sqlite3.Error, OSError) as error:
            if is_corrupt(error):
                self._suspect()
            mend = f": {what}" if (what := mend_of(error)) else ""
            raise HistoryUnavailableError(f"the history cannot be read: {error}{mend}") from error

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
