"""Pages of results are what a plain list of them would give, whatever was asked and trimmed."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.history.entries import Check
from exporter.history.queries import Filter, check_page
from exporter.history.retention import Retention, trim
from exporter.outcome import Operation
from tests.history.rig import DAY, HOUR, MIDNIGHT, check, in_memory, write

# Whole numbers of minutes, so that many results have the same time and lie on the edge of an hour.
TIMES = st.integers(0, 4 * 24 * 60).map(lambda minute: MIDNIGHT + minute * 60.0)
CROWDED = st.integers(0, 12).map(lambda part: MIDNIGHT + 23 * HOUR + part * 600.0)
MOMENTS = TIMES | CROWDED
OPERATIONS = (Operation.PUT, Operation.GET)
CHECKS = st.builds(check, MOMENTS, st.sampled_from("ab"), st.sampled_from(OPERATIONS), success=st.booleans())
FILTERS = st.builds(
    Filter,
    st.sampled_from([None, "a", "b", "unknown"]),
    st.sampled_from([None, *(operation.value for operation in OPERATIONS), "unknown"]),
    st.none() | MOMENTS | MOMENTS.map(lambda at: at + 0.5),
    st.sampled_from([None, True, False]),
)


@dataclass
class Model:
    """What the table holds: the number of each result and the result."""

    rows: list[tuple[int, Check]]

    def keep_from(self, at: float) -> None:
        self.rows = [row for row in self.rows if row[1].at >= at]

    def page(self, wanted: Filter, limit: int, offset: int) -> tuple[int, list[int]]:
        found = [
            (entry.at, number)
            for number, entry in self.rows
            if wanted.target in (None, entry.outcome.target)
            and wanted.operation in (None, entry.outcome.operation.value)
            and (wanted.since is None or entry.at >= wanted.since)
            and wanted.success in (None, entry.outcome.success)
        ]
        newest_first = [number for _, number in sorted(found, reverse=True)]
        return len(found), newest_first[offset : offset + limit]


def trim_before(connection: sqlite3.Connection, at: float, age: float) -> None:
    """Trims what is older than `age`, at a time when that is what came before `at`."""
    while trim(connection, Retention(age, 1 << 50), at + age):
        pass


def asked(connection: sqlite3.Connection, wanted: Filter, limit: int, offset: int) -> tuple[int, list[int]]:
    page = check_page(connection, wanted, limit, offset)
    return page.total, [row["id"] for row in page.rows]


@settings(max_examples=300)
@given(
    st.lists(st.lists(CHECKS, max_size=30), max_size=4),
    st.none() | MOMENTS,
    # Sums by hour outlast results that are kept for an hour or two days, but none that are kept for long.
    st.sampled_from([HOUR, 2 * DAY, 40 * DAY, 500 * DAY]),
    st.lists(CHECKS, max_size=10),
    FILTERS,
    st.integers(0, 60),
    st.integers(0, 130),
)
@example([[check(MIDNIGHT - 1), check(MIDNIGHT)]], None, HOUR, [], Filter(), 1, 1)
def test_a_page_is_the_part_of_all_results_that_was_asked_for(
    batches: list[list[Check]],
    trimmed: float | None,
    age: float,
    later: list[Check],
    wanted: Filter,
    limit: int,
    offset: int,
) -> None:
    model = Model([(number, entry) for number, entry in enumerate(chain(*batches), 1)])
    with closing(in_memory()) as connection:
        for batch in batches:  # in no order of time: a clock was set back, and forth
            write(connection, *batch)
        if trimmed is not None:
            trim_before(connection, trimmed, age)
            model.keep_from(trimmed)
            later = [entry for entry in later if entry.at >= trimmed]
        # SQLite gives the number after the highest that is there.
        free = max((number for number, _ in model.rows), default=0) + 1
        write(connection, *later)
        model.rows += enumerate(later, free)
        assert asked(connection, wanted, limit, offset) == model.page(wanted, limit, offset)


@given(st.lists(CHECKS, max_size=60), FILTERS, st.integers(1, 20))
def test_pages_one_after_the_other_give_every_result_once(
    entries: list[Check], wanted: Filter, limit: int
) -> None:
    model = Model(list(enumerate(entries, 1)))
    with closing(in_memory()) as connection:
        write(connection, *entries)
        total, everything = model.page(wanted, len(entries), 0)
        assert list(walked(connection, wanted, limit, total)) == everything


def walked(connection: sqlite3.Connection, wanted: Filter, limit: int, total: int) -> Iterator[int]:
    for offset in range(0, total + limit, limit):
        told, ids = asked(connection, wanted, limit, offset)
        assert told == total
        yield from ids


def test_an_hour_that_was_trimmed_in_part_is_counted_by_what_is_left() -> None:
    with closing(in_memory()) as connection:
        write(connection, *(check(MIDNIGHT + second) for second in range(100)))
        trim_before(connection, MIDNIGHT + 40, age=DAY)
        page = check_page(connection, Filter(), 5, 58)
        assert page.total == 60
        assert [row["checked_at"] - MIDNIGHT for row in page.rows] == [41, 40]


def test_a_page_holds_whole_rows() -> None:
    with closing(in_memory()) as connection:
        write(connection, check(MIDNIGHT, "media", success=False, duration=0.5, request_id="r", status=503))
        [row] = check_page(connection, Filter(), 1, 0).rows
    assert dict(row) == {
        "id": 1,
        "checked_at": MIDNIGHT,
        "target": "media",
        "operation": "put",
        "success": 0,
        "duration_seconds": 0.5,
        "status": 503,
        "request_id": "r",
        "reason": "server",
        "s3_code": "SlowDown",
        "message": "the storage answered 503",
        "hint": "Wait.",
        "resolve_seconds": None,
        "connect_seconds": None,
        "tls_seconds": None,
        "processing_seconds": 0.25,
        "transfer_seconds": 0.25,
    }
