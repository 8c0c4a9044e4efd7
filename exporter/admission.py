"""Which operations of a run a target's circuit breaker lets through, and what it is told of them.

Pure: times are monotonic seconds, passed in.
"""

from collections.abc import Collection, Mapping
from typing import Any

from exporter.breaker import Breaker, Policy, State, Status, Transition
from exporter.config import BreakerSettings
from exporter.outcome import Operation, Outcome, Reason

LATENESS = 0.1
"""Seconds of grace between two turns, for each is late by another few milliseconds."""

READING = (Operation.GET, Operation.HEAD)


class TargetBreaker:
    """A target's circuit breaker. It knows which operation opened it, for that one is tried first."""

    def __init__(self, settings: BreakerSettings, now: float) -> None:
        self._settings = settings
        self._breaker = Breaker(policy_of(settings), now)
        self.opener: Operation | None = None
        if not settings.enabled:
            self._breaker.disable(now)
            self.take_transitions()

    def configure(self, settings: BreakerSettings, now: float) -> None:
        """New settings from now on; the state stays, unless they enable or disable the breaker."""
        self._settings = settings
        self._breaker.configure(policy_of(settings), now)
        if not settings.enabled:
            self._breaker.disable(now)
        elif self._breaker.state is State.DISABLED:
            self._breaker.reset(now)

    def reset(self, now: float) -> None:
        """Closed, with no failure remembered; one that is disabled stays so."""
        if self._settings.enabled:
            self._breaker.reset(now)

    def begin_run(self, operations: Collection[Operation], now: float) -> "Admission":
        """The dealings of one run with the breaker. `operations` are those that are due."""
        return Admission(self, self._breaker, operations, now)

    def counts_as_failure(self, outcome: Outcome) -> bool:
        """Whether a failure speaks against the storage, by `failure_reasons`."""
        return outcome.failure is not None and outcome.failure.reason in self._settings.failure_reasons

    def restore(self, event: Mapping[str, Any], now: float, wall_clock: float) -> None:
        """Open again as the last event of before a restart says, unless its time is over or it was closed.

        Where that could be read only late, what it has seen itself since then says more. `now` is monotonic,
        `wall_clock` is Unix time, in seconds, as are the event's.
        """
        if not self._settings.enabled or event["to_state"] not in (State.OPEN, State.HALF_OPEN):
            return
        status = self._breaker.status(now)
        if status.counts.calls or status.last_transition is not None:
            return
        waited = max(0.0, wall_clock - event["occurred_at"])
        recovery = event["recovery_seconds"] or 0.0
        self._breaker.restore_open(now, recovery - waited, recovery or self._settings.recovery_timeout)
        if event["operation"] is not None:
            self.opener = Operation(event["operation"])

    @property
    def has_news(self) -> bool:
        """Whether there is something to take."""
        return bool(self._breaker.transitions)

    @property
    def admits_all(self) -> bool:
        """Whether it is closed or disabled."""
        return self._breaker.passing is not None

    def status(self, now: float) -> Status:
        return self._breaker.status(now)

    def take_transitions(self) -> list[Transition]:
        """What happened since the last call, oldest first."""
        taken, self._breaker.transitions = self._breaker.transitions, []
        return taken


class Admission:
    """One run: `admit` each operation of `order` in turn, and `observe` how it went; `end` in any case.

    While the breaker is not closed, the operation that opened it comes first, as the trial. GET and
    HEAD read what PUT wrote: with PUT in the run it goes before them, under the same permit, and the
    trial has succeeded when both have. Once an operation is refused or opens the breaker, the rest of
    the run is refused too.
    """

    def __init__(
        self, target: TargetBreaker, breaker: Breaker, operations: Collection[Operation], now: float
    ) -> None:
        self._target = target
        self._began = now
        self._breaker = breaker
        self._is_trial = breaker.passing is None
        trial = trial_of(target.opener, operations) if self._is_trial else []
        self.order = trial + [each for each in Operation if each in operations and each not in trial]
        self.refused: list[Operation] = []
        self._preparing = trial[:-1]
        self._permit: int | None = None
        self._unheard = False

    def admit(self, operation: Operation, now: float) -> bool:
        """Whether to send `operation`."""
        if self._goes_on():
            self._permit = self._permit or self._breaker.admit(now)
            if self._permit is not None:
                self._unheard = True
                return True
        self.refused.append(operation)
        return False

    def observe(self, outcome: Outcome, now: float) -> None:
        """Take the outcome of the operation just admitted.

        If it opens the breaker, the recovery timeout counts from the run's beginning: one of two intervals
        ends with the second turn after this one, and not just after that.
        """
        self._unheard = False
        permit, failed = self._permit, self._target.counts_as_failure(outcome)
        if permit is None or (outcome.operation in self._preparing and not failed):
            return
        self._permit = None
        tell = self._breaker.fail if failed else self._breaker.succeed
        if tell(permit, now, outcome.duration) and self._breaker.state is State.OPEN:
            self._breaker.count_from(self._began - LATENESS, now)
            self._target.opener = outcome.operation
            self._is_trial = False

    def end(self) -> None:
        """Give back a permit whose operation was cancelled, or never came."""
        self._unheard = False
        if self._permit is not None:
            self._breaker.release(self._permit)
            self._permit = None

    def _goes_on(self) -> bool:
        if self.refused or self._unheard:
            return False
        if self._permit is not None:  # a trial that is prepared; it may have been given up for lost
            return self._breaker.is_trial(self._permit)
        return self._is_trial or self._target.admits_all


def trial_of(opener: Operation | None, operations: Collection[Operation]) -> list[Operation]:
    """The operation to try first, after what it needs; empty if nothing is to be tried first."""
    if opener is None or opener not in operations:
        return []
    if opener in READING and Operation.PUT in operations:
        return [Operation.PUT, opener]
    return [opener]


def policy_of(settings: BreakerSettings) -> Policy:
    """The part of a target's settings that the breaker itself knows."""
    return Policy(**settings.model_dump(exclude={"enabled", "failure_reasons"}))


def says_nothing(outcome: Outcome, timeout: float, limit: float | None) -> bool:
    """Whether a failure is none of the storage's: this machine's own, or a scrape's timeout came first."""
    failure = outcome.failure
    if failure is None:
        return False
    return failure.ours or (
        limit is not None and failure.reason is Reason.TIMEOUT and outcome.duration < timeout
    )
