"""What the history says of the targets that the page shows: one read, bounded by what is shown."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.history.alerts import alert_page
from exporter.history.rollup import Sums
from exporter.history.spark import (
    Failures,
    Hour,
    Row,
    availability_since,
    hours_since,
    latest_checks,
    latest_failures,
    sums_since,
)

DAY = 86_400.0
ALERTS = 20
RESOLVED = 5
RESULTS = 600
"""Of one target, for its operations' lines: at the defaults, of the last 100 minutes."""

FAILURES = 20


@dataclass(frozen=True, slots=True)
class Details:
    """More of one target. `sums` are by operation, of the last 24 hours."""

    sums: Mapping[str, Sums]
    month: float | None
    latest: Sequence[Row]
    failures: Sequence[Failures]


@dataclass(frozen=True, slots=True)
class Past:
    """What is kept, by target; or why it is not known. `alerts` are some of all `active` ones."""

    hours: Mapping[str, Sequence[Hour]] = field(default_factory=dict)
    details: Mapping[str, Details] = field(default_factory=dict)
    alerts: Sequence[Row] = ()
    active: int = 0
    resolved: Sequence[Row] = ()
    error: str | None = None


def past(connection: sqlite3.Connection, shown: Sequence[str], opened: Collection[str], now: float) -> Past:
    """`now` is in Unix seconds."""
    active, alerts = alert_page(connection, None, resolved=False, limit=ALERTS, offset=0)
    _, all_alerts = alert_page(connection, None, resolved=True, limit=ALERTS, offset=0)
    resolved = [
        row for row in all_alerts if row["resolved_at"] is not None and row["resolved_at"] > now - DAY
    ]
    return Past(
        hours={name: hours_since(connection, name, now - DAY) for name in shown},
        details={name: _details(connection, name, now) for name in opened},
        alerts=alerts,
        active=active,
        resolved=resolved[:RESOLVED],
    )


def _details(connection: sqlite3.Connection, name: str, now: float) -> Details:
    return Details(
        sums=sums_since(connection, name, now - DAY),
        month=availability_since(connection, name, now - 30 * DAY),
        latest=latest_checks(connection, name, RESULTS),
        failures=latest_failures(connection, name, FAILURES),
    )
