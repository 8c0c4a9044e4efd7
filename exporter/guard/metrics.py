"""An application's circuit breakers as Prometheus metrics, on a registry of its choice."""

import threading
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter.breaker import State, Transition
from exporter.buckets import DURATION_BUCKETS
from exporter.guard.circuit import CircuitBreaker
from exporter.guard.one_call import Guard
from exporter.guard.verdict import Verdict

REJECTED = "rejected"


class GuardMetrics(Collector):
    """Counts the calls under any number of breakers, and tells the state of each at every scrape.

    One serves a registry: a second raises prometheus_client's ValueError of duplicated names. With None
    for a registry nothing is exported.
    """

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._breakers: dict[str, CircuitBreaker] = {}
        self._watching = threading.Lock()
        self._calls = Counter(
            "r2_guard_calls_total",
            "Guarded calls by result; neither is a call that says nothing of the storage.",
            ("breaker", "operation", "result"),
            registry=registry,
        )
        self._duration = Histogram(
            "r2_guard_call_duration_seconds",
            "Time of guarded calls that succeeded or failed.",
            ("breaker", "operation"),
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._transitions = Counter(
            "r2_guard_circuit_breaker_transitions_total",
            "Changes of a circuit breaker's state.",
            ("breaker", "from_state", "to_state"),
            registry=registry,
        )
        if registry is not None:
            registry.register(self)

    def watch(self, breaker: CircuitBreaker) -> None:
        """Exports `breaker` from now on. Raises ValueError if another one has its name."""
        with self._watching:
            known = self._breakers.get(breaker.name)
            self._breakers.setdefault(breaker.name, breaker)
        if known is breaker:
            return
        if known is not None:
            raise ValueError(f"two circuit breakers are named {breaker.name!r}: give each a name of its own")

        def count(transition: Transition) -> None:
            self._transitions.labels(breaker.name, transition.from_state, transition.to_state).inc()

        breaker.listen(count)

    def ended(self, name: str, operation: str, guard: Guard) -> None:
        """Counts a call whose guard has ended, or was never entered because the breaker rejected it."""
        self.count(name, operation, guard.verdict.value if guard.verdict else REJECTED)
        if guard.verdict in (Verdict.SUCCESS, Verdict.FAILURE):
            self._duration.labels(name, operation).observe(guard.duration)

    def count(self, name: str, operation: str, result: str) -> None:
        """Counts a call by its result alone."""
        self._calls.labels(name, operation, result).inc()

    def collect(self) -> Iterator[Metric]:
        """The breakers as they are at this moment."""
        state = _gauge("state", "Whether a circuit breaker is in this state (1) or not (0).", "state")
        failures = _gauge("failure_ratio", "Share of failed calls in the monitoring window.")
        slow = _gauge("slow_call_ratio", "Share of slow calls in the monitoring window.")
        mean = _gauge("response_time_ewma_seconds", "Moving average of the duration of calls.")
        rejected = _counter("rejected_calls", "Calls that were not made because the breaker was open.")
        seconds = _counter("state_seconds", "Time spent in each state.", "state")
        for name, breaker in list(self._breakers.items()):
            status = breaker.status()
            for each in State:
                state.add_metric([name, each], status.state is each)
                seconds.add_metric([name, each], status.seconds_in[each])
            failures.add_metric([name], status.counts.failure_ratio)
            slow.add_metric([name], status.counts.slow_call_ratio)
            mean.add_metric([name], status.mean_duration)
            rejected.add_metric([name], status.rejected)
        return iter((state, failures, slow, mean, rejected, seconds))


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"r2_guard_circuit_breaker_{name}", text, labels=("breaker", *labels))


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"r2_guard_circuit_breaker_{name}", text, labels=("breaker", *labels))
