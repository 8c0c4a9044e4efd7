"""No question reads a table of millions from end to end, as EXPLAIN QUERY PLAN has it."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from exporter.history.alerts import (
    Notice,
    Resolution,
    alert_page,
    end_condition,
    keep_notices,
    lasting_alerts,
    raise_alert,
    resolve_by_hand,
    update_alert,
)
from exporter.history.backlog import Batch
from exporter.history.queries import (
    Filter,
    breaker_events,
    check_page,
    last_breaker_events,
    sums_between,
)
from exporter.history.retention import Retention, trim
from exporter.history.sums import RunningSums
from exporter.history.transaction import commit
from exporter.outcome import Operation
from tests.history.rig import DAY, HOUR, MIDNIGHT, check, event, in_memory

# Views call the table by another name.
PARTIAL = r"(?! USING (COVERING )?INDEX service_alerts_(open|lasting))"
"""An index that holds but the alerts that are wanted may be read whole."""

SCAN = re.compile(rf"SCAN (r2_health_checks|checks|r2_operation_metrics|service_alerts{PARTIAL})\b")
VIEWS = ("latest_health_checks", "error_rate_per_hour", "slowest_per_hour", "open_alerts")
FILTERS = [
    Filter(*wanted)
    for wanted in product(
        (None, "a", "unknown"), (None, "get", "unknown"), (None, MIDNIGHT + HOUR), (None, True, False)
    )
]


@pytest.fixture(scope="module")
def filled() -> Iterator[sqlite3.Connection]:
    """Three days of two targets, so that every branch of every query is taken."""
    operations = list(Operation)
    entries = [
        check(MIDNIGHT + number * 600, "ab"[number % 2], operations[number % 5], success=number % 3 > 0)
        for number in range(432)
    ]
    with closing(in_memory()) as connection:
        batch = Batch(checks=entries, events=[])
        commit(connection, RunningSums(), batch)
        yield connection


def scans(connection: sqlite3.Connection, ask: Callable[[sqlite3.Connection], Any]) -> list[str]:
    """What of all that `ask` executes reads a large table whole."""
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    try:
        ask(connection)
    finally:
        connection.set_trace_callback(None)
    assert statements
    explained = [sql for sql in statements if re.match(r"\s*(SELECT|INSERT|DELETE|UPDATE)", sql)]
    plans = [row[3] for sql in explained for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    return [step for step in plans if SCAN.search(step)]


def test_a_scan_would_be_seen(filled: sqlite3.Connection) -> None:
    for sql in (
        "SELECT * FROM r2_health_checks WHERE status = 503",
        "SELECT * FROM r2_health_checks AS checks ORDER BY id DESC LIMIT 5",
        "SELECT count(*) FROM r2_operation_metrics",
    ):
        assert scans(filled, lambda connection, sql=sql: connection.execute(sql).fetchall()), sql  # type: ignore[misc]


@pytest.mark.parametrize("offset", [0, 60, 150])
@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_a_page_of_results_uses_indexes(filled: sqlite3.Connection, wanted: Filter, offset: int) -> None:
    assert not scans(filled, lambda connection: check_page(connection, wanted, 50, offset))


@pytest.mark.parametrize("target", [None, "a"])
@pytest.mark.parametrize("hours", [1, 24, 100, 720])
def test_sums_use_indexes(filled: sqlite3.Connection, hours: int, target: str | None) -> None:
    end = MIDNIGHT + 3 * DAY
    assert not scans(filled, lambda connection: sums_between(connection, end - hours * HOUR, end, target))


@pytest.mark.parametrize("view", VIEWS)
def test_views_use_indexes(filled: sqlite3.Connection, view: str) -> None:
    assert not scans(filled, lambda connection: connection.execute(f"SELECT * FROM {view}").fetchall())


def test_every_view_is_looked_at(filled: sqlite3.Connection) -> None:
    found = filled.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall()
    assert {row["name"] for row in found} == set(VIEWS)


def test_events_of_a_target_use_an_index(filled: sqlite3.Connection) -> None:
    steps = filled.execute(
        "EXPLAIN QUERY PLAN SELECT * FROM circuit_breaker_events WHERE target = 'a' ORDER BY id DESC LIMIT 1"
    ).fetchall()
    assert "USING INDEX circuit_breaker_events_by_target" in steps[0][3]
    assert not scans(filled, lambda connection: breaker_events(connection, "a", 5))
    assert not scans(filled, lambda connection: breaker_events(connection, None, 5))
    assert not scans(filled, lambda connection: last_breaker_events(connection, ["a", "b"]))


def test_writing_and_letting_go_use_indexes() -> None:
    def write_and_trim(connection: sqlite3.Connection) -> None:
        commit(connection, RunningSums(), Batch(checks=[check(), check(MIDNIGHT + DAY)]))
        trim(connection, Retention(age=HOUR, size=1), MIDNIGHT + DAY)
        trim(connection, Retention(age=DAY, size=1), MIDNIGHT + DAY)

    with closing(in_memory()) as connection:
        assert not scans(connection, write_and_trim)
        assert connection.execute("SELECT count(*) FROM r2_health_checks").fetchone()[0] == 0


def test_alerts_use_indexes() -> None:
    notice = Notice("a", "slow_response", "MEDIUM", "slow", "pager", MIDNIGHT, None)

    def live(connection: sqlite3.Connection) -> None:
        number = raise_alert(connection, "a", "high_error_rate", "HIGH", "half", MIDNIGHT)
        update_alert(connection, "a", "high_error_rate", "more", MIDNIGHT)
        keep_notices(connection, [notice, replace(notice, ended_at=MIDNIGHT + HOUR)], MIDNIGHT)
        resolve_by_hand(connection, number, Resolution("ops"), MIDNIGHT)
        end_condition(connection, "a", "high_error_rate", MIDNIGHT)
        assert lasting_alerts(connection) == []
        assert alert_page(connection, None, resolved=False, limit=50, offset=0) == (0, [])
        assert alert_page(connection, "a", resolved=False, limit=50, offset=0) == (0, [])
        assert alert_page(connection, "a", resolved=True, limit=50, offset=0)[0] == 2

    with closing(in_memory()) as connection:
        assert not scans(connection, live)


def test_events_are_listed_newest_first() -> None:
    with closing(in_memory()) as connection:
        for cause, target in (("1", "a"), ("2", "b"), ("3", "a"), ("4", "b")):
            row = event(cause, target).row()
            marks = ", ".join("?" * len(row))
            connection.execute(
                "INSERT INTO circuit_breaker_events (occurred_at, target, from_state, to_state, cause, "
                f"operation, calls, failures, slow_calls, recovery_seconds) VALUES ({marks})",
                row,
            )
        assert [row["cause"] for row in breaker_events(connection, None, 3)] == ["4", "3", "2"]
        assert [row["cause"] for row in breaker_events(connection, "a", 3)] == ["3", "1"]
        assert [row["cause"] for row in last_breaker_events(connection, ["b", "a", "unknown"])] == ["4", "3"]
