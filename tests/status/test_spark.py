"""What the page asks the history: it is right, and it reads the rows of the target in question alone."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from exporter.history.entries import Check, Skip
from exporter.history.rollup import merged
from exporter.history.spark import (
    availability_since,
    hours_since,
    latest_checks,
    latest_failures,
    sums_since,
    whole,
)
from exporter.outcome import Operation
from tests.history.rig import DAY, HOUR, MIDNIGHT, check, in_memory, write

GET, PUT = Operation.GET, Operation.PUT
CHECKS = [
    check(MIDNIGHT + number * 600, "ab"[number % 2], [GET, PUT][number // 2 % 2], success=number % 5 > 0)
    for number in range(3 * 144)
]
ASKED: list[Callable[[sqlite3.Connection], Any]] = [
    lambda connection: hours_since(connection, "a", MIDNIGHT + DAY),
    lambda connection: availability_since(connection, "a", MIDNIGHT + DAY),
    lambda connection: sums_since(connection, "a", MIDNIGHT + DAY),
    lambda connection: latest_checks(connection, "a", 10),
    lambda connection: latest_failures(connection, "a", 10),
]


@pytest.fixture(scope="module")
def filled() -> Iterator[sqlite3.Connection]:
    """Three days of two targets; then the breaker of one was open for a while."""
    with closing(in_memory()) as connection:
        write(connection, *CHECKS, Skip(MIDNIGHT + 2 * DAY, "a", GET, 7))
        yield connection


def of_a(since: float) -> list[Check]:
    return [each for each in CHECKS if each.outcome.target == "a" and each.at >= since]


@pytest.mark.parametrize("ask", ASKED, ids=["hours", "availability", "sums", "latest", "failures"])
def test_it_goes_by_the_index_of_the_target(
    filled: sqlite3.Connection, ask: Callable[[sqlite3.Connection], Any]
) -> None:
    statements: list[str] = []
    filled.set_trace_callback(statements.append)
    ask(filled)
    filled.set_trace_callback(None)
    plans = [row[3] for sql in statements for row in filled.execute(f"EXPLAIN QUERY PLAN {sql}")]
    read = [step for step in plans if re.match("SCAN|SEARCH", step)]
    assert read
    assert all(re.search(r"^SEARCH .*_by_target \((period=\? AND )?target=\?", step) for step in read), read


def test_hours_hold_all_operations_and_what_was_skipped(filled: sqlite3.Connection) -> None:
    hours = hours_since(filled, "a", MIDNIGHT + DAY + 1800)
    assert [hour.started_at for hour in hours] == [int(MIDNIGHT + DAY + n * HOUR) for n in range(48)]
    known = of_a(MIDNIGHT + DAY)
    total = whole(hours)
    assert (total.checks, total.failures) == (len(known), sum(not each.outcome.success for each in known))
    assert [hour.skipped for hour in hours if hour.skipped] == [7]
    [skipped] = [hour for hour in hours if hour.skipped]
    assert skipped.availability == (skipped.checks - skipped.failures) / (skipped.checks + 7)
    assert total.mean == pytest.approx(0.02)


def test_the_share_of_days_is_that_of_their_hours(filled: sqlite3.Connection) -> None:
    hours = hours_since(filled, "a", MIDNIGHT + DAY)
    assert availability_since(filled, "a", MIDNIGHT + DAY + HOUR) == whole(hours).availability
    assert availability_since(filled, "unknown", MIDNIGHT) is None
    assert hours_since(filled, "unknown", MIDNIGHT) == []


def test_sums_are_by_operation(filled: sqlite3.Connection) -> None:
    sums = sums_since(filled, "a", MIDNIGHT + DAY)
    assert sums.keys() == {"get", "put"}
    assert merged(sums.values()).checks == len(of_a(MIDNIGHT + DAY))


def test_the_latest_come_newest_first(filled: sqlite3.Connection) -> None:
    rows = latest_checks(filled, "a", 5)
    assert [row["checked_at"] for row in rows] == [each.at for each in reversed(of_a(0.0)[-5:])]


def test_failures_of_an_hour_that_are_alike_are_one_with_their_number() -> None:
    with closing(in_memory()) as connection:
        start = MIDNIGHT + HOUR
        of_one_kind = [check(start + second, success=False, request_id=str(second)) for second in range(40)]
        other = check(start + 5, operation=GET, success=False)
        write(connection, *of_one_kind, other, check(start + 50), check(MIDNIGHT, success=False))
        found = latest_failures(connection, "media", 10)
        assert [(each.times, each.last["operation"], each.hour) for each in found] == [
            (40, "put", int(start)),
            (1, "get", int(start)),
            (1, "put", int(MIDNIGHT)),
        ]
        assert found[0].last["request_id"] == "39"
        assert [each.times for each in latest_failures(connection, "media", 1)] == [40]
