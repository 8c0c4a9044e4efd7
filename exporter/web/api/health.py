"""`/api/health`: how everything stands. It answers whatever has become of the history."""

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from exporter import __version__
from exporter.app import App
from exporter.breaker import Status
from exporter.config import TargetSettings
from exporter.history import HistoryState, HistoryUnavailableError
from exporter.history.queries import Pair, sums_between
from exporter.history.rollup import Sums, merged
from exporter.outcome import Operation, Outcome
from exporter.shard import Shard
from exporter.web.api.declare import encoded, getting, in_time
from exporter.web.api.health_models import (
    BreakerBrief,
    Health,
    HistoryHealth,
    OperationHealth,
    TargetHealth,
    Uptime,
)
from exporter.web.api.metrics import figures
from exporter.web.api.parameters import NothingAsked
from exporter.web.api.units import milliseconds, time_of, time_or_none
from exporter.web.api.verdict import overall, verdict
from exporter.web.keys import APP

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Past:
    """The sums of the last day and of the last thirty, by target and operation; or why they are not known."""

    day: Mapping[Pair, Sums]
    month: Mapping[Pair, Sums]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A target at one moment."""

    settings: TargetSettings
    latest: Mapping[Operation, Outcome]
    breaker: Status


@getting("/api/health", query=NothingAsked, answer=Health)
async def health(request: web.Request, _asked: NothingAsked) -> web.Response:
    """The status of everything, and why; figures of each target and operation.

    While the history cannot be read, what comes from it is null, and `history` says why.
    """
    app = request.app[APP]
    past = await _past(app)
    now, wall_clock = time.monotonic(), time.time()
    seen = [
        Seen(each.settings, dict(each.status.latest), each.breaker.status(now))
        for each in app.targets.values()
    ]
    # In a thread: of thousands of targets it is a long answer.
    state = app.history.state()
    body = await asyncio.to_thread(_health, seen, past, state, app.shard, now, wall_clock)
    return web.Response(body=body, content_type="application/json")


async def _past(app: App) -> Past:
    try:
        return await in_time(app.history.read(partial(_sums, now=time.time())))
    except HistoryUnavailableError as unavailable:
        return Past({}, {}, str(unavailable))


def _sums(connection: sqlite3.Connection, now: float) -> Past:
    return Past(sums_between(connection, now - DAY, now), sums_between(connection, now - 30 * DAY, now))


def _health(
    seen: Sequence[Seen], past: Past, state: HistoryState, shard: Shard, now: float, wall_clock: float
) -> bytes:
    targets = [_target(each, past, now, wall_clock) for each in seen]
    history = _history(state, past)
    status, reasons = overall(targets)
    if history.error is not None:
        reasons = [*reasons, f"the history is unavailable: {history.error}"]
    return encoded(
        Health(
            status=status,
            reasons=reasons,
            checked_at=time_of(wall_clock),
            version=__version__,
            shard=shard.number,
            total_shards=shard.total,
            uptime=_uptime(past, [each.settings.name for each in seen]),
            targets=targets,
            history=history,
        )
    )


def _target(seen: Seen, past: Past, now: float, wall_clock: float) -> TargetHealth:
    settings, breaker = seen.settings, seen.breaker
    status, reasons = verdict(settings, seen.latest, breaker)
    return TargetHealth(
        target=settings.name,
        status=status,
        reasons=reasons,
        enabled=settings.probe.enabled,
        circuit_breaker=BreakerBrief(
            state=breaker.state,
            since=time_of(wall_clock - (now - breaker.since)),
            retry_after=milliseconds(breaker.retry_after),
        ),
        uptime=_uptime(past, [settings.name]),
        operations=[
            _operation(settings.name, operation, seen.latest.get(operation), past)
            for operation in settings.probe.operations
        ],
    )


def _operation(target: str, operation: Operation, last: Outcome | None, past: Past) -> OperationHealth:
    failure = last.failure if last else None
    sums = past.day.get((target, operation), Sums())
    return OperationHealth(
        operation=operation,
        success=last.success if last else None,
        checked_at=time_of(last.started_at) if last else None,
        duration=milliseconds(last.duration) if last else None,
        reason=failure.reason if failure else None,
        message=failure.message if failure else None,
        hint=(failure.hint or None) if failure else None,
        last_24h=figures(sums) if past.error is None else None,
    )


def _uptime(past: Past, targets: Sequence[str]) -> Uptime:
    return Uptime(last_24h=_availability(past.day, targets), last_30d=_availability(past.month, targets))


def _availability(sums: Mapping[Pair, Sums], targets: Sequence[str]) -> float | None:
    pairs = ((target, operation) for target in targets for operation in Operation)
    return merged(sums[pair] for pair in pairs if pair in sums).availability


def _history(state: HistoryState, past: Past) -> HistoryHealth:
    error = past.error if state.up else state.error
    return HistoryHealth(
        status="available" if error is None else "unavailable",
        error=error,
        failed_since=time_or_none(state.failed_since),
        written=state.written,
        dropped=state.dropped,
        queued=state.queued,
        size=state.size,
    )
