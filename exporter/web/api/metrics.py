"""`/api/health/metrics`: what the results of a period come to."""

import sqlite3
import time
from functools import partial
from typing import Any

from aiohttp import web

from exporter.history.queries import span_start, sums_between
from exporter.history.rollup import Sums
from exporter.outcome import Operation, Reason
from exporter.web.api.declare import encoded, getting, in_time
from exporter.web.api.models import Figures, Metrics, OperationFigures
from exporter.web.api.parameters import OfPeriod
from exporter.web.api.units import milliseconds, time_of
from exporter.web.keys import APP

HOUR = 3600.0


@getting("/api/health/metrics", query=OfPeriod, answer=Metrics, refusals=(503,))
async def metrics(request: web.Request, asked: OfPeriod) -> web.Response:
    """Counts, error rate, mean and percentiles by target and operation.

    They are added up from sums by hour, beyond a week by day; `from` says where those begin.
    """
    read = request.app[APP].history.read(partial(_metrics, asked=asked, now=time.time()))
    return web.Response(body=await in_time(read), content_type="application/json")


def _metrics(connection: sqlite3.Connection, asked: OfPeriod, now: float) -> bytes:
    start = max(0.0, now - asked.hours * HOUR)
    sums = sums_between(connection, start, now, asked.target)
    return encoded(
        Metrics(
            since=time_of(span_start(start, now)),
            to=time_of(now),
            hours=asked.hours,
            items=[
                OperationFigures(target=target, operation=Operation(operation), **_values(found))
                for (target, operation), found in sorted(sums.items())
            ],
        )
    )


def figures(sums: Sums) -> Figures:
    """As the API shows them."""
    return Figures(**_values(sums))


def _values(sums: Sums) -> dict[str, Any]:
    return {
        "checks": sums.checks,
        "failures": sums.failures,
        "skipped": sums.skipped,
        "error_rate": sums.error_rate,
        "availability": sums.availability,
        "mean": milliseconds(sums.mean),
        "p50": milliseconds(sums.quantile(0.5)),
        "p95": milliseconds(sums.quantile(0.95)),
        "p99": milliseconds(sums.quantile(0.99)),
        "max": milliseconds(sums.duration_max if sums.checks else None),
        "reasons": {Reason(reason): count for reason, count in sums.reasons.items()},
    }
