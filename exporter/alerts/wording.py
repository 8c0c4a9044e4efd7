"""What an alert says to people: one line with the failing operations, the most common reason, the figures."""

from collections import Counter
from collections.abc import Iterable

from exporter.alerts.conditions import Conditions, Why, share
from exporter.alerts.kinds import Alert, AlertType
from exporter.config import TargetSettings
from exporter.outcome import Operation


def worded(
    kind: AlertType, settings: TargetSettings, conditions: Conditions, now: float, before: Alert | None = None
) -> Alert:
    """The alert as it would be raised now, or goes on from `before`."""
    if kind is AlertType.SLOW_RESPONSE:
        slow = conditions.slow(now)
        limit = f"took over {settings.alerts.slow_response_threshold:g} s"
        return Alert(settings.name, kind, f"{_share_of(kind, conditions, now)} {limit}{_list_of(slow)}", slow)
    failing = conditions.failing(now)
    why = _top((conditions.failing(now, lately=0) or failing).values(), before)
    match kind:
        case AlertType.CIRCUIT_BREAKER_OPEN:
            message = "the circuit breaker is open"
        case AlertType.HIGH_ERROR_RATE:
            limit = f"failed (threshold {conditions.allowed(kind) * 100:.3g}%)"
            message = f"{_share_of(kind, conditions, now)} {limit}"
        case _:
            message = f"{len(failing)} of {len(settings.probe.operations)} operations fail"
    message += _list_of(failing)
    if why is None:
        return Alert(settings.name, kind, message, tuple(failing))
    message += f"; {_reason(why)}"
    return Alert(settings.name, kind, message, tuple(failing), why.reason, why.s3_code, why.request_id)


def recovered(target: str, lasted: float) -> Alert:
    """The news that a target works again, after trouble that lasted so many seconds."""
    message = f"every operation works again, after {duration(lasted)} of trouble"
    return Alert(target, AlertType.SERVICE_RECOVERED, message)


def duration(seconds: float) -> str:
    """For people: no finer than they ask."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _share_of(kind: AlertType, conditions: Conditions, now: float) -> str:
    counts = conditions.tally.long(now)
    return f"{share(kind, counts):.1%} of {counts.calls} operations in {duration(conditions.tally.width)}"


def _list_of(operations: Iterable[Operation]) -> str:
    names = ", ".join(operations)
    return f": {names}" if names else ""


def _top(whys: Iterable[Why], before: Alert | None) -> Why | None:
    """The most common reason; of several the one that was told before, then that of the first operation."""
    whys = list(whys)
    times = Counter(why.reason for why in whys)
    told = before.reason if before is not None else None
    best = max(whys, key=lambda why: (times[why.reason], why.reason is told), default=None)
    if best is None:
        return None
    alike = [why for why in whys if why.reason is best.reason]
    return next((why for why in alike if why.request_id), best)


def _reason(why: Why) -> str:
    code = f" ({why.s3_code})" if why.s3_code else ""
    request = f", request id {why.request_id}" if why.request_id else ""
    return f"{why.reason}{code}{request}"
