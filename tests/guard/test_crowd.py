"""Many threads on one guard: never more trials than permitted, and no call lost."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from botocore.exceptions import ClientError
from prometheus_client import CollectorRegistry

from exporter.guard import CircuitOpenError, GuardedBucket, GuardMetrics, State
from tests.guard.rig import RECOVERY, Get, Rig, Way, answers, both_ways, broken, page
from tests.running import DEADLINE, Samples, until
from tests.stores import Before, Seen

CROWD = 32


@dataclass
class Crowd:
    """Threads that call at the same time; the storage keeps those who come until the rest are rejected."""

    get: Get
    fault: Before | None = None
    inside: int = 0
    most: int = 0
    rejected: list[CircuitOpenError] = field(default_factory=list)

    async def hold(self, request: Seen) -> web.Response | None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await until(lambda: self.most + len(self.rejected) >= CROWD)
        self.inside -= 1
        return await self.fault(request) if self.fault else None

    def rush(self) -> Counter[str]:
        """How the calls went, one of each thread."""
        self.most = 0
        self.rejected.clear()
        together = threading.Barrier(CROWD)

        def call(_: int) -> str:
            together.wait(DEADLINE)
            try:
                self.get("report")
            except CircuitOpenError as error:
                self.rejected.append(error)
                return "rejected"
            except ClientError:
                return "failure"
            return "success"

        with ThreadPoolExecutor(CROWD) as threads:
            return Counter(threads.map(call, range(CROWD)))


@both_ways
@pytest.mark.parametrize("trials", [1, 3])
def test_a_crowd_sends_no_more_trials_than_permitted(rig: Rig, way: Way, trials: int) -> None:
    breaker, get = broken(
        rig,
        way,
        rig.client(max_pool_connections=CROWD),
        half_open_max_calls=trials,
        half_open_successes=trials,
    )
    crowd = Crowd(get, answers(500, "InternalError"))
    rig.front.before = crowd.hold
    for _ in range(5):
        assert crowd.rush() == {"failure": trials, "rejected": CROWD - trials}
        assert (crowd.most, breaker.status().state) == (trials, State.OPEN)
        rig.clock.now += RECOVERY

    crowd.fault = None
    assert crowd.rush() == {"success": trials, "rejected": CROWD - trials}
    assert (crowd.most, breaker.status().state) == (trials, State.CLOSED)
    # And closed it lets all of them in at once: one call does not wait for another.
    assert crowd.rush() == {"success": CROWD}
    assert crowd.most == CROWD
    assert breaker.status().rejected == 6 * (CROWD - trials)


def test_no_call_of_a_crowd_is_missing_in_the_metrics(rig: Rig) -> None:
    registry = CollectorRegistry()
    rig.outside.put("report", b"42")
    client = rig.client(max_pool_connections=CROWD)
    breaker = rig.breaker()
    bucket = GuardedBucket(client, rig.outside.name, breaker=breaker, metrics=GuardMetrics(registry))
    crowd = Crowd(bucket.get)
    rig.front.before = crowd.hold
    went = crowd.rush()
    crowd.fault = answers(503, "SlowDown")
    went += crowd.rush() + crowd.rush()

    samples = Samples.of(page(registry))
    assert went == {"success": CROWD, "failure": CROWD, "rejected": CROWD}
    for result, number in went.items():
        assert samples("r2_guard_calls_total", operation="get", result=result) == number
    assert samples("r2_guard_call_duration_seconds_count") == 2 * CROWD == rig.requests()
    assert samples("r2_guard_circuit_breaker_rejected_calls_total") == CROWD
    assert samples("r2_guard_circuit_breaker_transitions_total") == 1
