"""What the history lets go of, in slices so small that the writer is never held up for long."""

import sqlite3
from dataclasses import dataclass

SLICE = 2_000
"""Rows removed in one transaction."""

PAGES = 2_000
"""Empty pages given back to the file system in one step."""

HOURS_KEPT = 32 * 86_400.0
"""Sums by hour last at least so long: 30 days of availability are made of them."""

LONG_KEPT = 400 * 86_400.0
"""Sums by day, transitions, resolved alerts and changes of settings: a year can be compared with the last."""

JUMP = 3600.0
"""Seconds by which the clock may be set ahead at once and still be believed."""

DOUBT = 3600.0
"""Seconds for which it is not believed else: what was trimmed by mistake does not come back."""

_ALWAYS = 1e18
"""A time after that of any result."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long results are kept (seconds), and how large the database may become (bytes)."""

    age: float = 30 * 86_400.0
    size: int = 2 << 30


@dataclass(slots=True)
class BelievedClock:
    """The wall clock, as far as what is old by it may be removed."""

    _ahead: float | None = None
    _doubted_until: float = 0.0

    def now(self, wall: float, monotonic: float) -> float:
        """`wall` (Unix seconds), or 0, by which nothing is old, when it was set ahead a short time ago."""
        ahead = wall - monotonic
        if self._ahead is not None and ahead > self._ahead + JUMP:
            self._doubted_until = monotonic + DOUBT
        self._ahead = ahead
        return 0.0 if monotonic < self._doubted_until else wall


def trim(connection: sqlite3.Connection, retention: Retention, now: float) -> bool:
    """Removes one slice of what is too old or too much. True if there is more to remove."""
    removed = _trim_checks(connection, now - retention.age)
    if removed < SLICE:  # sums tell where results are, so they go after them
        removed += _trim_others(connection, retention, now)
    if not removed and _used(connection) > retention.size:
        removed = _trim_checks(connection, _ALWAYS)
    free = _pragma(connection, "freelist_count")
    if free:
        # Each page is a row without columns, of which `execute` would take the first alone.
        connection.executescript(f"PRAGMA incremental_vacuum({PAGES})")
    more = removed > 0 or free > PAGES
    if not more:
        # The file itself shrinks when its log is copied into it.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return more


def _trim_checks(connection: sqlite3.Connection, before: float) -> int:
    return connection.execute(
        "DELETE FROM r2_health_checks WHERE id IN "
        "(SELECT id FROM r2_health_checks WHERE checked_at < :before ORDER BY checked_at LIMIT :slice)",
        {"before": before, "slice": SLICE},
    ).rowcount


def _trim_others(connection: sqlite3.Connection, retention: Retention, now: float) -> int:
    return sum(
        connection.execute(sql, {"before": now - kept, "slice": SLICE}).rowcount
        for sql, kept in (
            (_sums("hour"), max(retention.age, HOURS_KEPT)),
            (_sums("day"), max(retention.age, LONG_KEPT)),
            (_old("circuit_breaker_events", "occurred_at"), max(retention.age, LONG_KEPT)),
            (_old("service_alerts", "resolved_at"), max(retention.age, LONG_KEPT)),
            (_old("health_check_config_changes", "changed_at"), max(retention.age, LONG_KEPT)),
        )
    )


def _old(table: str, column: str) -> str:
    return (
        f"DELETE FROM {table} WHERE id IN "  # noqa: S608 - constants
        f"(SELECT id FROM {table} WHERE {column} < :before LIMIT :slice)"
    )


def _sums(period: str) -> str:
    return (
        "DELETE FROM r2_operation_metrics WHERE (period, started_at, target, operation) IN "  # noqa: S608
        "(SELECT period, started_at, target, operation FROM r2_operation_metrics "
        f"WHERE period = '{period}' AND started_at < :before LIMIT :slice)"
    )


def _used(connection: sqlite3.Connection) -> int:
    """Bytes of the pages in use."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
