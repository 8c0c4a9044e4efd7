"""The log says what to do about a history that cannot be written."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exporter.history.database import mend_of, open_for_reading, open_for_writing
from tests.history.rig import keeping


def a_folder(path: Path) -> None:
    path.mkdir()
    open_for_writing(path)


def no_folder(path: Path) -> None:
    open_for_writing(path / "history.db")


def read_only(path: Path) -> None:
    open_for_writing(path).close()
    with closing(open_for_reading(path)) as connection:
        connection.execute("DELETE FROM r2_health_checks")


def full(path: Path) -> None:
    with closing(open_for_writing(path)) as connection:
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute("CREATE TABLE more AS SELECT zeroblob(1000000)")


def locked(path: Path) -> None:
    with closing(open_for_writing(path)) as first, closing(open_for_writing(path)) as second:
        first.execute("BEGIN IMMEDIATE")
        second.execute("BEGIN IMMEDIATE")


@pytest.mark.parametrize(
    ("trouble", "mend"),
    [
        (a_folder, "must be a file"),
        (no_folder, "make the folder"),
        (read_only, "that this user may write"),
        (full, "history.max_size"),
        (locked, "end the program"),
    ],
)
def test_each_trouble_has_a_mend(path: Path, trouble: Callable[[Path], None], mend: str) -> None:
    with pytest.raises((sqlite3.Error, OSError)) as error:
        trouble(path)
    assert mend in mend_of(error.value)


def test_the_log_says_it(path: Path) -> None:
    path.mkdir()
    with capture_logs() as lines, keeping(path) as kept:
        kept.wait_until_down()
    [line] = [line for line in lines if line["event"] == "the history cannot be written now"]
    assert "must be a file" in line["mend"]
    assert line["file"] == str(path)
