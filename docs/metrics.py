"""The reference of metrics, made from the code that exposes them and from what uses them."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from docs.rules import alerting_rules, asks_for
from exporter.alerts import SEVERITIES, Severity
from exporter.breaker import State
from exporter.buckets import DURATION_BUCKETS, LATENESS_BUCKETS, PHASE_BUCKETS
from exporter.config import TargetSettings
from exporter.guard import CircuitBreaker, GuardMetrics, Verdict
from exporter.guard.metrics import REJECTED
from exporter.metrics import Metrics
from exporter.outcome import BillingClass, Operation, Phase, Reason, SkipReason
from exporter.probe import BILLING
from exporter.series import Format
from exporter.target import thresholds

DASHBOARDS = Path(__file__).parents[1] / "grafana" / "dashboards"

HEAD = """\
# Metrics

Made from the code by `make generate`. [README](../README.md#metrics) has those to know first, with questions to ask them.

- **Counters** of the exporter exist at 0 from the start, so that `rate()` sees the first failure.
- **Formats**: Prometheus text and OpenMetrics 1.0.0, by the `Accept` header, gzip where asked. In OpenMetrics the buckets of
  `r2_probe_duration_seconds` and `r2_probe_errors_total` carry an exemplar with the `request_id`.
- **`/probe`** has the series of its target alone; `process_*` and `python_*` on `/metrics` are those of prometheus_client.
- **Labels**: `target` is the target's name in exporter.yaml, `alertmanager` a member's URL, `s3_code` and `request_id` are what
  the storage said. Where a label has few values they stand behind it.
- **Used by**: the [dashboards](../grafana/dashboards/), the [alerts](alerts.md) whose expressions rest on it, directly or through a
  recording rule, and those that only name it in what they say.
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

NOTES = {
    "r2_probe_duration_seconds": "From the first step to the last byte; a timeout counts with its full time. With edges at "
    "2 s and 5 s the share of slow operations is read, not estimated, at the default `slow_response_threshold` and `timeout`.",
    "r2_probe_phase_duration_seconds": "A phase that a kept connection skips has no sample: divide the sum by the count.",
    "r2_probe_errors_total": "[What each reason means](../README.md#why-it-failed).",
    "r2_probes_skipped_total": "`circuit_open`: the breaker rejected it. `overrun`: the run before had not ended, or a "
    "scrape's timeout left no time. `stopped`: `enabled: false`.",
    "r2_probe_last_run_timestamp_seconds": "A skipped operation does not move it.",
    "r2_billed_operations_total": "; ".join(
        f"`{each}`: {', '.join(operation for operation in Operation if BILLING[operation] is each)}"
        for each in BillingClass
    )
    + ". The hourly sweep lists, which is counted as well. [Prices](https://developers.cloudflare.com/r2/pricing/).",
    "r2_target_clock_skew_seconds": "Negative where it is behind. Storages refuse signatures beyond 15 minutes.",
    "r2_circuit_breaker_response_time_ewma_seconds": "Over all operations of the target; its half-life is "
    "`breaker.ewma_half_life`.",
    "r2_exporter_event_loop_lag_seconds": "If this is not small, do not trust the durations.",
    "r2_exporter_shard_ordinal": "[Many targets](scaling.md) says what it is for.",
    "r2_guard_calls_total": "`operation` is `put` and its like for a bucket, `PutObject` and its like for a boto3 client.",
}
"""What the help text leaves out."""

VALUES: Mapping[tuple[str, str], Iterable[str]] = {
    ("r2_probe", "operation"): Operation,
    ("r2_probe_phase_duration_seconds", "phase"): Phase,
    ("r2_probe", "result"): ("success", "failure"),
    ("r2_probe_", "reason"): Reason,
    ("r2_probes_skipped_total", "reason"): SkipReason,
    ("r2_exporter_notifications", "reason"): Reason,
    ("r2_billed_operations_total", "class"): BillingClass,
    ("r2_circuit_breaker", "state"): (State.CLOSED, State.OPEN, State.HALF_OPEN),
    ("r2_alert_active", "type"): SEVERITIES,
    ("r2_alert_active", "severity"): tuple(severity.label for severity in Severity),
    ("r2_config_threshold", "name"): thresholds(
        TargetSettings(name="media", endpoint="https://s3.example.org", bucket="media", labels={})
    ),
    ("r2_guard_calls_total", "result"): (*(verdict.value for verdict in Verdict), REJECTED),
    ("r2_guard_circuit_breaker", "state"): State,
}
"""Every value of a label, by how the metric's name begins and how the label's name ends."""

FURTHER = {
    "r2_target_info": ("those of the target's `labels` in exporter.yaml",),
    "r2_exporter_build_info": ("`version`", "`python_version`", "`implementation`"),
}
"""Labels that belong to each series rather than to the family."""

BUCKETS = {
    "r2_probe_duration_seconds": DURATION_BUCKETS,
    "r2_probe_phase_duration_seconds": PHASE_BUCKETS,
    "r2_exporter_schedule_lateness_seconds": LATENESS_BUCKETS,
    "r2_exporter_notifications_latency_seconds": DURATION_BUCKETS,
    "r2_guard_call_duration_seconds": DURATION_BUCKETS,
}

_UNITS = {
    "_timestamp_seconds": "Unix time",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_ratio": "0 to 1",
}


@dataclass(frozen=True)
class Metric:
    """What a scrape says of a family."""

    name: str
    kind: str
    labels: Sequence[str]
    description: str

    @property
    def unit(self) -> str:
        """As its name tells it, or nothing."""
        name = self.name.removesuffix("_total")
        return next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")


def page() -> str:
    """The page in Markdown."""
    users = _users()
    parts = [HEAD]
    for title, prefix in (("Targets", "r2_(?!exporter_)"), ("The exporter itself", "r2_exporter_")):
        parts.append(f"## {title}\n")
        parts += [_entry(each, users) for each in exporter_metrics() if re.match(prefix, each.name)]
    parts += [
        "## Guarded calls\n",
        "An application that uses [`exporter.guard`](../README.md#guard-your-own-calls) exposes these on a registry of its own.\n",
        *[_entry(each, users) for each in guard_metrics()],
    ]
    return "\n".join(parts)


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


def values(metric: str, label: str) -> list[str]:
    """Every value the label can have, or nothing where that is anything."""
    found = (
        each for (begin, end), each in VALUES.items() if metric.startswith(begin) and label.endswith(end)
    )
    return [str(value) for value in next(found, ())]


def _entry(metric: Metric, users: Sequence[tuple[str, str, str]]) -> str:
    lines = [f"### `{metric.name}`\n", " ".join([metric.description, *_given(NOTES.get(metric.name))]) + "\n"]
    labels = [*(_label(metric.name, label) for label in metric.labels), *FURTHER.get(metric.name, ())]
    kind = metric.kind.capitalize() + (f", {metric.unit}" if metric.unit else "")
    lines.append(f"- {kind}; {'labels: ' + ', '.join(labels) if labels else 'no labels'}")
    if metric.name in BUCKETS:
        lines.append(f"- buckets: {', '.join(f'{edge:g}' for edge in BUCKETS[metric.name])}")
    used: dict[str, list[str]] = {}
    for how, name, text in users:
        if asks_for(metric.name, text) and not any(name in names for names in used.values()):
            used.setdefault(how, []).append(name)
    lines += [f"- {how}: {', '.join(names)}" for how, names in used.items()]
    if metric.name in QUERIES:
        lines.append(f"\n```promql\n{QUERIES[metric.name]}\n```")
    return "\n".join(lines) + "\n"


def _given(text: str | None) -> Iterator[str]:
    if text:
        yield text


def _label(metric: str, label: str) -> str:
    known = ", ".join(values(metric, label))
    return f"`{label}` ({known})" if known else f"`{label}`"


def _users() -> list[tuple[str, str, str]]:
    """Kind, name and text of everything that asks for metrics."""
    boards = [json.loads(file.read_text()) for file in sorted(DASHBOARDS.glob("*.json"))]
    rules = [
        (f"[{rule.name}](alerts.md#{rule.name.lower()})", rule.text, "\n".join(rule.annotations.values()))
        for rule in alerting_rules()
    ]
    return [
        *(("dashboards", f"*{board['title']}*", "\n".join(_queries(board))) for board in boards),
        *(("alerts", name, text) for name, text, _ in rules),
        *(("named in the text of", name, text) for name, _, text in rules),
    ]


def _queries(part: Any) -> Iterator[str]:
    """The queries anywhere in a dashboard."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("expr", "query", "definition") and isinstance(value, str):
                yield value
            else:
                yield from _queries(value)
    elif isinstance(part, list):
        for each in part:
            yield from _queries(each)
