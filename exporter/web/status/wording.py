"""How the page words numbers, times and what a circuit breaker did. Pure."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from exporter.breaker import Cause, State, Status
from exporter.config import BreakerSettings
from exporter.config.values import format_duration
from exporter.web.api.health_models import HealthStatus

WORDS: Mapping[HealthStatus, str] = {
    HealthStatus.UNHEALTHY: "down",
    HealthStatus.DEGRADED: "degraded",
    HealthStatus.UNKNOWN: "unknown",
    HealthStatus.HEALTHY: "up",
}
_STATES: Mapping[State, str] = {
    State.CLOSED: "closed",
    State.OPEN: "open",
    State.HALF_OPEN: "half open",
    State.FORCED_OPEN: "held open",
    State.DISABLED: "disabled",
}
_CAUSES: Mapping[str, str] = {
    Cause.RECOVERY_TIMEOUT: "its recovery timeout is over, so it tries one probe",
    Cause.TRIAL_FAILED: "the probe it tried failed",
    Cause.TRIAL_SLOW: "the probe it tried was slow",
    Cause.TRIAL_UNANSWERED: "the probe it tried got no result",
    Cause.TRIALS_SUCCEEDED: "the probe it tried succeeded",
    Cause.BY_HAND: "set by hand",
}
NOTHING = "—"
FAILED = " failed: "

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def headline(counts: Mapping[HealthStatus, int]) -> str:
    """How many targets are in which state."""
    total = sum(counts.values())
    parts = [(number, WORDS[status]) for status in WORDS if (number := counts.get(status, 0))]
    if not parts:
        return "This shard has no targets"
    if len(parts) == 1:
        word = parts[0][1]
        return f"The only target is {word}" if total == 1 else f"All {total:,} targets are {word}"
    (first, word), *rest = parts
    others = "".join(f", {number:,} {name}" for number, name in rest)
    return f"{first:,} of {total:,} targets {'is' if first == 1 else 'are'} {word}{others}"


def grouped(reasons: Sequence[str]) -> list[str]:
    """The same with operations that failed alike in one."""
    alike: dict[str, list[str]] = {}
    for reason in reasons:
        operation, failed, why = reason.partition(FAILED)
        alike.setdefault(why if failed else "", []).append(operation if failed else reason)
    others = alike.pop("", [])
    return others + [f"{', '.join(operations)}{FAILED}{why}" for why, operations in alike.items()]


def latency(seconds: float | None) -> str:
    """As short as it can be told apart: 0.4 ms, 45 ms, 1.20 s."""
    if seconds is None:
        return NOTHING
    if seconds >= 1:
        return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def percent(share: float | None) -> str:
    """Never rounded up to 100 % or down to 0 %, for either is a statement of its own."""
    if share is None:
        return NOTHING
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{min(max(math.floor(share * 10_000) / 100, 0.01), 99.99):.2f}%"


def span(seconds: float) -> str:
    """About how long that is."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def size(number: int) -> str:
    """Bytes in binary units."""
    value, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"


def clock(unix: float) -> str:
    """The time of day in UTC."""
    return f"{datetime.fromtimestamp(unix, UTC):%H:%M:%S}"


def moment(unix: float, now: float) -> str:
    """The time of day, with the day where it is not today."""
    at, today = datetime.fromtimestamp(unix, UTC), datetime.fromtimestamp(now, UTC)
    return f"{at:%H:%M:%S}" if at.date() == today.date() else f"{at:%d %b %H:%M}"


def iso(unix: float) -> str:
    """As a machine reads it."""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%dT%H:%M:%SZ}"


def breaker_state(status: Status) -> str:
    """A breaker's state, and when it tries again."""
    word = _STATES[status.state]
    return f"{word}, next try in {math.ceil(status.retry_after)} s" if status.state is State.OPEN else word


def breaker_cause(status: Status, settings: BreakerSettings) -> str:
    """Why it is in its state; empty where it never changed."""
    last = status.last_transition
    if last is None or last.to_state is not status.state:
        return "as it was before the restart" if status.state is State.OPEN else ""
    counts, window = last.counts, format_duration(settings.monitoring_window)
    match last.cause:
        case Cause.FAILURE_THRESHOLD:
            limit = settings.failure_threshold
            return f"{counts.failures} of {counts.calls} operations failed within {window}; {limit} open it"
        case Cause.FAILURE_RATE:
            return f"{percent(counts.failure_ratio)} of {counts.calls} operations failed within {window}"
        case Cause.SLOW_CALL_RATE:
            return f"{percent(counts.slow_call_ratio)} of {counts.calls} operations were slow within {window}"
        case _:
            return _CAUSES[last.cause]
