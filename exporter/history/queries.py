"""What the history is asked. Each query uses an index; none reads a table from end to end."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exporter.history.rollup import PERIODS, Sums, period_start
from exporter.history.sums import COLUMNS, add_row

Connection = sqlite3.Connection
Row = Mapping[str, Any]
Pair = tuple[str, str]


LONG = 7 * 86_400
"""Seconds from which on sums begin at a day, for there are 24 times fewer of them to add."""

_NEVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Filter:
    """Which results are wanted; None for any. `since` is in Unix seconds."""

    target: str | None = None
    operation: str | None = None
    since: float | None = None
    success: bool | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the results that were asked for, newest first, and how many there are."""

    total: int
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class _Span:
    """How many of the wanted results lie in a day, an hour or a part of one; it ends before `end`."""

    period: str
    start: float
    end: int
    checks: int


def check_page(connection: Connection, wanted: Filter, limit: int, offset: int) -> Page:
    """A page of results. However deep it lies and however few fit, only the hours they lie in are read.

    The sums of each day and hour say how many results they hold, so that all others are passed over; only
    in the oldest hour, of which a part may be gone, the results themselves are counted.
    """
    (oldest,) = connection.execute("SELECT min(checked_at) FROM r2_health_checks").fetchone()
    if oldest is None:
        return Page(0, [])
    since = oldest if wanted.since is None else max(wanted.since, oldest)
    spans = _spans_since(connection, wanted, since)
    rows: list[Row] = []
    for hour, skipped in _hours(connection, wanted, spans, offset):
        rows += _rows(connection, wanted, hour, limit - len(rows), skipped)
        if len(rows) >= limit:
            break
    return Page(sum(span.checks for span in spans), rows)


def sums_between(
    connection: Connection, start: float, end: float, target: str | None = None
) -> dict[Pair, Sums]:
    """The sums by target and operation of the hours from `span_start(start, end)` to `end` (Unix seconds)."""
    sums: dict[Pair, Sums] = {}
    for period, first, last in _spans(start, end):
        rows = connection.execute(
            f"SELECT target, operation, {COLUMNS} FROM r2_operation_metrics "  # noqa: S608 - constants
            "WHERE period = :period AND started_at >= :first AND started_at < :last "
            + ("AND target = :target" if target is not None else ""),
            {"period": period, "first": first, "last": last, "target": target},
        )
        for name, operation, *columns in rows:
            add_row(sums.setdefault((name, operation), Sums()), *columns)
    return sums


def breaker_events(connection: Connection, target: str | None, limit: int) -> list[Row]:
    """The latest changes of breakers' states, newest first."""
    which = "WHERE target = :target" if target is not None else ""
    return connection.execute(
        f"SELECT * FROM circuit_breaker_events {which} ORDER BY id DESC LIMIT :limit",  # noqa: S608
        {"target": target, "limit": limit},
    ).fetchall()


def last_breaker_events(connection: Connection, targets: Iterable[str]) -> list[Row]:
    """The last change of each of these targets' breakers, of those that ever changed."""
    found = (breaker_events(connection, target, 1) for target in targets)
    return [event for events in found for event in events]


def _spans_since(connection: Connection, wanted: Filter, since: float) -> list[_Span]:
    """Whole days, then the whole hours of the first day, then what there is of its first hour."""
    hour = period_start("hour", since) + PERIODS["hour"]
    day = period_start("day", since) + PERIODS["day"]
    part = _Span("hour", since, hour, 0)
    (checks,) = connection.execute(
        f"SELECT count(*) FROM {_in_span(wanted)}",  # noqa: S608 - constants
        _values(wanted, part),
    ).fetchone()
    return [
        *_counted(connection, wanted, "day", day, _NEVER),
        *_counted(connection, wanted, "hour", hour, day),
        replace(part, checks=checks),
    ]


def _counted(connection: Connection, wanted: Filter, period: str, first: int, last: int) -> list[_Span]:
    """The days or hours from `first` until before `last`, newest first."""
    counted = {None: "checks", True: "checks - failures", False: "failures"}[wanted.success]
    given = [
        f" AND {name} = :{name}" for name in ("target", "operation") if getattr(wanted, name) is not None
    ]
    rows = connection.execute(
        f"SELECT started_at, sum({counted}) FROM r2_operation_metrics "  # noqa: S608 - constants
        f"WHERE period = :period AND started_at >= :first AND started_at < :last{''.join(given)} "
        "GROUP BY started_at ORDER BY started_at DESC",
        {
            "period": period,
            "first": first,
            "last": last,
            "target": wanted.target,
            "operation": wanted.operation,
        },
    )
    return [_Span(period, start, start + PERIODS[period], checks) for start, checks in rows]


def _hours(
    connection: Connection, wanted: Filter, spans: Iterable[_Span], offset: int
) -> Iterator[tuple[_Span, int]]:
    """The hours from the result with this number on, each with how many of its results come before that."""
    for span in spans:
        if offset < span.checks:
            if span.period == "hour":
                yield span, offset
            else:
                hours = _counted(connection, wanted, "hour", span.end - PERIODS["day"], span.end)
                yield from _hours(connection, wanted, hours, offset)
        offset = max(0, offset - span.checks)


def _rows(connection: Connection, wanted: Filter, hour: _Span, limit: int, skipped: int) -> list[Row]:
    # What is skipped is counted in the index alone.
    return connection.execute(
        "SELECT * FROM r2_health_checks WHERE id IN "  # noqa: S608 - constants
        f"(SELECT id FROM {_in_span(wanted)} ORDER BY checked_at DESC, id DESC LIMIT :limit OFFSET :offset) "
        "ORDER BY checked_at DESC, id DESC",
        {**_values(wanted, hour), "limit": limit, "offset": skipped},
    ).fetchall()


def _in_span(wanted: Filter) -> str:
    """The table, by the index that holds all columns of the conditions, and these."""
    index = "failed" if wanted.success is False else "by_time" if wanted.target is None else "by_target"
    conditions = {
        "target = :target": wanted.target,
        "operation = :operation": wanted.operation,
        "success = 1": wanted.success or None,
        "success = 0": wanted.success is False or None,
    }
    given = [condition for condition, value in conditions.items() if value is not None]
    conditions_given = " AND ".join([*given, "checked_at >= :start AND checked_at < :end"])
    return f"r2_health_checks INDEXED BY r2_health_checks_{index} WHERE {conditions_given}"


def _values(wanted: Filter, span: _Span) -> dict[str, Any]:
    return {"target": wanted.target, "operation": wanted.operation, "start": span.start, "end": span.end}


def span_start(start: float, end: float) -> int:
    """Where the sums from `start` to `end` begin: at an hour, beyond a week at a day (UTC)."""
    return period_start("day" if end - start > LONG else "hour", start)


def _spans(start: float, end: float) -> list[tuple[str, int, int]]:
    """The periods from `start` to `end`: whole days as such, hours before and after them."""
    hour, day = PERIODS["hour"], PERIODS["day"]
    first, last = span_start(start, end), period_start("hour", end) + hour
    first_day, last_day = -(-first // day) * day, last // day * day
    if first_day >= last_day:
        return [("hour", first, last)]
    return [("hour", first, first_day), ("day", first_day, last_day), ("hour", last_day, last)]
