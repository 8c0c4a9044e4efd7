"""One batch written in one transaction, and what to do with entries that no database would take."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

from exporter.history.backlog import Batch, Work
from exporter.history.database import VERSION, NewerSchemaError, insert_many, is_corrupt, upgrade
from exporter.history.entries import CHECK, EVENT, Check
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
        for entry in batch.checks:
            sums.add(connection, entry)
        rows = [entry.row() for entry in batch.checks if isinstance(entry, Check)]
        insert_many(connection, CHECK, rows)
        sums.write(connection)
        answers = [_try(connection, work) for work, _ in batch.works]
        connection.execute("COMMIT")
    except BaseException:
        sums.forget()
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return answers


def prove(connection: sqlite3.Connection) -> None:
    """Writes what is there already: a transaction that writes nothing succeeds on any disk."""
    connection.execute(f"PRAGMA user_version = {VERSION}")


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
