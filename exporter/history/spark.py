"""What a page shows of a target's past. Each query asks for one target and reads that target's rows alone."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from exporter.history.rollup import PERIODS, Sums, period_start
from exporter.history.sums import COLUMNS, add_row
from exporter.outcome import Operation

Connection = sqlite3.Connection
Row = Mapping[str, Any]

# Without it SQLite would look through the hours of all targets.
_SUMS = "r2_operation_metrics INDEXED BY r2_operation_metrics_by_target WHERE target = :target"
_CHECKS = "r2_health_checks INDEXED BY r2_health_checks_by_target WHERE target = :target"
_ANY = f"operation IN ({', '.join(repr(operation.value) for operation in Operation)})"


@dataclass(frozen=True, slots=True)
class Hour:
    """What happened to a target in an hour (UTC) that began at `started_at`, over all operations."""

    started_at: int
    checks: int
    failures: int
    skipped: int
    seconds: float

    @property
    def availability(self) -> float | None:
        """Share of what was due that succeeded; what an open breaker skipped counts as down."""
        due = self.checks + self.skipped
        return (self.checks - self.failures) / due if due else None

    @property
    def mean(self) -> float | None:
        """Seconds that an operation took."""
        return self.seconds / self.checks if self.checks else None


@dataclass(frozen=True, slots=True)
class Failures:
    """Of one hour, operation, reason and S3 code: how many there were, and the last of them."""

    hour: int
    times: int
    last: Row


def whole(hours: Sequence[Hour]) -> Hour:
    """All of them in one."""
    return Hour(
        hours[0].started_at if hours else 0,
        sum(hour.checks for hour in hours),
        sum(hour.failures for hour in hours),
        sum(hour.skipped for hour in hours),
        sum(hour.seconds for hour in hours),
    )


def hours_since(connection: Connection, target: str, since: float) -> list[Hour]:
    """Those in which something was due, from the one that `since` (Unix seconds) lies in, oldest first."""
    rows = connection.execute(
        "SELECT started_at, sum(checks), sum(failures), sum(skipped), sum(duration_sum_seconds) "  # noqa: S608
        f"FROM {_SUMS} AND period = 'hour' AND {_ANY} AND started_at >= :first "
        "GROUP BY started_at ORDER BY started_at",
        {"target": target, "first": period_start("hour", since)},
    )
    return [Hour(*row) for row in rows]


def availability_since(connection: Connection, target: str, since: float) -> float | None:
    """The share of operations due that succeeded, of the days (UTC) from that of `since` on."""
    checks, failures, skipped = connection.execute(
        "SELECT coalesce(sum(checks), 0), coalesce(sum(failures), 0), coalesce(sum(skipped), 0) "  # noqa: S608
        f"FROM {_SUMS} AND period = 'day' AND {_ANY} AND started_at >= :first",
        {"target": target, "first": period_start("day", since)},
    ).fetchone()
    return Hour(0, checks, failures, skipped, 0.0).availability


def sums_since(connection: Connection, target: str, since: float) -> dict[str, Sums]:
    """The sums of each operation from the hour of `since` on."""
    sums: dict[str, Sums] = {}
    rows = connection.execute(
        f"SELECT operation, {COLUMNS} FROM {_SUMS} AND period = 'hour' AND {_ANY} "  # noqa: S608 - constants
        "AND started_at >= :first",
        {"target": target, "first": period_start("hour", since)},
    )
    for operation, *columns in rows:
        add_row(sums.setdefault(operation, Sums()), *columns)
    return sums


def latest_checks(connection: Connection, target: str, limit: int) -> Sequence[Row]:
    """The latest results, newest first."""
    return connection.execute(
        f"SELECT * FROM {_CHECKS} ORDER BY checked_at DESC, id DESC LIMIT :limit",  # noqa: S608 - constants
        {"target": target, "limit": limit},
    ).fetchall()


def latest_failures(connection: Connection, target: str, limit: int) -> list[Failures]:
    """The latest failures, however long ago; only hours that have some are read."""
    return list(islice(_failures(connection, target), limit))


def _failures(connection: Connection, target: str) -> Iterator[Failures]:
    hours = connection.execute(
        f"SELECT DISTINCT started_at FROM {_SUMS} AND period = 'hour' AND {_ANY} "  # noqa: S608 - constants
        "AND failures > 0 ORDER BY started_at DESC",
        {"target": target},
    )
    for (start,) in hours:
        # With max() SQLite takes the other columns from the row that has it.
        rows = connection.execute(
            "SELECT *, max(checked_at) AS at, count(*) AS times "  # noqa: S608 - constants
            f"FROM {_CHECKS} AND checked_at >= :start AND checked_at < :end AND success = 0 "
            "GROUP BY operation, reason, s3_code ORDER BY at DESC, id DESC",
            {"target": target, "start": start, "end": start + PERIODS["hour"]},
        )
        for row in rows:
            yield Failures(start, row["times"], row)
