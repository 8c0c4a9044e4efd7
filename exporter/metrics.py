"""Which series exist, and what each outcome does to them."""

import re
from collections import deque
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from exporter.breaker import State, Status
from exporter.exposition import Registry
from exporter.families import Families
from exporter.history import HistoryState
from exporter.outcome import BillingClass, Operation, Outcome, Reason, SkipReason
from exporter.series import Exemplar
from exporter.shard import WHOLE, Shard

WINDOW = 60.0
"""Seconds that the largest loop lag and lateness look back."""

TEXT_LIMIT = 100
"""Characters kept of a request id and of an error code; R2's ids have 20 to 32, S3's up to 76."""

_RESULTS = ("success", "failure")
_STATES = (State.CLOSED, State.OPEN, State.HALF_OPEN)
_TRANSITIONS = (
    (State.CLOSED, State.OPEN),
    (State.OPEN, State.HALF_OPEN),
    (State.HALF_OPEN, State.OPEN),
    (State.HALF_OPEN, State.CLOSED),
)
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]|[\"\\]")
"""With what a label would have to escape: prometheus_client's parser of OpenMetrics loses the whole page over
an escaped quote in an exemplar."""


class Metrics:
    """The exporter's series; `registry` renders them.

    What arrives for a target that is not there (its last outcomes, after a reload removed it) is
    dropped, so that a removed target leaves no series.
    """

    def __init__(self) -> None:
        self.registry = Registry("target", _runtime_collectors())
        self._families = Families(self.registry)
        self._operations: dict[str, set[Operation]] = {}
        self._failing: dict[tuple[str, Operation], tuple[str, str]] = {}
        self._largest_lag = WindowMax(WINDOW)
        self._largest_lateness = WindowMax(WINDOW)
        self._history = HistoryState()
        self._log_lost = 0
        self.log_lost(0)
        self.set_shard(WHOLE)

    def set_target(
        self,
        name: str,
        operations: Sequence[Operation],
        *,
        labels: Mapping[str, str],
        bucket: str,
        endpoint: str,
        region: str,
        thresholds: Mapping[str, float],
    ) -> None:
        """Begin a target with its counters at 0, so that `rate()` sees its first failure; or change one.

        `labels` are the user's own, on `r2_target_info` alone; each target carries only those it
        has, for Prometheus takes an empty label and a missing one for the same. Raises ValueError
        for a label name that Prometheus does not take.

        The counters of a target that was there go on. An operation that is no longer probed loses
        all its series: a gauge would stand still and a counter would look like an operation that
        is never due. If it comes back it begins at 0, which `rate()` takes for a restart. What was
        learnt of the endpoint is learnt anew.
        """
        families = self._families
        begun = self._operations.setdefault(name, set())
        families.cleanups.begin((name, result) for result in _RESULTS)
        families.billed.begin((name, billing_class) for billing_class in BillingClass)
        families.leftovers.labels(name)
        families.breaker_transitions.begin((name, *states) for states in _TRANSITIONS)
        for gone in begun.difference(operations):
            self.registry.remove(name, operation=gone)
            self._failing.pop((name, gone), None)
            begun.remove(gone)
        self._begin_operations(name, operations)
        for settings in (families.target_info, families.threshold):
            settings.remove(name)
        for learnt in (families.certificate_expiry, families.clock_skew):
            learnt.remove(name)
        families.target_info.labels(name, bucket, endpoint, region, **labels).set(1)
        for setting, value in thresholds.items():
            families.threshold.labels(name, setting).set(value)

    def remove_target(self, name: str) -> None:
        """Drop every series of a target; one that is not there is no error."""
        for operation in self._operations.pop(name, ()):
            self._failing.pop((name, operation), None)
        self.registry.remove(name)

    def record(self, outcome: Outcome) -> None:
        """Count one operation. A timeout is observed with the whole time it took."""
        if outcome.target not in self._operations:
            return
        self._begin_operation(outcome.target, outcome.operation)
        families, series = self._families, (outcome.target, outcome.operation)
        exemplar = _exemplar(outcome)
        families.duration.labels(*series).observe(outcome.duration, exemplar)
        for phase, seconds in outcome.phases.items():
            families.phase.labels(*series, phase).observe(seconds)
        families.probes.labels(*series, "success" if outcome.success else "failure").inc()
        if outcome.failure is not None:
            families.errors.labels(*series, outcome.failure.reason).inc(exemplar=exemplar)
        if outcome.reconnected:
            families.reconnects.labels(*series).inc()
        families.success.labels(*series).set(outcome.success)
        self._tell_failure(outcome, exemplar)
        families.last_run.labels(*series).set(outcome.started_at)
        if outcome.billed is not None:
            self.billed(outcome.target, outcome.billed)
        if outcome.certificate_expiry is not None:
            families.certificate_expiry.labels(outcome.target).set(outcome.certificate_expiry)
        if outcome.clock_skew is not None:
            families.clock_skew.labels(outcome.target).set(outcome.clock_skew)

    def _tell_failure(self, outcome: Outcome, exemplar: Exemplar | None) -> None:
        """One series an operation that fails, and not another at each failure: Prometheus keeps them all."""
        key, failure, family = (
            (outcome.target, outcome.operation),
            outcome.failure,
            self._families.failure_info,
        )
        why = (failure.reason.value, _printable(failure.s3_code)) if failure else None
        if self._failing.get(key) == why:
            return
        if self._failing.pop(key, None):
            family.remove(outcome.target, operation=outcome.operation)
        if why is not None:
            self._failing[key] = why
            family.labels(*key, *why, exemplar.labels["request_id"] if exemplar else "").set(1)

    def alert(self, target: str, alert_type: str, severity: str, active: bool) -> None:
        """Say whether an alert is active."""
        if target in self._operations:
            self._families.alert_active.labels(target, alert_type, severity).set(active)

    def set_alertmanagers(self, urls: Sequence[str], gone: Sequence[str] = ()) -> None:
        """Begin the counters of these members at 0, and drop those of `gone`."""
        families = self._families
        for url in gone:
            families.notifications_sent.remove(None, alertmanager=url)
            families.notification_errors.remove(None, alertmanager=url)
            families.notifications_dropped.remove(None, alertmanager=url)
            families.notification_latency.remove(None, alertmanager=url)
            families.notifications_waiting.remove(None, alertmanager=url)
        for url in urls:
            families.notifications_sent.labels(url)
            families.notifications_dropped.labels(url)
            for reason in Reason:
                families.notification_errors.labels(url, reason)

    def notified(self, member: str, alerts: int, seconds: float, reason: Reason | None, dropped: int) -> None:
        """Count a request with so many alerts to a member of Alertmanager, by its URL."""
        families = self._families
        families.notification_latency.labels(member).observe(seconds)
        families.notifications_dropped.labels(member).inc(dropped)
        if reason is None:
            families.notifications_sent.labels(member).inc(alerts)
        else:
            families.notification_errors.labels(member, reason).inc(alerts)

    def notifications_waiting(self, pending: Mapping[str, int]) -> None:
        """Say how many alerts each member of Alertmanager has yet to hear."""
        for member, count in pending.items():
            self._families.notifications_waiting.labels(member).set(count)

    def skip(self, target: str, operation: Operation, reason: SkipReason, count: int = 1) -> None:
        """Count operations that were due but not sent."""
        if target in self._operations:
            self._begin_operation(target, operation)
            self._families.skipped.labels(target, operation, reason).inc(count)

    def target_up(self, target: str, up: bool) -> None:
        """Say how the target's last run went; before the first there is no series."""
        if target in self._operations:
            self._families.target_up.labels(target).set(up)

    def breaker(self, target: str, status: Status) -> None:
        """Say what a target's circuit breaker has seen."""
        if target in self._operations:
            families = self._families
            families.breaker_failures.labels(target).set(status.counts.failure_ratio)
            families.breaker_slow_calls.labels(target).set(status.counts.slow_call_ratio)
            families.breaker_ewma.labels(target).set(status.mean_duration)

    def breaker_state(self, target: str, now_in: State) -> None:
        """Say in which state a target's circuit breaker is."""
        if target in self._operations:
            for state in _STATES:
                self._families.breaker_state.labels(target, state).set(now_in is state)

    def transition(self, target: str, from_state: State, to_state: State) -> None:
        """Count a change of a circuit breaker's state."""
        if target in self._operations:
            self._families.breaker_transitions.labels(target, from_state, to_state).inc()

    def billed(self, target: str, billing_class: BillingClass, count: int = 1) -> None:
        """Count requests that R2 bills; `record` does it for probes, a sweep's are counted here."""
        if target in self._operations:
            self._families.billed.labels(target, billing_class).inc(count)

    def cleanup(self, target: str, success: bool) -> None:
        """Count an attempt to delete what a probe wrote."""
        if target in self._operations:
            self._families.cleanups.labels(target, _RESULTS[not success]).inc()

    def leftovers_deleted(self, target: str, count: int) -> None:
        """Count objects of earlier runs that a sweep deleted."""
        if target in self._operations:
            self._families.leftovers.labels(target).inc(count)

    def set_build_info(self, **labels: str) -> None:
        """Say once which build runs: `version`, `python_version` and the like."""
        self._families.build_info.labels(**labels).set(1)

    def set_shard(self, shard: Shard) -> None:
        """Say once which of how many exporters this is."""
        self._families.shard_ordinal.labels().set(shard.number)
        self._families.total_shards.labels().set(shard.total)

    def loop_lag(self, seconds: float, now: float) -> None:
        """Take one measured delay of the event loop, at monotonic time `now`.

        To be called every second or so: it also lets the largest lateness age.
        """
        self._largest_lag.add(seconds, now)
        self._families.loop_lag.labels().set(self._largest_lag.value(now))
        self._families.lateness_max.labels().set(self._largest_lateness.value(now))

    def lateness(self, seconds: float, now: float) -> None:
        """Take how long after it was due a run started, at monotonic time `now`."""
        self._families.lateness.labels().observe(seconds)
        self._largest_lateness.add(seconds, now)
        self._families.lateness_max.labels().set(self._largest_lateness.value(now))

    def probes_in_flight(self, count: int) -> None:
        self._families.in_flight.labels().set(count)

    def history(self, state: HistoryState) -> None:
        """Take how the history stands."""
        families, before = self._families, self._history
        families.history_up.labels().set(state.up)
        families.history_queue.labels().set(state.queued)
        families.history_size.labels().set(state.size)
        families.history_written.labels().inc(state.written - before.written)
        families.history_dropped.labels().inc(state.dropped - before.dropped)
        families.history_seconds.labels().inc(state.write_seconds - before.write_seconds)
        self._history = state

    def log_lost(self, lines: int) -> None:
        """Take how many lines of the log could not be written so far."""
        self._families.log_lost.labels().inc(lines - self._log_lost)
        self._log_lost = lines

    def config_loaded(self, success: bool, now: float) -> None:
        """Take the result of loading the configuration, at Unix time `now`."""
        self._families.reload_successful.labels().set(success)
        if success:
            self._families.reload_timestamp.labels().set(now)

    def _begin_operation(self, target: str, operation: Operation) -> None:
        # A probe on demand may name an operation that is not configured.
        if operation not in self._operations[target]:
            self._begin_operations(target, [operation])

    def _begin_operations(self, target: str, operations: Sequence[Operation]) -> None:
        families, begun = self._families, self._operations[target]
        new = [operation for operation in operations if operation not in begun]
        begun.update(new)
        if new:
            families.probes.begin((target, each, result) for each in new for result in _RESULTS)
            families.errors.begin((target, each, reason) for each in new for reason in Reason)
            families.skipped.begin((target, each, reason) for each in new for reason in SkipReason)
            families.reconnects.begin((target, each) for each in new)


class WindowMax:
    """The largest of the values added in the last `width` seconds. Pure: time is passed in."""

    def __init__(self, width: float) -> None:
        self._width = width
        # Falling values: one that is followed by a larger one can never be the largest again.
        self._candidates: deque[tuple[float, float]] = deque()

    def add(self, value: float, now: float) -> None:
        while self._candidates and self._candidates[-1][1] <= value:
            self._candidates.pop()
        self._candidates.append((now, value))

    def value(self, now: float) -> float:
        """The largest value, or 0 if none was added within the window. `now` never goes back."""
        while self._candidates and self._candidates[0][0] <= now - self._width:
            self._candidates.popleft()
        return self._candidates[0][1] if self._candidates else 0.0


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("", text)[:TEXT_LIMIT]


def _exemplar(outcome: Outcome) -> Exemplar | None:
    # A request id comes from the network: it may be of any length and hold anything.
    request_id = _printable(outcome.request_id)
    return Exemplar({"request_id": request_id}, round(outcome.started_at, 3)) if request_id else None


def _runtime_collectors() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
