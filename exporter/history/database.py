"""The history's file: opened, made, upgraded, and kept aside when it is corrupt."""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

VERSION = 1
"""The schema of `schema.sql`, as PRAGMA user_version has it."""

SCHEMA = files("exporter.history").joinpath("schema.sql").read_text(encoding="utf-8")
"""The SQL of an empty history."""

UPGRADES: Mapping[int, str] = {}
"""The SQL that brings a file to this version from the one before."""

LOCK_SECONDS = 1.0
"""How long to wait for a lock that another program holds."""

ROWS_AT_ONCE = 60
"""Rows by one statement: with 16 values each below the 999 that SQLite took before 3.32."""

SMALLEST = 512
"""Bytes of a database's smallest page. SQLite takes the shortest files for empty, and writes over them."""

_HEADERS = (b"SQLite format 3\0", bytes(16), b"")
"""What a history begins with: whole, as a power failure may leave it, or made but not yet written."""

_ALONGSIDE = ("", "-wal", "-shm")
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_WRITABLE = "it must be a file that this user may write, in a folder that it may write"
_MENDS = {
    sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_FULL: "make room, or lower history.max_size and history.retention",
    sqlite3.SQLITE_BUSY: "end the program that holds the file locked",
    sqlite3.SQLITE_IOERR: "the disk fails: the system's log knows more",
}


class HistoryUnavailableError(Exception):
    """The history cannot be written or read now; the message says why."""


class NewerSchemaError(Exception):
    """A later version of this program wrote the file."""


class ForeignFileError(sqlite3.DatabaseError):
    """The file is somebody else's: it is left as it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is no history of r2-exporter, and stays as it is: move it away, or name another file "
            "with --storage.path"
        )


class CorruptError(sqlite3.DatabaseError):
    """The file is damaged; `aside` is where it is now, if it was kept aside already."""

    def __init__(self, message: str, aside: Path | None = None) -> None:
        super().__init__(message)
        self.aside = aside


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The one connection that writes, on a file of the current version; made if it is not there.

    Raises NewerSchemaError, sqlite3.Error, or OSError for a folder that is not there. A corrupt file is
    kept aside first, somebody else's is not touched.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "the folder of the history is not there", str(path.parent))
    if path.is_file() and 0 < path.stat().st_size < SMALLEST:
        raise ForeignFileError(path)
    connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path)
    except BaseException as error:
        try:
            if isinstance(error, sqlite3.Error) and is_corrupt(error):
                if not _begins_as_a_history(path):
                    raise ForeignFileError(path) from error
                raise CorruptError(str(error), keep_aside(path)) from error
            raise
        finally:
            connection.close()
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises sqlite3.Error, or OSError for a path that leads nowhere."""
    if path.is_file() and path.stat().st_size < SMALLEST:  # SQLite would remove its log
        raise CorruptError("the file is empty")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=LOCK_SECONDS, check_same_thread=False
    )
    connection.isolation_level = None
    connection.row_factory = sqlite3.Row
    return connection


def upgrade(
    connection: sqlite3.Connection,
    path: Path | str,
    version: int = VERSION,
    upgrades: Mapping[int, str] = UPGRADES,
) -> None:
    """Brings a file to `version` in one transaction, or leaves it as it was. Raises NewerSchemaError."""
    if _version_of(connection) == version:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _version_of(connection)
        _refuse_newer(path, found, version)
        if found == 0:
            _run(connection, SCHEMA)
            found = VERSION
        for step in range(found + 1, version + 1):
            _run(connection, upgrades[step])
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends it by itself when the disk is full
            connection.execute("ROLLBACK")
        raise


def is_corrupt(error: Exception) -> bool:
    """Whether an error says that the file is damaged, or none of SQLite's."""
    if isinstance(error, CorruptError):
        return True
    return isinstance(error, sqlite3.DatabaseError) and _code(error) in _CORRUPT


def is_read_only(error: Exception) -> bool:
    """Whether an error says that the file may not be written."""
    return _code(error) == sqlite3.SQLITE_READONLY


def mend_of(error: Exception) -> str:
    """What an operator can do about an error that does not say so itself; "" if it does."""
    if isinstance(error, FileNotFoundError):
        return "make the folder, or name another file with --storage.path"
    return _MENDS.get(_code(error), "")


def check(connection: sqlite3.Connection) -> None:
    """Reads the whole file. Raises CorruptError if it is damaged."""
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise CorruptError(verdict)


def keep_aside(path: Path) -> Path:
    """Renames a corrupt file, for somebody to look into it, and says how. Raises OSError.

    It is closed after that, not before: SQLite would remove the log of what it closes.
    """
    return _rename(path, "corrupt", _ALONGSIDE)


def keep_log_aside(path: Path) -> Path:
    """Renames the write-ahead log beside a file that it does not belong to, and says how. Raises OSError."""
    return _beside(_rename(path, "moved", _ALONGSIDE[1:]), "-wal")


def remove_log(path: Path) -> None:
    """Removes the write-ahead log beside a file that it does not belong to. Raises OSError."""
    for suffix in _ALONGSIDE[1:]:
        _beside(path, suffix).unlink(missing_ok=True)


def copy_log(connection: sqlite3.Connection) -> bool:
    """Copies the whole write-ahead log into the file, under whatever name that is now; whether it could.

    Closing does not do that for a file that was moved.
    """
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        return False
    return not busy


def size_of(path: Path) -> int:
    """Bytes on the disk, the write-ahead log included."""
    parts = (_beside(path, suffix) for suffix in _ALONGSIDE)
    return sum(part.stat().st_size for part in parts if part.exists())


def _rename(path: Path, why: str, suffixes: Sequence[str]) -> Path:
    """What is there of a file, under a name that nothing has; the name without a suffix."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.{why}-{stamp}")
    number = 1
    while any(_beside(aside, suffix).exists() for suffix in _ALONGSIDE):
        number += 1
        aside = path.with_name(f"{path.name}.{why}-{stamp}-{number}")
    for suffix in suffixes:
        if _beside(path, suffix).exists():
            _beside(path, suffix).rename(_beside(aside, suffix))
    return aside


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _begins_as_a_history(path: Path) -> bool:
    """Asked only of what SQLite cannot read: closing a file lets go of all locks that this process has on it.

    https://www.sqlite.org/howtocorrupt.html
    """
    with path.open("rb") as file:
        return file.read(16) in _HEADERS


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "r2_health_checks" not in tables:
        raise ForeignFileError(path)
    found = _version_of(connection)
    _refuse_newer(path, found, VERSION)  # before anything in it is touched
    if found == 0:
        # Kept in the file: deleted pages can be given back to the file system in small steps.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    # What was announced survives a power failure too: each commit reaches the disk.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    upgrade(connection, path)


def _refuse_newer(path: Path | str, found: int, known: int) -> None:
    if found > known:
        raise NewerSchemaError(
            f"{path} has version {found} of the history's schema, and this program knows up to {known}: "
            "run the version that wrote it or a later one, or name another file with --storage.path"
        )


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Each statement by itself: executescript would commit the transaction around it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _code(error: Exception) -> int:
    """SQLite's primary code: extended ones hold it in their low byte, and Python's own errors have none."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def insert_many(connection: sqlite3.Connection, insert: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Many rows by few statements. `insert` ends with VALUES, and the rows are of one length.

    SQLite lets other threads run while it carries out a statement. With one for each row this thread and
    the event loop would take turns at the interpreter that often, which costs both more than it does.
    """
    for first in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[first : first + ROWS_AT_ONCE]
        places = f"({', '.join('?' * len(some[0]))})"
        connection.execute(insert + ", ".join([places] * len(some)), [*chain.from_iterable(some)])
