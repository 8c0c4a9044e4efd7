"""The rows of r2_operation_metrics: read, added to, and written back within the writer's transaction."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from exporter.history.database import insert_many
from exporter.history.entries import Check, Skip
from exporter.history.rollup import PERIODS, Sums, period_start

Key = tuple[str, int, str, str]

COLUMNS = "checks, failures, skipped, duration_sum_seconds, duration_max_seconds, reasons, histogram"
_FIND = (
    f"SELECT {COLUMNS} FROM r2_operation_metrics "  # noqa: S608 - constants
    "WHERE period = ? AND started_at = ? AND target = ? AND operation = ?"
)
_WRITE = (
    f"INSERT OR REPLACE INTO r2_operation_metrics (period, started_at, target, operation, {COLUMNS}) "  # noqa: S608
    "VALUES "
)
_compact = json.JSONEncoder(separators=(",", ":")).encode


class RunningSums:
    """The sums of the hours and days that are being written to, so that each batch need not read them."""

    def __init__(self) -> None:
        self._sums: dict[Key, Sums] = {}
        self._touched: set[Key] = set()

    def add(self, connection: sqlite3.Connection, entry: Check | Skip) -> None:
        """Adds an entry; `write` is to follow in the same transaction."""
        if isinstance(entry, Check):
            outcome = entry.outcome
            reason = outcome.failure.reason.value if outcome.failure else None
            for sums in self._of(connection, entry.at, outcome.target, outcome.operation.value):
                sums.check(outcome.duration, reason)
        else:
            for sums in self._of(connection, entry.at, entry.target, entry.operation.value):
                sums.skipped += entry.count

    def write(self, connection: sqlite3.Connection) -> None:
        """Writes the rows that changed."""
        insert_many(connection, _WRITE, [(*key, *row_of(self._sums[key])) for key in sorted(self._touched)])
        self._touched.clear()

    def forget(self) -> None:
        """The database may hold something else: read all anew."""
        self._sums.clear()
        self._touched.clear()

    def drop_before(self, at: float) -> None:
        """Lets go of the periods that ended before `at`."""
        ended = [key for key in self._sums if key[1] + PERIODS[key[0]] <= at]
        for key in ended:
            del self._sums[key]

    def _of(self, connection: sqlite3.Connection, at: float, target: str, operation: str) -> list[Sums]:
        keys = [(period, period_start(period, at), target, operation) for period in PERIODS]
        self._touched.update(keys)
        for key in keys:
            if key not in self._sums:
                row = connection.execute(_FIND, key).fetchone()
                self._sums[key] = sums_of(row) if row else Sums()
        return [self._sums[key] for key in keys]


def sums_of(row: Sequence[Any]) -> Sums:
    """What a row's COLUMNS say."""
    sums = Sums()
    add_row(sums, *row)
    return sums


def add_row(
    sums: Sums,
    checks: int,
    failures: int,
    skipped: int,
    duration_sum: float,
    duration_max: float,
    reasons: str,
    histogram: str,
) -> None:
    """Adds what a row's COLUMNS say."""
    sums.checks += checks
    sums.failures += failures
    sums.skipped += skipped
    sums.duration_sum += duration_sum
    sums.duration_max = max(sums.duration_max, duration_max)
    if failures:
        sums.reasons.update(json.loads(reasons))
    if checks:
        first, *numbers = json.loads(histogram)
        sums.histogram.add(first, numbers)


def row_of(sums: Sums) -> tuple[Any, ...]:
    """A row's COLUMNS."""
    return (
        sums.checks,
        sums.failures,
        sums.skipped,
        sums.duration_sum,
        sums.duration_max,
        json.dumps(sums.reasons) if sums.reasons else "{}",
        _compact(sums.histogram.row()),
    )
