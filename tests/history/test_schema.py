"""The file: its version, its upgrades, and what plain SQL finds in it."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from exporter.history import History, NewerSchemaError
from exporter.history.database import VERSION, open_for_writing, upgrade
from exporter.outcome import Operation
from tests.history.rig import DAY, DEADLINE, FOREVER, HOUR, MIDNIGHT, check, keeping, rows, write

NEXT = VERSION + 1


@pytest.fixture
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_for_writing(path)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def pragma(connection: sqlite3.Connection, name: str) -> object:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return value


def dump(connection: sqlite3.Connection) -> list[str]:
    return list(connection.iterdump())


def test_a_new_file_has_the_version_and_can_shrink(opened: sqlite3.Connection) -> None:
    assert pragma(opened, "user_version") == VERSION
    assert pragma(opened, "journal_mode") == "wal"
    assert pragma(opened, "auto_vacuum") == 2  # incremental
    assert pragma(opened, "synchronous") == 2  # full


def test_every_setting_has_its_row_with_the_default(opened: sqlite3.Connection) -> None:
    found = opened.execute("SELECT setting, value, default_value FROM health_check_config").fetchall()
    settings = {row["setting"]: row["default_value"] for row in found}
    assert len(settings) == 12
    assert settings["checkInterval"] == "30000"
    assert settings["testOperations"] == '["put", "get", "delete"]'
    assert {row["value"] for row in found} == {None}


def test_opening_again_changes_nothing(path: Path, opened: sqlite3.Connection) -> None:
    write(opened, check())
    before = dump(opened)
    with closing(open_for_writing(path)) as again:
        assert dump(again) == before


def test_two_that_open_a_new_file_at_once_both_find_it_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.history.database.LOCK_SECONDS", DEADLINE)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: open_for_writing(path), range(4)))
    assert [pragma(connection, "user_version") for connection in found] == [VERSION] * 4
    for connection in found:
        connection.close()


def test_an_upgrade_keeps_what_is_there(path: Path, opened: sqlite3.Connection) -> None:
    write(opened, check())
    step = "ALTER TABLE r2_health_checks ADD COLUMN bucket TEXT;\nCREATE TABLE more (\n  a TEXT\n);"
    upgrade(opened, path, NEXT, {NEXT: step})
    assert pragma(opened, "user_version") == NEXT
    [row] = opened.execute("SELECT target, bucket FROM r2_health_checks").fetchall()
    assert tuple(row) == ("media", None)
    assert opened.execute("SELECT count(*) FROM more").fetchone()[0] == 0


def test_a_new_file_takes_the_upgrades_too() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        upgrade(connection, ":memory:", NEXT, {NEXT: "CREATE TABLE more (a);"})
        assert pragma(connection, "user_version") == NEXT
        assert connection.execute("SELECT count(*) FROM more").fetchone() == (0,)


@pytest.mark.parametrize(
    "last",
    ["INSERT INTO nowhere VALUES (1);", "CREATE TABLE more (a);", "this is no SQL;"],
    ids=["an unknown table", "a table that is there", "no SQL"],
)
def test_a_failing_upgrade_leaves_the_file_as_it_was(
    path: Path, opened: sqlite3.Connection, last: str
) -> None:
    write(opened, check())
    before = dump(opened)
    first = "CREATE TABLE more (a);\nDELETE FROM r2_health_checks;\nDROP VIEW open_alerts;"
    with pytest.raises(sqlite3.OperationalError):
        upgrade(opened, path, NEXT + 1, {NEXT: first, NEXT + 1: last})
    assert dump(opened) == before
    assert pragma(opened, "user_version") == VERSION
    write(opened, check())  # and it can still be written


def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    with closing(open_for_writing(path)) as connection:
        connection.execute(f"PRAGMA user_version = {NEXT}")
    before = path.read_bytes()
    with pytest.raises(NewerSchemaError) as refused:
        History(path, FOREVER).start()
    assert str(refused.value) == (
        f"{path} has version {NEXT} of the history's schema, and this program knows up to {VERSION}: "
        "run the version that wrote it or a later one, or name another file with --storage.path"
    )
    assert path.read_bytes() == before


def test_the_last_results_are_one_for_each_operation_of_each_target(opened: sqlite3.Connection) -> None:
    late = MIDNIGHT + 5 * DAY
    write(
        opened,
        check(late, "a", Operation.PUT, request_id="last"),
        check(late - 1, "a", Operation.PUT, request_id="the clock went back"),
        check(MIDNIGHT, "a", Operation.GET, request_id="of days ago"),
        check(MIDNIGHT, "b", Operation.PUT, request_id="first of two at once"),
        check(MIDNIGHT, "b", Operation.PUT, request_id="second of two at once"),
    )
    found = opened.execute("SELECT target, operation, request_id FROM latest_health_checks").fetchall()
    assert {tuple(row) for row in found} == {
        ("a", "put", "last"),
        ("a", "get", "of days ago"),
        ("b", "put", "second of two at once"),
    }


def test_the_views_of_each_hour(opened: sqlite3.Connection) -> None:
    write(
        opened,
        check(MIDNIGHT, duration=0.1),
        check(MIDNIGHT + 1, success=False, duration=0.3),
        check(MIDNIGHT + HOUR, duration=0.2),
    )
    rates = opened.execute("SELECT hour, failures, error_rate, reasons FROM error_rate_per_hour").fetchall()
    assert [tuple(row) for row in rates] == [
        ("2024-10-04 01:00:00", 0, 0.0, "{}"),
        ("2024-10-04 00:00:00", 1, 0.5, '{"server": 1}'),
    ]
    slowest = opened.execute(
        "SELECT hour, duration_max_seconds, mean_seconds FROM slowest_per_hour"
    ).fetchall()
    assert [tuple(row) for row in slowest] == [
        ("2024-10-04 00:00:00", 0.3, pytest.approx(0.2)),
        ("2024-10-04 01:00:00", 0.2, pytest.approx(0.2)),
    ]


def test_open_alerts_are_those_that_nothing_resolved(opened: sqlite3.Connection) -> None:
    opened.executemany(
        "INSERT INTO service_alerts (target, type, severity, message, created_at, updated_at, resolved_at) "
        "VALUES (?, 'slow_response', 'HIGH', 'slow', ?, 0, ?)",
        [("a", MIDNIGHT, None), ("b", MIDNIGHT + 1, None), ("a", MIDNIGHT - 1, MIDNIGHT)],
    )
    found = opened.execute("SELECT target, since, notified FROM open_alerts").fetchall()
    assert [tuple(row) for row in found] == [
        ("b", "2024-10-04 00:00:01", None),
        ("a", "2024-10-04 00:00:00", None),
    ]


def test_plain_sql_reads_the_file_while_the_writer_runs(path: Path) -> None:
    program = (
        "import sqlite3, sys; file = sqlite3.connect(sys.argv[1]);"
        "print(file.execute('select * from r2_health_checks order by id desc limit 5').fetchall())"
    )
    with keeping(path) as kept:
        kept.keep(check(target="first"))
        asked = [sys.executable, "-c", program, str(path)]
        first = subprocess.run(asked, capture_output=True, text=True, check=True)
        # Whoever read has not disturbed the writer, nor does the file that it closed.
        kept.keep(check(target="second"))
        second = subprocess.run(asked, capture_output=True, text=True, check=True)
        assert kept.state.up
    assert "'first'" in first.stdout
    assert "'second'" in second.stdout
    assert [row["target"] for row in rows(path, "SELECT target FROM r2_health_checks")] == ["first", "second"]
