"""A target on a clock of its own: its breaker, its alerts, and storages that fail as told."""

from collections.abc import Callable, Mapping
from typing import Any

from exporter.admission import TargetBreaker
from exporter.alerts import AlertType, Change, Kind, TargetAlerts
from exporter.breaker import Cause, State, Transition
from exporter.config import TargetSettings
from exporter.outcome import Failure, Operation, Outcome, Reason
from exporter.window import Counts

PUT, GET, HEAD, LIST, DELETE = Operation
DEFAULT = (PUT, GET, DELETE)
START = 1000.0
INTERVAL = 30.0

Storage = Callable[[Operation, float], tuple[Reason | None, float]]
"""How an operation at a time ends, and how long it takes."""


def target(**sections: Mapping[str, Any]) -> TargetSettings:
    return TargetSettings.model_validate(
        {"name": "media", "endpoint": "https://s3.example.org", "bucket": "media", **sections}
    )


def outcome(
    operation: Operation,
    reason: Reason | None = None,
    duration: float = 0.1,
    request_id: str = "",
    s3_code: str = "",
) -> Outcome:
    failure = None if reason is None else Failure(reason, "the key is AKIAEXAMPLE", s3_code)
    return Outcome("media", operation, 0.0, duration, request_id=request_id, failure=failure)


def transition(to_state: State, at: float, from_state: State = State.CLOSED) -> Transition:
    return Transition(at, from_state, to_state, Cause.BY_HAND, Counts())


def working(operation: Operation, now: float) -> tuple[Reason | None, float]:
    return None, 0.1


class Site:
    """Probes one target each interval as the exporter does, and evaluates its alerts when it would."""

    def __init__(self, settings: TargetSettings, now: float = START) -> None:
        self.settings = settings
        self.now = now
        self.breaker = TargetBreaker(settings.breaker, now)
        self.alerts = TargetAlerts(settings, now)
        self.said: list[tuple[float, Change]] = []

    def probe(self, storage: Storage, until: float) -> None:
        """Runs from now on, to that time."""
        while self.now < until:
            began = self.now
            self._run(storage)
            self.wait(max(self.now, began + self.settings.probe.interval))

    def wait(self, until: float) -> None:
        """Time passes."""
        while (at := self.alerts.next_change_at(self.now)) <= min(until, 1e9):
            self.now = at
            self._evaluate()
        self.now = until

    def told(self, kind: Kind) -> list[tuple[AlertType, float]]:
        """What was raised, updated or resolved, and when."""
        return [(change.alert.type, at) for at, change in self.said if change.kind is kind]

    def _run(self, storage: Storage) -> None:
        admission = self.breaker.begin_run(self.settings.probe.operations, self.now)
        for operation in admission.order:
            admitted = admission.admit(operation, self.now)
            self._pass_on()
            if not admitted:
                continue
            reason, duration = storage(operation, self.now)
            self.wait(self.now + duration)
            result = outcome(operation, reason, duration)
            admission.observe(result, self.now)
            self.alerts.observe(result, self.now)
            self._pass_on()
            self._evaluate()
        admission.end()
        self._pass_on()

    def _pass_on(self) -> None:
        for change in self.breaker.take_transitions():
            self.alerts.breaker(change)

    def _evaluate(self) -> None:
        self.said += [(self.now, change) for change in self.alerts.evaluate(self.now)]
