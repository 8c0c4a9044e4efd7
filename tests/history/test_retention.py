"""What is too old or too much goes, a slice at a time, and the file becomes smaller."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.history import retention as limits
from exporter.history.backlog import Batch
from exporter.history.database import open_for_writing, size_of
from exporter.history.entries import EVENT
from exporter.history.retention import DOUBT, JUMP, SLICE, BelievedClock, Retention, trim
from exporter.history.rollup import PERIODS
from exporter.history.sums import RunningSums
from exporter.history.transaction import commit
from exporter.outcome import Operation
from tests.history.rig import (
    DAY,
    FOREVER,
    HOUR,
    MIDNIGHT,
    check,
    count,
    event,
    integrity,
    keeping,
    rows,
    wait_for,
)

YEAR = 365 * DAY
TABLES = (
    "r2_health_checks",
    "r2_operation_metrics",
    "circuit_breaker_events",
    "service_alerts",
    "health_check_config_changes",
)


@pytest.fixture
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_for_writing(path)) as connection:
        yield connection


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


def add(connection: sqlite3.Connection, times: list[float]) -> None:
    """A row of each kind at each of these times."""
    commit(connection, RunningSums(), Batch(checks=[check(at) for at in times]))
    connection.execute("BEGIN")
    connection.executemany(EVENT, [event(at=at).row() for at in times])
    connection.executemany(
        "INSERT INTO service_alerts (target, type, severity, message, created_at, updated_at, resolved_at) "
        "VALUES ('a', 'slow_response', 'HIGH', '', ?1, ?1, ?1)",
        [(at,) for at in times],
    )
    connection.executemany(
        "INSERT INTO health_check_config_changes (change, changed_at, changed_by, target, setting) "
        "VALUES (1, ?, '', '', '')",
        [(at,) for at in times],
    )
    connection.execute("COMMIT")


def trim_all(connection: sqlite3.Connection, retention: Retention, now: float) -> list[dict[str, int]]:
    """What was left before, and after each slice."""
    left = [counts(connection)]
    while trim(connection, retention, now):
        left.append(counts(connection))
    return left


def test_each_kind_is_kept_as_long_as_it_should_be(opened: sqlite3.Connection) -> None:
    now = MIDNIGHT + 2 * YEAR
    ages = [0, 3 * DAY, 20 * DAY, 40 * DAY, 390 * DAY, 410 * DAY]
    add(opened, [now - age for age in ages])
    # An alert that is open stays, however old.
    opened.execute(
        "INSERT INTO service_alerts (target, type, severity, message, created_at, updated_at) "
        "VALUES ('a', 'slow_response', 'HIGH', '', 0, 0)"
    )
    trim_all(opened, Retention(age=10 * DAY, size=1 << 50), now)
    assert [row[0] for row in opened.execute("SELECT checked_at FROM r2_health_checks ORDER BY 1 DESC")] == [
        now,
        now - 3 * DAY,
    ]
    sums = opened.execute(
        "SELECT period, count(*) FROM r2_operation_metrics GROUP BY period ORDER BY 1"
    ).fetchall()
    assert sums == [("day", 5), ("hour", 3)]
    assert counts(opened) == {
        "r2_health_checks": 2,
        "r2_operation_metrics": 8,
        "circuit_breaker_events": 5,
        "service_alerts": 6,
        "health_check_config_changes": 5,
    }


def test_all_of_it_is_kept_longer_if_results_are(opened: sqlite3.Connection) -> None:
    now = MIDNIGHT + 3 * YEAR
    add(opened, [now - 2 * YEAR, now])
    trim_all(opened, Retention(age=2.5 * YEAR, size=1 << 50), now)
    assert set(counts(opened).values()) == {2, 4}


def test_no_slice_is_larger_than_it_may_be(opened: sqlite3.Connection) -> None:
    add(opened, [MIDNIGHT + number * HOUR for number in range(2 * SLICE + 100)])
    now = MIDNIGHT + 3 * YEAR
    for retention in (Retention(age=DAY, size=1 << 50), Retention(age=DAY, size=1)):
        left = trim_all(opened, retention, now)
        for before, after in pairwise(left):
            for table in TABLES:
                periods = len(PERIODS) if table == "r2_operation_metrics" else 1
                assert before[table] - after[table] <= SLICE * periods
    assert set(counts(opened).values()) == {0}


def test_sums_outlast_the_results_that_they_lead_to(opened: sqlite3.Connection) -> None:
    add(opened, [MIDNIGHT + number * HOUR for number in range(SLICE + 10)])
    sums = counts(opened)["r2_operation_metrics"]
    assert trim(opened, Retention(age=DAY, size=1 << 50), MIDNIGHT + 3 * YEAR)
    assert counts(opened)["r2_health_checks"] == 10
    assert counts(opened)["r2_operation_metrics"] == sums


def test_too_much_goes_oldest_first(opened: sqlite3.Connection) -> None:
    entries = [check(MIDNIGHT - number, request_id="x" * 100) for number in range(3 * SLICE)]
    commit(opened, RunningSums(), Batch(checks=entries))
    (pages,) = opened.execute("PRAGMA page_count").fetchone()
    limit = pages * 4096 // 2
    trim_all(opened, Retention(age=FOREVER.age, size=limit), MIDNIGHT)
    left = counts(opened)["r2_health_checks"]
    assert 0 < left < 3 * SLICE
    oldest = opened.execute("SELECT min(checked_at) FROM r2_health_checks").fetchone()[0]
    assert oldest == MIDNIGHT - left + 1
    opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_what_cannot_be_trimmed_is_not_tried_for_ever(opened: sqlite3.Connection) -> None:
    add(opened, [MIDNIGHT])
    left = trim_all(opened, Retention(age=YEAR, size=1), MIDNIGHT)
    assert counts(opened)["r2_health_checks"] == 0
    assert len(left) < 10


def test_the_writer_trims_by_itself_and_the_file_shrinks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.history.writer.TRIM_SECONDS", 0.1)
    number = 20_000
    with keeping(path, clock=lambda: MIDNIGHT + DAY) as kept:
        kept.keep(*(check(MIDNIGHT + n, "a", Operation.GET, request_id="x" * 50) for n in range(number)))
        wait_for(lambda: kept.state.size > 2_000_000)
        large = size_of(path)
        kept.writer.retention = Retention(age=DAY - 18_000, size=1 << 50)
        wait_for(lambda: count(path) == 2000)
        wait_for(lambda: path.stat().st_size < large / 4)
        wait_for(lambda: kept.state.size == size_of(path))
        assert integrity(path) == "ok"
        assert kept.state.up
        kept.keep(check(MIDNIGHT + DAY))
    assert size_of(path) < large / 4
    [sums] = rows(path, "SELECT sum(checks) AS checks FROM r2_operation_metrics WHERE period = 'day'")
    assert sums["checks"] == number + 1


def test_a_clock_that_is_set_ahead_takes_nothing_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.history.writer.TRIM_SECONDS", 0.05)
    set_to = [MIDNIGHT]
    asked: list[float] = []

    def clock() -> float:
        asked.append(set_to[-1])
        return set_to[-1]

    with keeping(path, retention=Retention(age=DAY), clock=clock) as kept:
        kept.keep(check(MIDNIGHT), check(MIDNIGHT - 2 * DAY))
        wait_for(lambda: count(path) == 1)
        for moment in (MIDNIGHT + 2 * YEAR, MIDNIGHT, MIDNIGHT + 31 * DAY):
            set_to.append(moment)
            wait_for(lambda: asked.count(set_to[-1]) > 8)
            assert count(path) == 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(-YEAR, YEAR))
def test_a_clock_that_goes_its_way_is_always_believed(steps: list[float], offset: float) -> None:
    clock = BelievedClock()
    for monotonic in accumulate(steps):
        wall = MIDNIGHT + offset + monotonic
        assert clock.now(wall, monotonic) == wall


@given(st.floats(JUMP + 1, 10 * YEAR), st.lists(st.floats(0, JUMP), max_size=50))
def test_a_clock_that_was_set_ahead_is_believed_after_an_hour(by: float, later: list[float]) -> None:
    clock = BelievedClock()
    assert clock.now(MIDNIGHT, 0.0) == MIDNIGHT
    clock.now(MIDNIGHT + by, 0.0)
    for monotonic in sorted(later):
        wall = MIDNIGHT + by + monotonic
        assert clock.now(wall, monotonic) == (0.0 if monotonic < DOUBT else wall)


def test_the_writer_keeps_to_the_size_while_results_come_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.history.writer.TRIM_SECONDS", 0.05)
    limit = 3_000_000
    largest = 0
    with keeping(path, retention=Retention(age=FOREVER.age, size=limit)) as kept:
        for part in range(20):
            kept.keep(*(check(MIDNIGHT + part * 2000 + n, request_id="x" * 50) for n in range(2000)))
            largest = max(largest, path.stat().st_size)
        wait_for(lambda: used(path) <= limit)
        newest = rows(path, "SELECT max(checked_at) AS at FROM r2_health_checks")[0]["at"]
        assert newest == MIDNIGHT + 39_999
    assert largest < 3 * limit


def used(path: Path) -> int:
    [(pages,)] = rows(path, "PRAGMA page_count")
    [(free,)] = rows(path, "PRAGMA freelist_count")
    return int(pages - free) * 4096


def test_empty_pages_are_given_back_in_small_steps(
    opened: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PAGES", 100)
    entries = [check(MIDNIGHT, request_id="x" * 500) for _ in range(SLICE)]
    commit(opened, RunningSums(), Batch(checks=entries))
    pages = [opened.execute("PRAGMA page_count").fetchone()[0]]
    while trim(opened, Retention(age=DAY, size=1 << 50), MIDNIGHT + 2 * DAY):
        pages.append(opened.execute("PRAGMA page_count").fetchone()[0])
    pages.append(opened.execute("PRAGMA page_count").fetchone()[0])
    steps = [before - after for before, after in pairwise(pages)]
    assert max(steps) <= 100
    assert sum(steps) > 200
    assert opened.execute("PRAGMA freelist_count").fetchone()[0] == 0
