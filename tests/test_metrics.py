"""What each outcome does to the series, and what promtool says of a full page."""

import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.breaker import Breaker, Policy, State
from exporter.buckets import DURATION_BUCKETS
from exporter.history import HistoryState
from exporter.metrics import TEXT_LIMIT, Metrics, WindowMax
from exporter.outcome import BillingClass, Failure, Operation, Outcome, Phase, Reason, SkipReason
from exporter.series import Format

OPERATIONS = (Operation.PUT, Operation.GET, Operation.DELETE)
THRESHOLDS = {
    "error_rate": 0.2,
    "slow_response_seconds": 2.0,
    "failure_threshold": 3.0,
    "recovery_timeout_seconds": 60.0,
    "check_interval_seconds": 30.0,
}
PLACE: Mapping[str, Any] = {
    "labels": {"team": "web"},
    "bucket": "media",
    "endpoint": "https://s3.example.org",
    "region": "auto",
    "thresholds": THRESHOLDS,
}
GOOD = Outcome("media", Operation.GET, started_at=1_700_000_000.25, duration=0.04)
FAILED = replace(GOOD, failure=Failure(Reason.TIMEOUT, "no answer within 5s"), duration=5.0)

parse_openmetrics: Callable[[str], Iterable[Any]] = (
    parser.text_string_to_metric_families
)  # not annotated there

ALERTMANAGER = "http://alertmanager:9093"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    metrics.set_target("media", OPERATIONS, **PLACE)
    return metrics


def page(metrics: Metrics, fmt: Format = Format.TEXT, target: str | None = None) -> str:
    return b"".join(metrics.registry.render(fmt, target)).decode()


def samples(metrics: Metrics) -> Samples:
    families = parse_text(page(metrics))
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def of_target(metrics: Metrics, target: str) -> Samples:
    return {key: value for key, value in samples(metrics).items() if ("target", target) in key[1]}


def fill(metrics: Metrics, target: str) -> None:
    """Give the target a series in every family that has the label."""
    metrics.set_target(target, tuple(Operation), **PLACE)
    for operation in Operation:
        full = replace(
            FAILED,
            target=target,
            operation=operation,
            phases=dict.fromkeys(Phase, 0.01),
            request_id="8f2b1c-AMS",
            billed=BillingClass.A,
            reconnected=True,
            certificate_expiry=1_800_000_000.0,
            clock_skew=-1.5,
        )
        metrics.record(replace(full, failure=None))
        metrics.record(full)
        metrics.skip(target, operation, SkipReason.OVERRUN)
    metrics.target_up(target, up=True)
    metrics.breaker(target, called(Breaker(Policy(), 0.0)).status(0.0))
    metrics.breaker_state(target, State.CLOSED)
    metrics.transition(target, State.CLOSED, State.OPEN)
    metrics.cleanup(target, success=False)
    metrics.leftovers_deleted(target, 2)
    metrics.alert(target, "slow_response", "warning", active=True)


def called(breaker: Breaker) -> Breaker:
    """After a failure of half a second and a slow success of three."""
    for tell, duration in ((breaker.fail, 0.5), (breaker.succeed, 3.0)):
        permit = breaker.admit(0.0)
        assert permit is not None
        tell(permit, 0.0, duration)
    return breaker


def full_page() -> Metrics:
    metrics = Metrics()
    for target in ("media", 'odd "name"\\\n{ü}'):
        fill(metrics, target)
    metrics.set_build_info(version="0.1.0", python_version="3.11.7")
    metrics.loop_lag(0.001, 1.0)
    metrics.lateness(0.002, 1.0)
    metrics.probes_in_flight(3)
    metrics.history(HistoryState(written=5, queued=1, size=4096))
    metrics.config_loaded(success=True, now=1_700_000_000.0)
    metrics.set_alertmanagers([ALERTMANAGER])
    metrics.notified(ALERTMANAGER, alerts=2, seconds=0.01, reason=None, dropped=0)
    metrics.notifications_waiting({ALERTMANAGER: 1})
    return metrics


def promtool(text: str) -> subprocess.CompletedProcess[str]:
    command = ["promtool", "check", "metrics"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


FAMILIES = {
    "r2_target_info": "gauge",
    "r2_target_up": "gauge",
    "r2_circuit_breaker_state": "gauge",
    "r2_circuit_breaker_transitions": "counter",
    "r2_circuit_breaker_failure_ratio": "gauge",
    "r2_circuit_breaker_slow_call_ratio": "gauge",
    "r2_circuit_breaker_response_time_ewma_seconds": "gauge",
    "r2_config_threshold": "gauge",
    "r2_billed_operations": "counter",
    "r2_probe_cleanups": "counter",
    "r2_leftover_objects_deleted": "counter",
    "r2_tls_certificate_expiry_timestamp_seconds": "gauge",
    "r2_target_clock_skew_seconds": "gauge",
    "r2_probe_duration_seconds": "histogram",
    "r2_probe_phase_duration_seconds": "histogram",
    "r2_probes": "counter",
    "r2_probe_errors": "counter",
    "r2_probes_skipped": "counter",
    "r2_probe_reconnects": "counter",
    "r2_probe_success": "gauge",
    "r2_probe_failure_info": "gauge",
    "r2_alert_active": "gauge",
    "r2_probe_last_run_timestamp_seconds": "gauge",
    "r2_exporter_build_info": "gauge",
    "r2_exporter_shard_ordinal": "gauge",
    "r2_exporter_total_shards": "gauge",
    "r2_exporter_event_loop_lag_seconds": "gauge",
    "r2_exporter_schedule_lateness_seconds": "histogram",
    "r2_exporter_schedule_lateness_max_seconds": "gauge",
    "r2_exporter_history_up": "gauge",
    "r2_exporter_history_queue_length": "gauge",
    "r2_exporter_history_size_bytes": "gauge",
    "r2_exporter_history_written": "counter",
    "r2_exporter_history_dropped": "counter",
    "r2_exporter_log_lines_lost": "counter",
    "r2_exporter_history_write_seconds": "counter",
    "r2_exporter_probes_in_flight": "gauge",
    "r2_exporter_notifications_sent": "counter",
    "r2_exporter_notifications_errors": "counter",
    "r2_exporter_notifications_dropped": "counter",
    "r2_exporter_notifications_latency_seconds": "histogram",
    "r2_exporter_notifications_queue_length": "gauge",
    "r2_exporter_config_last_reload_successful": "gauge",
    "r2_exporter_config_last_reload_success_timestamp_seconds": "gauge",
}


def test_promtool_finds_nothing_on_a_page_with_every_family() -> None:
    text = page(full_page())
    found = promtool(text)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    without_help = [line for line in text.splitlines(True) if not line.startswith("# HELP r2_target_up")]
    assert "r2_target_up" in promtool("".join(without_help)).stderr


@pytest.mark.parametrize(
    ("fmt", "parse"), [(Format.TEXT, parse_text), (Format.OPENMETRICS, parse_openmetrics)]
)
def test_the_full_page_holds_every_family(fmt: Format, parse: Callable[[str], Iterable[Any]]) -> None:
    types = {family.name: family.type for family in parse(page(full_page(), fmt))}
    assert {name: kind for name, kind in types.items() if name.startswith("r2_")} == FAMILIES
    assert {"process_cpu_seconds", "python_info", "python_gc_collections"} <= types.keys()


def failures(metrics: Metrics) -> list[tuple[str, str, str, str]]:
    """What r2_probe_failure_info says: operation, reason, S3 code and request id."""
    found = [dict(labels) for name, labels in samples(metrics) if name == "r2_probe_failure_info"]
    return [(each["operation"], each["reason"], each["s3_code"], each["request_id"]) for each in found]


def test_a_failing_operation_says_why_with_the_first_request_that_failed_so(metrics: Metrics) -> None:
    slow_down = Failure(Reason.THROTTLED, "told to slow down", "SlowDown")
    for request_id in ("first", "second"):
        metrics.record(replace(FAILED, failure=slow_down, request_id=request_id))
    metrics.record(replace(FAILED, operation=Operation.PUT))
    assert sorted(failures(metrics)) == [
        ("get", "throttled", "SlowDown", "first"),
        ("put", "timeout", "", ""),
    ]
    metrics.record(replace(FAILED, request_id="third"))
    assert ("get", "timeout", "", "third") in failures(metrics)
    metrics.record(GOOD)
    assert failures(metrics) == [("put", "timeout", "", "")]
    metrics.record(replace(FAILED, request_id="fourth"))
    metrics.set_target("media", (Operation.GET,), **PLACE)
    assert failures(metrics) == [("get", "timeout", "", "fourth")]
    metrics.remove_target("media")
    metrics.set_target("media", OPERATIONS, **PLACE)
    metrics.record(replace(FAILED, request_id="fifth"))
    assert failures(metrics) == [("get", "timeout", "", "fifth")]


def test_what_a_storage_calls_its_error_cannot_break_the_page(metrics: Metrics) -> None:
    code = 'a"b\n\\{é' + "x" * 1000
    metrics.record(replace(FAILED, failure=Failure(Reason.SERVER, "", code)))
    assert failures(metrics) == [("get", "server", ("ab{" + "x" * 1000)[:TEXT_LIMIT], "")]


def test_what_is_pushed_is_counted_by_member_and_gone_with_it(metrics: Metrics) -> None:
    metrics.set_alertmanagers([ALERTMANAGER])
    assert (
        value(metrics, "r2_exporter_notifications_errors_total", alertmanager=ALERTMANAGER, reason="tls") == 0
    )
    metrics.notified(ALERTMANAGER, alerts=3, seconds=0.01, reason=None, dropped=0)
    metrics.notified(ALERTMANAGER, alerts=2, seconds=5.0, reason=Reason.TIMEOUT, dropped=0)
    metrics.notified(ALERTMANAGER, alerts=1, seconds=0.01, reason=Reason.CLIENT, dropped=1)
    prefix, member = "r2_exporter_notifications_", {"alertmanager": ALERTMANAGER}
    assert value(metrics, f"{prefix}sent_total", **member) == 3
    assert value(metrics, f"{prefix}errors_total", **member, reason="timeout") == 2
    assert value(metrics, f"{prefix}dropped_total", **member) == 1
    assert value(metrics, f"{prefix}latency_seconds_count", **member) == 3
    metrics.set_alertmanagers([], gone=[ALERTMANAGER])
    assert [line for line in page(metrics).splitlines() if line.startswith(prefix)] == []


def test_an_alert_is_1_while_it_is_active(metrics: Metrics) -> None:
    labels = {"target": "media", "type": "slow_response", "severity": "warning"}
    for active in (True, False):
        metrics.alert("media", "slow_response", "warning", active)
        assert value(metrics, "r2_alert_active", **labels) == active
    metrics.alert("gone", "slow_response", "warning", active=True)
    assert not of_target(metrics, "gone")


def test_a_new_target_has_its_counters_at_zero_and_no_results(metrics: Metrics) -> None:
    for billing_class in BillingClass:
        labels = {"target": "media", "class": billing_class}
        assert value(metrics, "r2_billed_operations_total", **labels) == 0
    for operation in OPERATIONS:
        for result in ("success", "failure"):
            labels = {"target": "media", "operation": operation, "result": result}
            assert value(metrics, "r2_probes_total", **labels) == 0
        for reason in Reason:
            labels = {"target": "media", "operation": operation, "reason": reason}
            assert value(metrics, "r2_probe_errors_total", **labels) == 0
        for skip in SkipReason:
            labels = {"target": "media", "operation": operation, "reason": skip}
            assert value(metrics, "r2_probes_skipped_total", **labels) == 0
    for result in ("success", "failure"):
        assert value(metrics, "r2_probe_cleanups_total", target="media", result=result) == 0
    assert value(metrics, "r2_leftover_objects_deleted_total", target="media") == 0
    target = of_target(metrics, "media")
    names = {name for name, _ in target}
    assert names.isdisjoint({"r2_target_up", "r2_probe_success", "r2_probe_duration_seconds_count"})
    assert not any(dict(labels).get("operation") in {"list", "head"} for _, labels in target)


def test_a_target_says_where_it_is_and_what_its_thresholds_are(metrics: Metrics) -> None:
    metrics.set_target("logs", OPERATIONS, **{**PLACE, "labels": {"tier": "2"}, "bucket": "logs"})
    place = {"bucket": "media", "endpoint": "https://s3.example.org", "region": "auto"}
    assert value(metrics, "r2_target_info", target="media", team="web", **place) == 1
    assert value(metrics, "r2_target_info", target="logs", tier="2", **{**place, "bucket": "logs"}) == 1
    for name, setting in THRESHOLDS.items():
        assert value(metrics, "r2_config_threshold", target="media", name=name) == setting


def test_a_success_is_counted_timed_and_shown(metrics: Metrics) -> None:
    metrics.record(
        replace(
            GOOD,
            phases={Phase.PROCESSING: 0.03, Phase.TRANSFER: 0.01},
            billed=BillingClass.B,
            certificate_expiry=1_800_000_000.0,
            clock_skew=-1.5,
        )
    )
    get = {"target": "media", "operation": "get"}
    assert value(metrics, "r2_probes_total", **get, result="success") == 1
    assert value(metrics, "r2_probes_total", **get, result="failure") == 0
    assert value(metrics, "r2_probe_duration_seconds_sum", **get) == 0.04
    assert value(metrics, "r2_probe_duration_seconds_bucket", **get, le="0.03") == 0
    assert value(metrics, "r2_probe_duration_seconds_bucket", **get, le="0.05") == 1
    assert value(metrics, "r2_probe_success", **get) == 1
    assert value(metrics, "r2_probe_last_run_timestamp_seconds", **get) == 1_700_000_000.25
    assert value(metrics, "r2_probe_reconnects_total", **get) == 0
    assert value(metrics, "r2_billed_operations_total", target="media", **{"class": "B"}) == 1
    assert value(metrics, "r2_tls_certificate_expiry_timestamp_seconds", target="media") == 1_800_000_000.0
    assert value(metrics, "r2_target_clock_skew_seconds", target="media") == -1.5
    phases = "r2_probe_phase_duration_seconds_sum"
    seen = {dict(labels)["phase"]: v for (name, labels), v in samples(metrics).items() if name == phases}
    assert seen == {"processing": 0.03, "transfer": 0.01}


def test_a_failure_is_counted_by_reason_and_its_time_observed(metrics: Metrics) -> None:
    metrics.record(GOOD)
    metrics.record(replace(FAILED, reconnected=True))
    get = {"target": "media", "operation": "get"}
    assert value(metrics, "r2_probes_total", **get, result="failure") == 1
    errors = {r: value(metrics, "r2_probe_errors_total", **get, reason=r) for r in Reason}
    assert errors == {r: float(r is Reason.TIMEOUT) for r in Reason}
    assert value(metrics, "r2_probe_success", **get) == 0
    assert value(metrics, "r2_probe_reconnects_total", **get) == 1
    assert value(metrics, "r2_probe_duration_seconds_bucket", **get, le="3.0") == 1
    assert value(metrics, "r2_probe_duration_seconds_bucket", **get, le="5.0") == 2
    assert value(metrics, "r2_billed_operations_total", target="media", **{"class": "B"}) == 0


def test_the_slow_threshold_and_the_default_timeout_are_bucket_edges() -> None:
    assert {2.0, 5.0, 10.0} <= set(DURATION_BUCKETS)
    edges = [edge for edge in DURATION_BUCKETS if 0.02 <= edge <= 5]
    assert all(high / low <= 5 / 3 + 1e-9 for low, high in pairwise(edges))
    assert all(high / low <= 2 for low, high in pairwise(DURATION_BUCKETS))


def test_what_is_not_a_probe_is_counted_too(metrics: Metrics) -> None:
    metrics.skip("media", Operation.GET, SkipReason.CIRCUIT_OPEN, count=3)
    metrics.billed("media", BillingClass.A, count=2)
    metrics.cleanup("media", success=True)
    metrics.cleanup("media", success=False)
    metrics.cleanup("media", success=False)
    metrics.leftovers_deleted("media", 4)
    metrics.target_up("media", up=False)
    skipped = {"target": "media", "operation": "get", "reason": "circuit_open"}
    assert value(metrics, "r2_probes_skipped_total", **skipped) == 3
    assert value(metrics, "r2_billed_operations_total", target="media", **{"class": "A"}) == 2
    assert value(metrics, "r2_probe_cleanups_total", target="media", result="success") == 1
    assert value(metrics, "r2_probe_cleanups_total", target="media", result="failure") == 2
    assert value(metrics, "r2_leftover_objects_deleted_total", target="media") == 4
    assert value(metrics, "r2_target_up", target="media") == 0


def test_a_breaker_shows_its_state_and_what_it_saw(metrics: Metrics) -> None:
    breaker = Breaker(Policy(failure_threshold=1, slow_call_threshold=1.0), 0.0)

    def shown(now: float) -> list[str]:
        metrics.breaker_state("media", breaker.status(now).state)
        states = ("closed", "open", "half_open")
        return [state for state in states if value(metrics, name, target="media", state=state)]

    name = "r2_circuit_breaker_state"
    assert shown(0.0) == ["closed"]
    permit = breaker.admit(0.0)
    assert permit is not None
    breaker.fail(permit, 0.0, 1.0)
    assert shown(0.0) == ["open"]
    assert breaker.admit(60.0) is not None
    assert shown(60.0) == ["half_open"]
    breaker.disable(60.0)
    assert shown(60.0) == []


def test_a_breaker_shows_what_the_window_holds(metrics: Metrics) -> None:
    metrics.breaker("media", called(Breaker(Policy(), 0.0)).status(0.0))
    assert value(metrics, "r2_circuit_breaker_failure_ratio", target="media") == 0.5
    assert value(metrics, "r2_circuit_breaker_slow_call_ratio", target="media") == 0.5
    assert value(metrics, "r2_circuit_breaker_response_time_ewma_seconds", target="media") == 1.75


def test_a_transition_is_counted_from_zero(metrics: Metrics) -> None:
    change = {"target": "media", "from_state": "closed", "to_state": "open"}
    assert value(metrics, "r2_circuit_breaker_transitions_total", **change) == 0
    metrics.transition("media", State.CLOSED, State.OPEN)
    assert value(metrics, "r2_circuit_breaker_transitions_total", **change) == 1


def test_the_exporter_speaks_of_itself() -> None:
    metrics = Metrics()
    metrics.config_loaded(success=True, now=100.0)
    metrics.config_loaded(success=False, now=200.0)
    metrics.set_build_info(version="0.1.0", python_version="3.11.7")
    metrics.probes_in_flight(7)
    metrics.lateness(0.3, now=0.0)
    metrics.lateness(0.02, now=30.0)
    metrics.loop_lag(0.5, now=30.0)
    assert value(metrics, "r2_exporter_config_last_reload_successful") == 0
    assert value(metrics, "r2_exporter_config_last_reload_success_timestamp_seconds") == 100
    assert value(metrics, "r2_exporter_build_info", version="0.1.0", python_version="3.11.7") == 1
    assert value(metrics, "r2_exporter_probes_in_flight") == 7
    assert value(metrics, "r2_exporter_schedule_lateness_seconds_count") == 2
    assert value(metrics, "r2_exporter_schedule_lateness_max_seconds") == 0.3
    assert value(metrics, "r2_exporter_event_loop_lag_seconds") == 0.5
    metrics.loop_lag(0.001, now=61.0)
    assert value(metrics, "r2_exporter_schedule_lateness_max_seconds") == 0.02
    metrics.loop_lag(0.001, now=91.0)
    assert value(metrics, "r2_exporter_event_loop_lag_seconds") == 0.001
    assert value(metrics, "r2_exporter_schedule_lateness_max_seconds") == 0


def test_a_removed_target_leaves_no_series_and_others_are_untouched() -> None:
    metrics = full_page()
    fill(metrics, "logs")
    others = of_target(metrics, "media")
    metrics.remove_target("logs")
    metrics.record(replace(FAILED, target="logs"))
    metrics.skip("logs", Operation.GET, SkipReason.STOPPED)
    metrics.target_up("logs", up=True)
    metrics.billed("logs", BillingClass.A)
    metrics.cleanup("logs", success=True)
    metrics.leftovers_deleted("logs", 1)
    metrics.breaker("logs", Breaker(Policy(), 0.0).status(0.0))
    metrics.breaker_state("logs", State.CLOSED)
    metrics.transition("logs", State.CLOSED, State.OPEN)
    metrics.remove_target("logs")
    assert of_target(metrics, "logs") == {}
    assert of_target(metrics, "media") == others


def test_a_target_that_comes_back_begins_at_zero(metrics: Metrics) -> None:
    metrics.record(FAILED)
    metrics.remove_target("media")
    metrics.set_target("media", OPERATIONS, **PLACE)
    assert value(metrics, "r2_probes_total", target="media", operation="get", result="failure") == 0


def test_the_same_settings_again_change_nothing(metrics: Metrics) -> None:
    metrics.record(FAILED)
    before = of_target(metrics, "media")
    metrics.set_target("media", OPERATIONS, **PLACE)
    assert of_target(metrics, "media") == before


def test_changed_settings_keep_the_counters_and_drop_what_is_gone(metrics: Metrics) -> None:
    for operation in OPERATIONS:
        metrics.record(replace(FAILED, operation=operation, certificate_expiry=1.0, phases={Phase.TLS: 0.1}))
    changed = {**PLACE, "labels": {}, "region": "weur", "thresholds": {"error_rate": 0.5}}
    metrics.set_target("media", (Operation.GET, Operation.HEAD), **changed)
    target = of_target(metrics, "media")
    assert {dict(labels).get("operation") for _, labels in target} == {None, "get", "head"}
    assert value(metrics, "r2_probes_total", target="media", operation="get", result="failure") == 1
    assert value(metrics, "r2_probes_total", target="media", operation="head", result="failure") == 0
    named = {(name, dict(labels).get("name")): value for (name, labels), value in target.items()}
    assert [key for key in named if key[0] == "r2_config_threshold"] == [
        ("r2_config_threshold", "error_rate")
    ]
    assert named["r2_config_threshold", "error_rate"] == 0.5
    info = [dict(labels) for name, labels in target if name == "r2_target_info"]
    assert [(i["region"], "team" in i) for i in info] == [("weur", False)]
    assert "r2_tls_certificate_expiry_timestamp_seconds" not in {name for name, _ in target}
    metrics.set_target("media", OPERATIONS, **PLACE)
    assert value(metrics, "r2_probes_total", target="media", operation="put", result="failure") == 0


def test_a_probe_on_demand_may_use_an_operation_that_is_not_configured(metrics: Metrics) -> None:
    metrics.record(replace(GOOD, operation=Operation.LIST))
    listed = {"target": "media", "operation": "list"}
    assert value(metrics, "r2_probes_total", **listed, result="success") == 1
    assert value(metrics, "r2_probe_errors_total", **listed, reason="dns") == 0


def test_the_page_of_one_target_is_that_target_alone() -> None:
    text = page(full_page(), Format.TEXT, "media")
    families = list(parse_text(text))
    assert {s.labels["target"] for f in families for s in f.samples} == {"media"}
    assert {f.name for f in families} == {name for name in FAMILIES if not name.startswith("r2_exporter_")}
    assert promtool(text).returncode == 0


def exemplars(metrics: Metrics) -> dict[str, Any]:
    families = parse_openmetrics(page(metrics, Format.OPENMETRICS))
    return {s.name: s.exemplar for f in families for s in f.samples if s.exemplar}


def test_the_request_id_is_the_exemplar_of_a_duration_and_of_an_error(metrics: Metrics) -> None:
    metrics.record(replace(FAILED, request_id="8f2b1c-AMS"))
    metrics.record(replace(GOOD, operation=Operation.PUT))
    found = {name: (e.labels, e.value, float(e.timestamp)) for name, e in exemplars(metrics).items()}
    assert found == {
        "r2_probe_duration_seconds_bucket": ({"request_id": "8f2b1c-AMS"}, 5.0, 1_700_000_000.25),
        "r2_probe_errors_total": ({"request_id": "8f2b1c-AMS"}, 1.0, 1_700_000_000.25),
    }


@settings(deadline=None)
@given(st.text() | st.text('a\r\n\x00\x1b é"\\', max_size=300))
@example("a" * 300)
def test_a_request_id_from_the_network_is_bounded_and_printable(request_id: str) -> None:
    metrics = Metrics()
    metrics.set_target("media", OPERATIONS, **PLACE)
    metrics.record(replace(GOOD, request_id=request_id))
    kept = "".join(c for c in request_id if "!" <= c <= "~" and c not in '"\\')[:TEXT_LIMIT]
    text = page(metrics, Format.OPENMETRICS)
    assert text.count("request_id=") == bool(kept)
    assert f'# {{request_id="{kept}"}} 0.04 1700000000.25\n' in text or not kept
    assert list(parse_openmetrics(text))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0, 10)), max_size=30),
    st.integers(0, 200),
)
def test_window_max_is_the_largest_value_of_the_window(steps: list[tuple[int, float]], later: int) -> None:
    window, now, added = WindowMax(60.0), 0, []
    for step, number in steps:
        now += step
        window.add(number, now)
        added.append((now, number))
        assert window.value(now) == max(v for at, v in added if at > now - 60.0)
    assert window.value(now + later) == max((v for at, v in added if at > now + later - 60.0), default=0.0)
