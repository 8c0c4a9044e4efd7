"""From what is known of targets to a status, and why. Pure."""

from collections.abc import Mapping, Sequence

from exporter.breaker import State, Status
from exporter.config import TargetSettings
from exporter.outcome import Operation, Outcome
from exporter.web.api.health_models import HealthStatus, TargetHealth

REJECTING = {
    State.OPEN: "the circuit breaker is open",
    State.FORCED_OPEN: "the circuit breaker is held open",
    State.HALF_OPEN: "the circuit breaker is half open: it tries whether the storage works again",
}


def verdict(
    settings: TargetSettings, latest: Mapping[Operation, Outcome], breaker: Status
) -> tuple[HealthStatus, list[str]]:
    """A target's status by its breaker, last results and monitoring window, and why it is not healthy."""
    if not settings.probe.enabled:
        return HealthStatus.UNKNOWN, ["probing is stopped"]
    known = [latest[operation] for operation in settings.probe.operations if operation in latest]
    failed = [f"{outcome.operation.value} failed: {_why(outcome)}" for outcome in known if outcome.failure]
    if breaker.state in REJECTING:
        return HealthStatus.UNHEALTHY, [REJECTING[breaker.state], *failed]
    if not known:
        return HealthStatus.UNKNOWN, ["nothing was probed yet"]
    if len(failed) == len(known):
        return HealthStatus.UNHEALTHY, failed
    reasons = [*failed, *_slow(settings, known), *_error_rate(settings, breaker)]
    return (HealthStatus.DEGRADED if reasons else HealthStatus.HEALTHY), reasons


def overall(targets: Sequence[TargetHealth]) -> tuple[HealthStatus, list[str]]:
    """The status of all of them, and the reasons of each that is not healthy.

    Those of which nothing is known count only if there are no others.
    """
    known = {each.status for each in targets} - {HealthStatus.UNKNOWN}
    reasons = [f"{each.target}: {reason}" for each in targets for reason in each.reasons]
    if not targets:
        return HealthStatus.UNKNOWN, ["this shard has no targets"]
    if not known:
        return HealthStatus.UNKNOWN, reasons
    return (known.pop() if len(known) == 1 else HealthStatus.DEGRADED), reasons


def _why(outcome: Outcome) -> str:
    return f"{outcome.failure.reason}, {outcome.failure.message}" if outcome.failure else ""


def _slow(settings: TargetSettings, known: Sequence[Outcome]) -> list[str]:
    limit = settings.alerts.slow_response_threshold
    return [
        f"{outcome.operation.value} is slow: {outcome.duration * 1000:.0f} ms, from {limit * 1000:.0f} ms on"
        for outcome in known
        if outcome.success and outcome.duration >= limit
    ]


def _error_rate(settings: TargetSettings, breaker: Status) -> list[str]:
    counts, limit = breaker.counts, settings.alerts.error_rate_threshold
    if not counts.calls or counts.failure_ratio < limit:
        return []
    return [f"{counts.failures} of the last {counts.calls} operations failed; {limit:.0%} is the threshold"]
