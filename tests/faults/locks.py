"""A program beside the exporter that has the history's file for itself."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.running import DEADLINE


@contextmanager
def locked(history: Path) -> Iterator[None]:
    """It writes, and does not come to an end before the block does."""
    with closing(sqlite3.connect(history, isolation_level=None, timeout=DEADLINE)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
