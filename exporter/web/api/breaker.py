"""`/api/health/circuit-breaker`: the circuit breakers, and what they did lately."""

import sqlite3
import time
from functools import partial

from aiohttp import web

from exporter.breaker import State, Status, Transition
from exporter.history import HistoryUnavailableError
from exporter.history.queries import Row, breaker_events
from exporter.outcome import Operation
from exporter.web.api.declare import answered, getting, in_time, unknown_target
from exporter.web.api.models import BreakerEventSeen, Breakers, BreakerSeen, TransitionSeen
from exporter.web.api.parameters import OfTarget
from exporter.web.api.units import milliseconds, time_of
from exporter.web.keys import APP

EVENTS = 50


@getting("/api/health/circuit-breaker", query=OfTarget, answer=Breakers, refusals=(404,))
async def circuit_breaker(request: web.Request, asked: OfTarget) -> web.Response:
    """The circuit breakers, and what they did lately."""
    app = request.app[APP]
    if asked.target is not None and asked.target not in app.targets:
        return unknown_target(request, asked.target)
    events: list[BreakerEventSeen] | None = None
    try:
        rows = await in_time(app.history.read(partial(_events, target=asked.target)))
        events = [_event(row) for row in rows]
    except HistoryUnavailableError:
        pass  # the breakers are known without it
    # Asked only now, so that they are no older than the events.
    now, wall_clock = time.monotonic(), time.time()
    items = [
        breaker_seen(name, target.breaker.status(now), now, wall_clock)
        for name, target in app.targets.items()
        if asked.target in (None, name)
    ]
    return answered(Breakers(items=items, events=events))


def breaker_seen(name: str, status: Status, now: float, wall_clock: float) -> BreakerSeen:
    """A breaker as the API shows it; `now` is monotonic, `wall_clock` Unix seconds."""
    counts, last = status.counts, status.last_transition
    return BreakerSeen(
        target=name,
        state=status.state,
        since=time_of(wall_clock - (now - status.since)),
        retry_after=milliseconds(status.retry_after),
        calls=counts.calls,
        failures=counts.failures,
        slow_calls=counts.slow_calls,
        failure_ratio=counts.failure_ratio if counts.calls else None,
        slow_call_ratio=counts.slow_call_ratio if counts.calls else None,
        average_response_time=milliseconds(status.mean_duration),
        rejected=status.rejected,
        time_in_state={state: milliseconds(took) or 0.0 for state, took in status.seconds_in.items()},
        last_transition=_transition(last, now, wall_clock) if last else None,
    )


def _transition(last: Transition, now: float, wall_clock: float) -> TransitionSeen:
    return TransitionSeen(
        at=time_of(wall_clock - (now - last.at)),
        from_state=last.from_state,
        to_state=last.to_state,
        cause=last.cause,
        calls=last.counts.calls,
        failures=last.counts.failures,
        slow_calls=last.counts.slow_calls,
    )


def _events(connection: sqlite3.Connection, target: str | None) -> list[Row]:
    return breaker_events(connection, target, EVENTS)


def _event(row: Row) -> BreakerEventSeen:
    return BreakerEventSeen(
        id=row["id"],
        target=row["target"],
        operation=Operation(row["operation"]) if row["operation"] else None,
        at=time_of(row["occurred_at"]),
        from_state=State(row["from_state"]),
        to_state=State(row["to_state"]),
        cause=row["cause"],
        calls=row["calls"],
        failures=row["failures"],
        slow_calls=row["slow_calls"],
        recovery_timeout=milliseconds(row["recovery_seconds"]),
    )
