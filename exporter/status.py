"""What is known of a target from its latest outcomes, and which of them are news."""

from collections.abc import Collection
from dataclasses import dataclass, field

from exporter.outcome import Operation, Outcome, Reason


@dataclass(frozen=True, slots=True)
class Change:
    """An operation began to fail, fails for another reason, or works again after `failed_for` seconds."""

    outcome: Outcome
    failed_for: float | None = None


@dataclass(slots=True)
class TargetStatus:
    """The latest outcome of each operation of one target."""

    latest: dict[Operation, Outcome] = field(default_factory=dict)
    _failing_since: dict[Operation, float] = field(default_factory=dict)

    def observe(self, outcome: Outcome) -> Change | None:
        """Takes an outcome; says what changed, or None for more of the same."""
        operation = outcome.operation
        before, now = _reason(self.latest.get(operation)), _reason(outcome)
        self.latest[operation] = outcome
        if now is not None:
            self._failing_since.setdefault(operation, outcome.started_at)
            return Change(outcome) if now is not before else None
        since = self._failing_since.pop(operation, None)
        return Change(outcome, max(0.0, outcome.started_at - since)) if since is not None else None

    def is_up(self, operations: Collection[Operation]) -> bool:
        """Whether none of `operations` failed at its latest run."""
        return all(outcome.success for op, outcome in self.latest.items() if op in operations)


def _reason(outcome: Outcome | None) -> Reason | None:
    return outcome.failure.reason if outcome is not None and outcome.failure is not None else None
