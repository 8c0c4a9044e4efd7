"""What a guard exports to the registry that the application chooses."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.guard import CircuitBreaker, CircuitOpenError, GuardMetrics, State, guard_client
from tests.guard.rig import RECOVERY, Rig, answers, hang_up, page
from tests.running import Samples
from tests.stores import Seen

FAMILIES = {
    "r2_guard_calls": ("counter", {"breaker", "operation", "result"}),
    "r2_guard_call_duration_seconds": ("histogram", {"breaker", "operation"}),
    "r2_guard_circuit_breaker_transitions": ("counter", {"breaker", "from_state", "to_state"}),
    "r2_guard_circuit_breaker_state": ("gauge", {"breaker", "state"}),
    "r2_guard_circuit_breaker_failure_ratio": ("gauge", {"breaker"}),
    "r2_guard_circuit_breaker_slow_call_ratio": ("gauge", {"breaker"}),
    "r2_guard_circuit_breaker_response_time_ewma_seconds": ("gauge", {"breaker"}),
    "r2_guard_circuit_breaker_rejected_calls": ("counter", {"breaker"}),
    "r2_guard_circuit_breaker_state_seconds": ("counter", {"breaker", "state"}),
}


# Neither is annotated there.
parse_openmetrics: Callable[[str], Iterable[Any]] = parser.text_string_to_metric_families
write_openmetrics: Callable[[CollectorRegistry], bytes] = exposition.generate_latest


def states(samples: Samples, breaker: str) -> dict[State, float]:
    return {
        state: samples("r2_guard_circuit_breaker_state", breaker=breaker, state=state.value)
        for state in State
    }


def test_every_family_has_its_samples(rig: Rig) -> None:
    registry = CollectorRegistry()
    breaker = rig.breaker(failure_threshold=1)
    bucket = rig.bucket(breaker, metrics=GuardMetrics(registry))
    bucket.put("report", b"42")
    rig.front.before = answers(500, "InternalError")
    with pytest.raises(ClientError):
        bucket.get("report")

    text = {family.name: family for family in parse_text(page(registry))}
    strict = {family.name: family for family in parse_openmetrics(write_openmetrics(registry).decode())}
    for families in (text, strict):
        created = {name for name in families if name.endswith("_created")}
        assert families.keys() - created == FAMILIES.keys()
        for name, (kind, labels) in FAMILIES.items():
            family = families[name]
            assert family.type == kind
            assert family.documentation.endswith(".")
            assert family.samples
            assert all(sample.labels.keys() - {"le"} == labels for sample in family.samples)
            assert {sample.labels["breaker"] for sample in family.samples} == {"media"}
        for name in ("r2_guard_circuit_breaker_state", "r2_guard_circuit_breaker_state_seconds"):
            assert [sample.labels["state"] for sample in families[name].samples] == list(State)


def test_metrics_tell_what_a_bucket_went_through(rig: Rig) -> None:
    async def take_a_quarter_of_a_second(request: Seen) -> None:
        rig.clock.now += 0.25

    registry = CollectorRegistry()
    breaker = rig.breaker(failure_threshold=1)
    bucket = rig.bucket(breaker, metrics=GuardMetrics(registry))
    idle = Samples.of(page(registry))
    assert states(idle, "media") == dict.fromkeys(State, 0.0) | {State.CLOSED: 1.0}
    assert idle("r2_guard_circuit_breaker_failure_ratio") != idle("r2_guard_circuit_breaker_failure_ratio")
    assert idle("r2_guard_circuit_breaker_rejected_calls_total", breaker="media") == 0

    rig.front.after = take_a_quarter_of_a_second
    for _ in range(3):
        bucket.put("report", b"42")
    with pytest.raises(ParamValidationError):
        bucket.put("", b"42")
    rig.front.before = answers(500, "InternalError")
    with pytest.raises(ClientError):
        bucket.get("report")
    for _ in range(2):
        with pytest.raises(CircuitOpenError):
            bucket.get("report")
    rig.clock.now += RECOVERY + 5

    samples = Samples.of(page(registry))
    assert samples("r2_guard_calls_total", operation="put", result="success") == 3
    assert samples("r2_guard_calls_total", operation="put", result="neither") == 1
    assert samples("r2_guard_calls_total", operation="get", result="failure") == 1
    assert samples("r2_guard_calls_total", operation="get", result="rejected") == 2
    assert samples("r2_guard_calls_total") == 7
    assert samples("r2_guard_call_duration_seconds_count", operation="put") == 3
    assert samples("r2_guard_call_duration_seconds_sum", operation="put") == 0.75
    assert samples("r2_guard_call_duration_seconds_bucket", operation="put", le="0.2") == 0
    assert samples("r2_guard_call_duration_seconds_bucket", operation="put", le="0.3") == 3
    assert samples("r2_guard_call_duration_seconds_count", operation="get") == 1
    assert samples("r2_guard_circuit_breaker_rejected_calls_total") == 2
    assert samples("r2_guard_circuit_breaker_failure_ratio") == 0.25
    assert samples("r2_guard_circuit_breaker_slow_call_ratio") == 0
    assert 0 < samples("r2_guard_circuit_breaker_response_time_ewma_seconds") < 0.25
    assert states(samples, "media") == dict.fromkeys(State, 0.0) | {State.OPEN: 1.0}
    assert samples("r2_guard_circuit_breaker_state_seconds_total", state="closed") == 0.75
    assert samples("r2_guard_circuit_breaker_state_seconds_total", state="open") == RECOVERY + 5

    rig.front.before = None
    assert bucket.get("report") == b"42"
    breaker.force_open()
    breaker.disable()
    bucket.reset_breaker()
    changes = Counter(
        {
            (sample.labels["from_state"], sample.labels["to_state"]): sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "r2_guard_circuit_breaker_transitions_total"
        }
    )
    assert changes == {
        ("closed", "open"): 1,
        ("open", "half_open"): 1,
        ("half_open", "closed"): 1,
        ("closed", "forced_open"): 1,
        ("forced_open", "disabled"): 1,
        ("disabled", "closed"): 1,
    }


def test_metrics_tell_what_a_client_went_through(rig: Rig) -> None:
    registry = CollectorRegistry()
    breaker = rig.breaker(failure_threshold=1)
    client = guard_client(rig.client(), breaker, metrics=GuardMetrics(registry))
    client.list_objects_v2(Bucket=rig.outside.name)
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket=rig.outside.name, Key="nothing")
    rig.front.before = hang_up
    with pytest.raises(BotoCoreError):
        client.get_object(Bucket=rig.outside.name, Key="nothing")
    with pytest.raises(CircuitOpenError):
        client.get_object(Bucket=rig.outside.name, Key="nothing")

    samples = Samples.of(page(registry))
    assert samples("r2_guard_calls_total", operation="ListObjectsV2", result="success") == 1
    assert samples("r2_guard_calls_total", operation="GetObject", result="success") == 1
    assert samples("r2_guard_calls_total", operation="GetObject", result="failure") == 1
    assert samples("r2_guard_calls_total", operation="GetObject", result="rejected") == 1
    assert samples("r2_guard_calls_total") == 4
    assert samples("r2_guard_call_duration_seconds_count", breaker="media") == 3
    assert samples("r2_guard_circuit_breaker_rejected_calls_total") == 1


def test_one_registry_holds_many_breakers_of_different_names(rig: Rig) -> None:
    registry = CollectorRegistry()
    metrics = GuardMetrics(registry)
    first, second = (CircuitBreaker(name) for name in ("first", 'the "second"\\\n'))
    rig.bucket(first, metrics=metrics)
    rig.bucket(first, metrics=metrics)
    rig.bucket(second, metrics=metrics)
    with pytest.raises(ValueError, match="two circuit breakers are named 'first'"):
        rig.bucket(CircuitBreaker("first"), metrics=metrics)
    second.force_open()
    samples = Samples.of(page(registry))
    assert states(samples, "first")[State.CLOSED] == 1
    assert states(samples, second.name)[State.FORCED_OPEN] == 1
    # The first is watched once, though two buckets have it.
    first.force_open()
    transitions = Samples.of(page(registry))
    assert transitions("r2_guard_circuit_breaker_transitions_total", breaker="first") == 1


def test_one_registry_takes_one_set_of_metrics() -> None:
    registry = CollectorRegistry()
    GuardMetrics(registry)
    before = page(registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        GuardMetrics(registry)
    assert page(registry) == before
    GuardMetrics(CollectorRegistry())
