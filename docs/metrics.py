"""The reference of metrics, made from the code that exposes them and from what uses them."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from exporter.alerts import SEVERITIES
from exporter.breaker import State
from exporter.buckets import DURATION_BUCKETS, LATENESS_BUCKETS, PHASE_BUCKETS
from exporter.config import TargetSettings
from exporter.guard import CircuitBreaker, GuardMetrics
from exporter.metrics import Metrics
from exporter.outcome import BillingClass, Operation, Phase, Reason, SkipReason
from exporter.series import Format
from exporter.target import thresholds

ROOT = Path(__file__).parents[1]

HEAD = """\
# Metrics

Made from the code by `make generate`. Durations are in seconds and times in Unix time, as Prometheus' conventions have it;
counters exist at 0 from the start, so that `rate()` sees the first failure. [README](../README.md#metrics) has the ones to
know first, with questions to ask them.

Formats: Prometheus text and OpenMetrics 1.0.0, by the `Accept` header, gzip where asked. In OpenMetrics the buckets of
`r2_probe_duration_seconds` and `r2_probe_errors_total` carry an exemplar with the `request_id`. `/probe` has the series of its
target alone. `process_*` and `python_*` are those of prometheus_client.
"""

QUERIES = {
    "r2_target_up": "min by (target) (r2_target_up)",
    "r2_probe_duration_seconds": "histogram_quantile(0.95, sum by (target, operation, le) "
    "(rate(r2_probe_duration_seconds_bucket[5m])))",
    "r2_probe_phase_duration_seconds": "sum by (target, phase) (rate(r2_probe_phase_duration_seconds_sum[5m])) / "
    "sum by (target, phase) (rate(r2_probe_phase_duration_seconds_count[5m]))",
    "r2_probes_total": 'sum by (target) (rate(r2_probes_total{result="success"}[5m])) / '
    "sum by (target) (rate(r2_probes_total[5m]))",
    "r2_probe_errors_total": "topk(5, sum by (target, reason) (increase(r2_probe_errors_total[1h])))",
    "r2_probe_failure_info": "max by (target, operation, reason, s3_code, request_id) (r2_probe_failure_info)",
    "r2_probes_skipped_total": 'sum by (target) (increase(r2_probes_skipped_total{reason="overrun"}[1h])) > 0',
    "r2_circuit_breaker_state": 'r2_circuit_breaker_state{state="open"} == 1',
    "r2_circuit_breaker_transitions_total": "sum by (target) "
    '(increase(r2_circuit_breaker_transitions_total{to_state="open"}[1d]))',
    "r2_alert_active": "r2_alert_active == 1",
    "r2_config_threshold": 'r2_config_threshold{name="slow_response_seconds"}',
    "r2_billed_operations_total": "sum by (class) (increase(r2_billed_operations_total[1d]))",
    "r2_tls_certificate_expiry_timestamp_seconds": "(r2_tls_certificate_expiry_timestamp_seconds - time()) / 86400",
    "r2_target_clock_skew_seconds": "abs(r2_target_clock_skew_seconds) > 60",
    "r2_exporter_event_loop_lag_seconds": "max_over_time(r2_exporter_event_loop_lag_seconds[1h])",
    "r2_exporter_schedule_lateness_seconds": "histogram_quantile(0.99, sum by (le) "
    "(rate(r2_exporter_schedule_lateness_seconds_bucket[5m])))",
    "r2_exporter_history_up": "r2_exporter_history_up == 0",
    "r2_guard_calls_total": 'sum by (breaker) (rate(r2_guard_calls_total{result="rejected"}[5m]))',
}
"""A question that each of these answers."""

LABELS: dict[str, Sequence[str]] = {
    "operation": tuple(Operation),
    "phase": tuple(Phase),
    "result": ("success", "failure"),
    "reason (of errors)": tuple(Reason),
    "reason (of skipped)": tuple(SkipReason),
    "state, from_state, to_state": [each for each in State if each is not State.DISABLED],
    "class": tuple(BillingClass),
    "type": tuple(SEVERITIES),
    "severity": sorted({each.label for each in SEVERITIES.values()}),
    "name (of r2_config_threshold)": tuple(
        thresholds(TargetSettings(name="media", endpoint="https://s3.example.org", bucket="media", labels={}))
    ),
}


@dataclass(frozen=True)
class Metric:
    """What a scrape says of a family."""

    name: str
    kind: str
    labels: Sequence[str]
    description: str


def page() -> str:
    """The page in Markdown."""
    dashboards, alerts = _dashboards(), _alerts()
    parts = [HEAD]
    for title, prefix in (("Targets", "r2_(?!exporter_)"), ("The exporter itself", "r2_exporter_")):
        chosen = [each for each in exporter_metrics() if re.match(prefix, each.name)]
        parts += [f"## {title}\n", *_entries(chosen, dashboards, alerts)]
    parts += [
        "## Guarded calls\n",
        "An application that uses [`exporter.guard`](../README.md#guard-your-own-calls) exposes these on a registry "
        "of its own.\n",
        *_entries(guard_metrics(), dashboards, alerts),
        "## Label values\n",
        "| label | values |\n|---|---|",
        *[f"| {label} | {', '.join(f'`{value}`' for value in values)} |" for label, values in LABELS.items()],
        "\nFurther: `target` is its name in exporter.yaml, `alertmanager` a member's URL, `s3_code` and `request_id` what "
        "the storage said,\n`breaker` the name of a guard's breaker.\n",
        "## Buckets\n",
        "| histogram | edges in seconds |\n|---|---|",
        *[f"| {name} | {', '.join(f'{edge:g}' for edge in edges)} |" for name, edges in _BUCKETS.items()],
    ]
    return "\n".join(parts) + "\n"


_BUCKETS = {
    "`r2_probe_duration_seconds`, `r2_guard_call_duration_seconds`": DURATION_BUCKETS,
    "`r2_probe_phase_duration_seconds`": PHASE_BUCKETS,
    "`r2_exporter_schedule_lateness_seconds`": LATENESS_BUCKETS,
}


def exporter_metrics() -> list[Metric]:
    """Every family of /metrics, in its order."""
    found = []
    for name, family in Metrics().registry.families.items():
        head, kind = family.header[Format.TEXT].decode().splitlines()
        found.append(Metric(name, kind.split()[-1], family.label_names, head.split(" ", 3)[3]))
    return found


def guard_metrics() -> list[Metric]:
    """Every family of GuardMetrics, its labels read off a breaker that was used."""
    registry = CollectorRegistry()
    metrics = GuardMetrics(registry)
    breaker = CircuitBreaker("one")
    metrics.watch(breaker)
    guard = breaker.guard()
    with guard:
        pass
    metrics.ended(breaker.name, "get", guard)
    breaker.force_open()
    found = []
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        found.append(Metric(name, family.type, tuple(labels), family.documentation))
    return found


def _entries(metrics: Sequence[Metric], dashboards: dict[str, str], alerts: dict[str, str]) -> Iterator[str]:
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
        yield f"### `{metric.name}`\n"
        yield f"{metric.description} *{metric.kind.capitalize()}*, labels: {labels}.\n"
        if metric.name in QUERIES:
            yield f"```promql\n{QUERIES[metric.name]}\n```\n"
        users = [
            f"{kind} {', '.join(names)}"
            for kind, places in (("dashboards", dashboards), ("alerts", alerts))
            if (names := [each for each, text in places.items() if _uses(metric.name, text)])
        ]
        if users:
            yield f"Used by: {'; '.join(users)}.\n"


def _uses(name: str, text: str) -> bool:
    return re.search(rf"\b{name}(_bucket|_sum|_count)?\b(?!:)", text) is not None


def _dashboards() -> dict[str, str]:
    found = {}
    for file in sorted(ROOT.joinpath("grafana", "dashboards").glob("*.json")):
        text = file.read_text()
        found[f"*{json.loads(text)['title']}*"] = text
    return found


def _alerts() -> dict[str, str]:
    """Each alert with its expression, and with those of the recording rules that it rests on."""
    groups = yaml.safe_load(ROOT.joinpath("rules", "r2-exporter.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    records = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    alerts = {}
    for rule in rules:
        if "alert" in rule:
            text = rule["expr"]
            while reached := [name for name in records if name in text and f"({records[name]})" not in text]:
                text += "".join(f" ({records[name]})" for name in reached)
            alerts[f"[{rule['alert']}](runbooks/{rule['alert']}.md)"] = text
    return alerts
