"""What the log says of targets: what has changed, never more of the same."""

import structlog

from exporter.breaker import State, Transition
from exporter.outcome import Failure, Operation, Outcome
from exporter.status import Change
from exporter.sweep import Sweep

log = structlog.get_logger(__name__)


def tell_change(change: Change) -> None:
    """An operation began to fail, fails for another reason, or works again."""
    outcome, failure = change.outcome, change.outcome.failure
    if failure is None:
        log.info(
            "operation works again",
            target=outcome.target,
            operation=outcome.operation,
            failed_for_seconds=round(change.failed_for or 0.0, 1),
        )
        return
    log.warning(
        "operation fails",
        target=outcome.target,
        operation=outcome.operation,
        reason=failure.reason,
        cause=failure.message,
        hint=failure.hint,
        status=outcome.status,
        request_id=outcome.request_id,
        duration_seconds=round(outcome.duration, 3),
    )


def tell_own_trouble(outcome: Outcome, failure: Failure) -> None:
    """An operation could not be sent, for which the storage is not to blame."""
    log.error(
        "this machine fails, not the storage: probes are skipped",
        target=outcome.target,
        operation=outcome.operation,
        cause=failure.message,
        hint=failure.hint,
    )


def tell_transition(
    target: str, transition: Transition, opener: Operation | None, retry_after: float
) -> None:
    """A circuit breaker changed its state; `opener` is the operation that opened it last."""
    opened = transition.to_state is State.OPEN
    (log.warning if opened else log.info)(
        f"circuit breaker {transition.to_state}",
        target=target,
        from_state=transition.from_state,
        cause=transition.cause,
        **({"operation": opener, "retry_after_seconds": round(retry_after, 1)} if opened else {}),
        calls=transition.counts.calls,
        failures=transition.counts.failures,
        slow_calls=transition.counts.slow_calls,
    )


def tell_sweep(target: str, swept: Sweep) -> None:
    """A sweep removed something, or failed."""
    if swept.deleted:
        log.info("leftovers of earlier probes removed", target=target, objects=swept.deleted)
    if swept.failure:
        failure = swept.failure
        log.warning(
            "leftovers not swept",
            target=target,
            reason=failure.reason,
            cause=failure.message,
            hint=failure.hint,
        )
