"""Whether the file that is open is still the one that it was: nobody else has a reason to touch it."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from exporter.history.database import SMALLEST, CorruptError, check, open_for_reading

Identity = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a history found: which file and which write-ahead log are there, and how the file is.

    The log is there as long as the file is open.
    """

    file: Identity = None
    log: Identity = None
    size: int = 0
    changed: int = 0
    """When the file was written to, in nanoseconds; not when its log was."""

    def is_of(self, other: "Seen") -> bool:
        """Whether both are of one file with one log."""
        return (self.file, self.log) == (other.file, other.log)


def look(path: Path) -> Seen:
    """What is there now, by its name alone.

    Closing the file itself would let go of all locks that SQLite has on it in this process.
    """
    log, _, _ = _stat(path.with_name(f"{path.name}-wal"))
    file, size, changed = _stat(path)
    return Seen(file, log, size, changed)


def check_unharmed(path: Path, before: Seen, now: Seen) -> None:
    """Raises CorruptError for a file that something else cut short, or whose beginning it overwrote.

    The connection that writes would not notice: it has those pages in its memory.
    """
    if now.file is None or now.file != before.file:
        return
    if now.size < SMALLEST:
        raise _harmed(before, now, "nothing is left of it")
    if (now.size, now.changed) == (before.size, before.changed):
        return
    try:
        with closing(open_for_reading(path)) as fresh:
            fresh.execute("PRAGMA schema_version").fetchone()
            if now.size < before.size:
                check(fresh)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise _harmed(before, now, str(error)) from error


def _harmed(before: Seen, now: Seen, why: str) -> CorruptError:
    if now.size < before.size:
        what = f"something else cut the history from {before.size} to {now.size} bytes"
    else:
        what = "something else wrote to the history"
    return CorruptError(f"{what} ({why}): what it had kept is lost")


def _stat(path: Path) -> tuple[Identity, int, int]:
    try:
        found = path.stat()
    except OSError:
        return None, 0, 0
    return (found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns
