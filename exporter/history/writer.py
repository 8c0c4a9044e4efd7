"""The one thread that writes the history, so that no probe and no request ever waits for the disk."""

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from exporter.history.backlog import Backlog, Batch
from exporter.history.database import (
    HistoryUnavailableError,
    NewerSchemaError,
    check,
    copy_log,
    is_corrupt,
    is_read_only,
    keep_aside,
    keep_log_aside,
    mend_of,
    open_for_writing,
    remove_log,
    size_of,
)
from exporter.history.lock import Lock
from exporter.history.retention import BelievedClock, Retention, trim
from exporter.history.sums import RunningSums
from exporter.history.transaction import commit, is_of_the_file, prove, salvaged
from exporter.history.watch import Seen, check_unharmed, look

RETRY_SECONDS = 2.0
TRIM_SECONDS = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HistoryState:
    """How the writer stands. `size` is in bytes, `write_seconds` what writing took in all."""

    up: bool = True
    error: str = ""
    failed_since: float | None = None
    written: int = 0
    dropped: int = 0
    queued: int = 0
    size: int = 0
    write_seconds: float = 0.0
    opened: int = 0
    """How often a file was opened: it may be another one, or a new one, each time."""


class Writer:
    """Writes what the backlog holds, each batch in one transaction.

    After an error it tries again every 2 s, and what has gathered meanwhile is written then. A file
    that is gone or corrupt is replaced by a new one. `clock` gives Unix seconds.
    """

    def __init__(
        self, path: Path, backlog: Backlog, retention: Retention, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self.retention = retention
        self._backlog = backlog
        self._clock = clock
        self._believed = BelievedClock()
        self._retry_at = 0.0
        self._trim_at = 0.0
        self._suspected = False
        self._state = HistoryState()
        self._connection: sqlite3.Connection | None = None
        self._lock = Lock(path)
        self._seen = Seen()
        self._sums = RunningSums()
        self._thread = threading.Thread(target=self._run, name="history-writer", daemon=True)

    def start(self) -> None:
        """Opens the file and begins. Raises NewerSchemaError; any other trouble is tried again later."""
        for _ in range(2):  # a corrupt file is put aside at the first attempt
            try:
                self._open()
                break
            except (sqlite3.Error, OSError) as error:
                self._failed(error)
                if not is_corrupt(error):
                    break
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Writes what is left and closes the file; False if that took longer than `timeout` seconds.

        What the file does not hold then is lost, and the log says how much that is.
        """
        self._backlog.stop()
        self._thread.join(timeout)
        ended = not self._thread.is_alive()
        results, breaker_changes = self._backlog.waiting()
        if not ended or results or breaker_changes:
            log.error(
                "the history did not take its last results",
                file=str(self.path),
                results=results,
                breaker_changes=breaker_changes,
                cause=self._state.error or "the disk did not take them in time",
            )
        return ended

    def suspect(self) -> None:
        """A reader found the file corrupt: look at all of it."""
        self._suspected = True
        self._backlog.wake()

    def state(self) -> HistoryState:
        """How it stands now."""
        return replace(self._state, dropped=self._backlog.dropped, queued=len(self._backlog))

    def _run(self) -> None:
        stopping = False
        while not stopping or (self._may_write and len(self._backlog)):
            self._backlog.wait(
                self._trim_at if self._state.up else self._retry_at, retrying=not self._state.up
            )
            stopping = self._backlog.stopping
            self._write(self._backlog.take())
            if not stopping and self._state.up and time.monotonic() >= self._trim_at:
                self._trim()
        _tell(self._backlog.close(), written=False, answers=[])
        self._close()
        self._lock.release()

    @property
    def _may_write(self) -> bool:
        """Whether an attempt now is worth it: all went well, or a new file takes a corrupt one's place."""
        return self._state.up or not self._retry_at

    def _write(self, batch: Batch) -> None:
        began = time.perf_counter()
        try:
            connection = self._open()
            if not self._state.up and not batch.entries:
                prove(connection)
            answers = commit(connection, self._sums, batch)
            self._look_again()
        except Exception as error:
            if is_of_the_file(error):
                self._backlog.put_back(batch)
                self._refuse(batch, error)
            else:
                self._write_rest(batch, error)
        else:
            self._backlog.done()
            self._succeeded(batch.entries, time.perf_counter() - began)
            _tell(batch, written=True, answers=answers)

    def _write_rest(self, batch: Batch, error: Exception) -> None:
        """Without what would fail for ever; without any entry if it cannot be told which."""
        try:
            rest = salvaged(batch)
        except Exception:
            log.exception("results that cannot be written cannot be told from the others")
            rest = batch
        if rest.entries == batch.entries:
            rest = Batch()
        lost = batch.entries - rest.entries
        self._backlog.keep_in_hand(rest)
        log.error("results that cannot be written are dropped", entries=lost, cause=str(error))
        kept = {id(written) for _, written in rest.events}
        dropped = [event for event in batch.events if id(event[1]) not in kept]
        _tell(Batch(events=dropped), written=False, answers=[])
        if lost:
            self._write(replace(rest, works=batch.works, settling=batch.settling))
        else:
            self._refuse(batch, error)

    def _refuse(self, batch: Batch, error: Exception) -> None:
        self._failed(error)
        refusal = HistoryUnavailableError(f"the history cannot be written: {error}")
        _tell(batch, written=False, answers=[refusal] * len(batch.works))

    def _open(self) -> sqlite3.Connection:
        """The connection, a new one if the file is not the one that it was opened on."""
        if self._connection is not None:
            self._lock.take()
            now = look(self.path)
            check_unharmed(self.path, self._seen, now)
            if not now.is_of(self._seen):
                self._leave(now)
        if self._connection is None:
            self._connection = self._open_alone()
            self._seen = look(self.path)
            self._state = replace(self._state, opened=self._state.opened + 1)
            self._sums.forget()
        if self._suspected:
            check(self._connection)
            self._suspected = False
        return self._connection

    def _look_again(self) -> None:
        """How the file is after it was written to; another file in its place is still to be noticed."""
        if (now := look(self.path)).is_of(self._seen):
            self._seen = now

    def _open_alone(self) -> sqlite3.Connection:
        self._lock.take()
        try:
            connection = open_for_writing(self.path)
        except BaseException:
            self._lock.release()  # it may be somebody else's file
            raise
        if not self._lock.held:
            log.warning("the history cannot be locked: nobody notices two exporters", file=str(self.path))
        return connection

    def _leave(self, now: Seen) -> None:
        """Closes a file that was removed or replaced, or lost its write-ahead log."""
        log.warning("the history was removed or replaced, and is opened anew", file=str(self.path))
        copied = self._connection is None or copy_log(self._connection)
        self._close()
        if now.file == self._seen.file or now.log != self._seen.log:
            return
        # The log of the one that was there. SQLite would mix it into the one that is there now.
        if copied:
            remove_log(self.path)
        else:
            log.error(
                "the last results are not in the history that was moved, but in its log",
                kept=str(keep_log_aside(self.path)),
                mend="give the log the name of the moved file with -wal at its end, beside it",
            )

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _trim(self) -> None:
        """Removes what is too old or too much: a slice now, and the next when nothing else waits."""
        self._trim_at = time.monotonic() + TRIM_SECONDS
        try:
            now = self._believed.now(self._clock(), time.monotonic())
            more = trim(self._open(), self.retention, now)
            self._look_again()
            size = size_of(self.path)
        except (sqlite3.Error, OSError, NewerSchemaError) as error:
            self._failed(error)
            return
        self._sums.drop_before(self._clock())
        if more:
            self._trim_at = 0.0
        self._state = replace(self._state, size=size)

    def _failed(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if is_corrupt(error):
            self._suspected = False
            self._keep_aside(error)
            self._close()
        if is_read_only(error):
            self._close()  # it would stay so, whatever happens to the file
        first = self._state.up
        since = self._clock() if first else self._state.failed_since
        self._state = replace(self._state, up=False, error=str(error), failed_since=since)
        if first:
            mend = {"mend": what} if (what := mend_of(error)) else {}
            log.error("the history cannot be written now", file=str(self.path), cause=str(error), **mend)

    def _keep_aside(self, error: Exception) -> None:
        try:
            aside = getattr(error, "aside", None) or keep_aside(self.path)
        except OSError as refused:
            log.error("the corrupt history cannot be renamed", file=str(self.path), cause=str(refused))
        else:
            self._retry_at = 0.0
            log.error("the history is corrupt: kept aside, and a new one begun", kept=str(aside))

    def _succeeded(self, entries: int, seconds: float) -> None:
        state = self._state
        self._state = replace(
            state,
            up=True,
            error="",
            failed_since=None,
            written=state.written + entries,
            write_seconds=state.write_seconds + seconds,
        )
        if not state.up:
            log.info("the history is written again", file=str(self.path))


def _tell(batch: Batch, *, written: bool, answers: list[Any]) -> None:
    for _, announced in batch.events:
        _settle(announced, written)
    for (_, done), answer in zip(batch.works, answers, strict=True):
        _settle(done, answer)
    for settled in batch.settling:
        _settle(settled, None)


def _settle(future: "Future[Any]", answer: Any) -> None:
    if future.done() or not future.set_running_or_notify_cancel():
        return  # told at an earlier attempt, or nobody waits any more
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
