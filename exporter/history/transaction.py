"""One batch written in one transaction, and what to do with entries that no database would take."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from exporter.history.backlog import Batch, Work
from exporter.history.database import NewerSchemaError, is_corrupt, upgrade
from exporter.history.entries import CHECKS_AT_ONCE, EVENT, Check, Skip, insert_checks
from exporter.history.sums import RunningSums

_OF_THE_ENTRIES = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.NotSupportedError,
    sqlite3.ProgrammingError,
)


def commit(connection: sqlite3.Connection, sums: RunningSums, batch: Batch) -> list[Any]:
    """Everything in one transaction, or nothing of it; what the works answer."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(EVENT, [event.row() for event, _ in batch.events])
        _insert_checks(connection, sums, batch.checks)
        sums.write(connection)
        answers = [_try(connection, work) for work, _ in batch.works]
        connection.execute("COMMIT")
    except BaseException:
        sums.forget()
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return answers


def is_of_the_file(error: Exception) -> bool:
    """Whether the file or its disk failed, and the same batch can be written later."""
    failed = isinstance(error, sqlite3.DatabaseError | OSError | NewerSchemaError)
    return failed and not isinstance(error, _OF_THE_ENTRIES)


def salvaged(batch: Batch) -> Batch:
    """The batch without the entries that an empty database in memory does not take either."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        upgrade(scratch, ":memory:")
        return replace(
            batch,
            checks=[entry for entry in batch.checks if _fits(scratch, Batch(checks=[entry]))],
            events=[event for event in batch.events if _fits(scratch, Batch(events=[event]))],
        )


def _insert_checks(
    connection: sqlite3.Connection, sums: RunningSums, entries: Sequence[Check | Skip]
) -> None:
    """Many results by one statement, each added to the sums on its way.

    SQLite lets other threads run while it carries out a statement. With one for each result this thread and
    the event loop would take turns at the interpreter that often, which costs both more than it does.
    """
    for first in range(0, len(entries), CHECKS_AT_ONCE):
        values: list[Any] = []
        count = 0
        for entry in entries[first : first + CHECKS_AT_ONCE]:
            sums.add(connection, entry)
            if isinstance(entry, Check):
                values += entry.row()
                count += 1
        if count:
            connection.execute(insert_checks(count), values)


def _fits(scratch: sqlite3.Connection, batch: Batch) -> bool:
    try:
        commit(scratch, RunningSums(), batch)
    except Exception:
        return False
    return True


def _try(connection: sqlite3.Connection, work: Work) -> Any:
    """What `work` returns; or what it raised, with nothing of it done."""
    connection.execute("SAVEPOINT work")
    try:
        answer = work(connection)
    except Exception as error:
        if isinstance(error, sqlite3.OperationalError) or is_corrupt(error):
            raise
        connection.execute("ROLLBACK TO work")
        answer = error
    connection.execute("RELEASE work")
    return answer
