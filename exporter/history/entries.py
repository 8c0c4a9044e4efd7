"""What is written down: plain values, each with the row that it becomes."""

from dataclasses import dataclass
from typing import Any

from exporter.outcome import Operation, Outcome, Phase

CHECK = (
    "INSERT INTO r2_health_checks (checked_at, target, operation, success, duration_seconds, status, "
    "request_id, reason, s3_code, message, hint, resolve_seconds, connect_seconds, tls_seconds, "
    "processing_seconds, transfer_seconds) VALUES "
)
EVENT = (
    "INSERT INTO circuit_breaker_events (occurred_at, target, from_state, to_state, cause, operation, "
    "calls, failures, slow_calls, recovery_seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

TEXT_LIMIT = 2_000
"""Characters kept of what a storage says."""


@dataclass(frozen=True, slots=True)
class Check:
    """A result, and the Unix time at which it was known."""

    at: float
    outcome: Outcome

    def row(self) -> tuple[Any, ...]:
        outcome, failure, phases = self.outcome, self.outcome.failure, self.outcome.phases
        why = (
            (failure.reason.value, _text(failure.s3_code), _text(failure.message), _text(failure.hint))
            if failure
            else (None, None, None, None)
        )
        return (
            self.at,
            outcome.target,
            outcome.operation.value,
            failure is None,
            outcome.duration,
            outcome.status,
            _text(outcome.request_id),
            *why,
            *(phases.get(phase) for phase in Phase),
        )


@dataclass(frozen=True, slots=True)
class Skip:
    """Operations that were due but not sent, because the breaker was open."""

    at: float
    target: str
    operation: Operation
    count: int = 1


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """A change of a breaker's state. `recovery` is how many seconds it stays open."""

    at: float
    target: str
    from_state: str
    to_state: str
    cause: str
    operation: str | None
    calls: int
    failures: int
    slow_calls: int
    recovery: float | None

    def row(self) -> tuple[Any, ...]:
        return (
            self.at,
            self.target,
            self.from_state,
            self.to_state,
            self.cause,
            self.operation,
            self.calls,
            self.failures,
            self.slow_calls,
            self.recovery,
        )


def _text(text: str) -> str | None:
    """What a server sent may be no UTF-8, which SQLite refuses."""
    return text[:TEXT_LIMIT].encode(errors="replace").decode() or None
