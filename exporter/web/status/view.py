"""From what is known to what the templates show, all of it text and numbers. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.breaker import State
from exporter.history.rollup import Sums
from exporter.history.spark import Failures, Row, whole
from exporter.outcome import Operation, Outcome, Phase
from exporter.web.api.health_models import HealthStatus
from exporter.web.status.chart import DayChart, LineChart, day_chart, line_chart, phase_bar
from exporter.web.status.past import Details, Past
from exporter.web.status.selection import Judged, Selection, key_of
from exporter.web.status.wording import WORDS, breaker_cause, breaker_state, grouped

RECENT = 10


@dataclass(frozen=True, slots=True)
class ProbeView:
    """One result of the history, and how many were like it in its hour."""

    key: str
    row: Row
    phases: Sequence[tuple[str, float, float, float]]
    times: int = 1


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation of a target: its last result, and its figures where the details are shown."""

    name: str
    last: Outcome | None
    sums: Sums | None = None
    chart: LineChart | None = None


@dataclass(frozen=True, slots=True)
class TargetView:
    """A row of the page. Without `details` it is only that, and the reader may ask for more."""

    key: str
    name: str
    bucket: str
    place: str
    status: HealthStatus
    word: str
    reasons: Sequence[str]
    enabled: bool
    operations: Sequence[OperationView]
    breaker: str
    breaker_cause: str
    breaker_since: float
    breaker_resettable: bool
    retry_after: int | None
    chart: DayChart | None
    uptime: float | None
    opened: bool
    month: float | None = None
    probes: Sequence[ProbeView] = ()
    failures: Sequence[ProbeView] = ()


def target_views(selection: Selection, past: Past, now: float, wall_clock: float) -> list[TargetView]:
    """The rows. `now` is monotonic, `wall_clock` is Unix time, in seconds."""
    return [_target(each, each.name in selection.opened, past, now, wall_clock) for each in selection.shown]


def _target(each: Judged, opened: bool, past: Past, now: float, wall_clock: float) -> TargetView:
    settings, breaker = each.seen.settings, each.seen.breaker
    hours = past.hours.get(each.name)
    details = past.details.get(each.name) if opened else None
    return TargetView(
        key=key_of(each.name),
        name=each.name,
        bucket=settings.bucket,
        place=f"{settings.endpoint}, region {settings.region}",
        status=each.status,
        word=WORDS[each.status] if settings.probe.enabled else "paused",
        reasons=grouped(each.reasons),
        enabled=settings.probe.enabled,
        operations=[
            _operation(operation, each.seen.latest.get(operation), details, wall_clock)
            for operation in settings.probe.operations
        ],
        breaker=breaker_state(breaker),
        breaker_cause=breaker_cause(breaker, settings.breaker),
        breaker_since=wall_clock - (now - breaker.since),
        breaker_resettable=breaker.state in (State.OPEN, State.HALF_OPEN, State.FORCED_OPEN),
        retry_after=math.ceil(breaker.retry_after) if breaker.state is State.OPEN else None,
        chart=day_chart(hours, wall_clock) if hours is not None else None,
        uptime=whole(hours or ()).availability,
        opened=opened,
        month=details.month if details else None,
        probes=[_probe(str(row["id"]), row) for row in details.latest[:RECENT]] if details else (),
        failures=[_kept(failures) for failures in details.failures] if details else (),
    )


def _operation(
    operation: Operation, last: Outcome | None, details: Details | None, wall_clock: float
) -> OperationView:
    if details is None:
        return OperationView(operation.value, last)
    points = [
        (row["checked_at"], row["duration_seconds"], bool(row["success"]))
        for row in reversed(details.latest)
        if row["operation"] == operation
    ]
    return OperationView(
        operation.value, last, details.sums.get(operation.value, Sums()), line_chart(points, wall_clock)
    )


def _kept(failures: Failures) -> ProbeView:
    last = failures.last
    like = f"{failures.hour} {last['target']} {last['operation']} {last['reason']} {last['s3_code']}"
    return _probe(key_of(like), last, failures.times)


def _probe(key: str, row: Row, times: int = 1) -> ProbeView:
    phases: Mapping[str, float | None] = {phase.value: row[f"{phase.value}_seconds"] for phase in Phase}
    happened = {name: took for name, took in phases.items() if took is not None}
    return ProbeView(key, row, phase_bar(happened), times)
