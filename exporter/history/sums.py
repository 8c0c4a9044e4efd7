"""The rows of r2_operation_metrics: read, added to, and written back within the writer's transaction."""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import add
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
    total = Total()
    total.add(*row)
    return total.sums()


class Total:
    """The sum of many rows: a month of them is read at once, so a histogram stays a list of counts."""

    __slots__ = ("_counts", "_first", "_sums")

    def __init__(self) -> None:
        self._sums = Sums()
        self._first = 0
        self._counts: list[int] = []

    def add(
        self,
        checks: int,
        failures: int,
        skipped: int,
        duration_sum: float,
        duration_max: float,
        reasons: str,
        histogram: str,
    ) -> None:
        """Adds what a row's COLUMNS say."""
        sums = self._sums
        sums.checks += checks
        sums.failures += failures
        sums.skipped += skipped
        sums.duration_sum += duration_sum
        sums.duration_max = max(sums.duration_max, duration_max)
        if failures:
            sums.reasons.update(json.loads(reasons))
        if checks:
            first, *numbers = json.loads(histogram)
            self._add(first, numbers)

    def sums(self) -> Sums:
        """All that was added."""
        numbered = enumerate(self._counts, self._first)
        self._sums.histogram = Counter({bucket: number for bucket, number in numbered if number})
        return self._sums

    def _add(self, first: int, numbers: Sequence[int]) -> None:
        counts = self._counts
        if not counts:
            self._first = first
        if first < self._first:
            counts[:0] = [0] * (self._first - first)
            self._first = first
        begin = first - self._first
        end = begin + len(numbers)
        if end > len(counts):
            counts.extend([0] * (end - len(counts)))
        counts[begin:end] = map(add, counts[begin:end], numbers)


def row_of(sums: Sums) -> tuple[Any, ...]:
    """A row's COLUMNS."""
    return (
        sums.checks,
        sums.failures,
        sums.skipped,
        sums.duration_sum,
        sums.duration_max,
        json.dumps(sums.reasons) if sums.reasons else "{}",
        _compact(_dense(sums.histogram)),
    )


def _dense(histogram: Mapping[int, int]) -> list[int]:
    first, last = min(histogram, default=0), max(histogram, default=-1)
    dense = [0] * (last - first + 1)
    for bucket, count in histogram.items():
        dense[bucket - first] = count
    return [first, *dense]
