"""The dashboard of one target."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from exporter.alerting import RUNBOOKS
from grafana import frame, promql, timing
from grafana.frame import Annotation, row
from grafana.panels import (
    BREAKER,
    BUDGET,
    SUCCEEDED,
    SUCCESS,
    UP_OR_DOWN,
    Panel,
    Query,
    bars,
    lines,
    number,
    timeline,
)
from grafana.promql import OPERATION, PACE, SHOWN, TARGET
from grafana.tables import Column, of_targets

BILLED_OVER = "15m"
ERRORS = f"r2_probe_errors_total{{{OPERATION}}}"
SKIPPED = f"r2_probes_skipped_total{{{OPERATION}}}"


def target() -> dashboard.Dashboard:
    board = frame.new(
        "r2-target",
        "R2: Target",
        "One target: its operations, what takes their time, why they fail, and its circuit breaker.",
        frame.job(),
        frame.one_target(),
        frame.operations(),
        frame.window(),
        frame.text(
            "exporter", "Exporter", "http://localhost:9977", "Where your browser reaches the exporter."
        ),
        frame.text("runbooks", "Runbooks", RUNBOOKS, "Where the runbooks of the alerts are."),
    )
    for link in _links():
        board.link(link)
    for annotation in _annotations():
        board.annotation(annotation)
    row(board, "Now", 4, *((3, panel) for panel in _now()))
    row(board, "What is wrong", 7, (12, _failing()), (12, _alerts()))
    row(board, "", 6, (12, _latest()), (12, _breaker()))
    row(board, "", 8, (12, _reasons()), (12, _skipped()), (12, _success()), (12, _ratios()))
    row(
        board,
        "Durations",
        9,
        (12, timing.quantiles()),
        (12, timing.by_operation()),
        (12, timing.phases()),
        (12, timing.slow()),
    )
    row(board, "What it is and costs", 6, (12, _where()), (12, _billed()))
    # Last: what follows a repeated row would be taken for a part of it.
    board.with_row(dashboard.Row("Operation: $operation").repeat("operation"))
    row(board, "", 9, (12, timing.distribution()), (12, timing.phases_of_operation()))
    return board


def _links() -> list[dashboard.DashboardLink]:
    places = (
        ("Status page", "${exporter}/", "The exporter's own page"),
        (
            "History",
            "${exporter}/api/health/history?target=${target:percentencode}&limit=200",
            "The latest results of this target, as JSON",
        ),
        (
            "Probe now",
            "${exporter}/probe?target=${target:percentencode}&debug=true",
            "Probes it, with details",
        ),
        ("Runbooks", "${runbooks}", "What to do about each alert"),
    )
    return [
        dashboard.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .icon("external link")
        .url(url)
        .tooltip(tooltip)
        .target_blank(True)
        for title, url, tooltip in places
    ]


def _annotations() -> list[Annotation]:
    # What changed within one step, so that each transition is marked once.
    transitions = f"r2_circuit_breaker_transitions_total{{{TARGET}}}"
    changed = f"sum by (target, from_state, to_state) ({transitions} - {transitions} offset $__interval) > 0"
    return [
        Annotation(
            "Circuit breaker",
            changed,
            "Circuit breaker of {{target}}: {{from_state}} to {{to_state}}",
            "orange",
        ),
        Annotation("Alerts", promql.alerts(), "{{alertname}} ({{severity}})", "red"),
    ]


def _now() -> list[Panel]:
    certificate = f"min(r2_tls_certificate_expiry_timestamp_seconds{{{TARGET}}}) - time()"
    return [
        number(
            "State",
            "Down: an operation failed at its latest run, or the circuit breaker is not closed.",
            Query(promql.up()),
            names=UP_OR_DOWN,
        ),
        number(
            "Circuit breaker",
            "Open: probes are withheld. Half open: one tries again.",
            Query(promql.breaker_state()),
            names=BREAKER,
        ),
        number(
            "Success ratio",
            "Share of the operations due in the time shown that succeeded. One that an open circuit breaker "
            "withheld counts as failed.",
            Query(promql.success_ratio(SHOWN)),
            unit="percentunit",
            steps=SUCCESS,
            decimals=3,
        ),
        number(
            "p95",
            "95 of 100 operations of the time shown took at most this long.",
            Query(promql.quantile(0.95, SHOWN)),
            unit="s",
            steps=((None, "green"), (1, "orange"), (2, "red")),
        ),
        number(
            "Error budget left",
            "Over the time chosen above. Below 0 the objective is missed.",
            Query(promql.budget_left("$window")),
            unit="percentunit",
            steps=BUDGET,
            decimals=1,
        ),
        number(
            "Bill per month",
            "What 30 days at the present pace cost at R2's list prices, the free tier not deducted.",
            Query(promql.bill(), step=BILLED_OVER),
            unit="currencyUSD",
            decimals=2,
        ),
        number(
            "Certificate expires in",
            "Until the endpoint's TLS certificate expires.",
            Query(certificate),
            unit="s",
            steps=((None, "red"), (7 * 86400, "orange"), (21 * 86400, "green")),
            decimals=0,
            empty="No TLS",
        ),
        number(
            "Clock ahead by",
            "This machine's clock less the storage's; signatures fail beyond 15 minutes either way.",
            Query(f"max(r2_target_clock_skew_seconds{{{TARGET}}})"),
            unit="s",
            steps=((None, "red"), (-600, "orange"), (-60, "green"), (60, "orange"), (600, "red")),
        ),
    ]


def _failing() -> Panel:
    return of_targets(
        "Failing operations",
        "Operations whose latest run failed: why, S3's error code, and the request id of the first such "
        "failure, which the storage's support asks for.",
        [Column("Failing", f"r2_probe_failure_info{{{OPERATION}}}", hidden=True)],
        labels=("operation", "reason", "s3_code", "request_id"),
        sort="Operation",
        empty="No operation fails",
        links={},
    )


def _alerts() -> Panel:
    return of_targets(
        "Active alerts",
        "Alerts of the exporter and of Prometheus' rules; one that both tell is one line.",
        [Column("Firing", promql.alerts(), hidden=True)],
        labels=("alertname", "severity"),
        sort="Severity",
        empty="No alert fires",
        links={"Alert": ("Open the runbook", "${runbooks}/${__value.raw:percentencode}.md")},
    )


def _latest() -> Panel:
    return timeline(
        "Latest run of each operation",
        "Whether each operation succeeded when it was last sent.",
        Query(f"min by (operation) (r2_probe_success{{{OPERATION}}})", "{{operation}}"),
        SUCCEEDED,
    )


def _breaker() -> Panel:
    return timeline(
        "Circuit breaker",
        "The state that the circuit breaker was in.",
        Query(promql.breaker_state(), "{{target}}"),
        BREAKER,
    )


def _reasons() -> Panel:
    return bars(
        "Failures by reason",
        "Failed operations in each step, by what went wrong.",
        Query(f"sum by (reason) (increase({ERRORS}[{PACE}]))", "{{reason}}"),
    )


def _skipped() -> Panel:
    return bars(
        "Operations not sent",
        "Due, but not sent: the circuit breaker was open, the run before had not ended, or probing was "
        "stopped.",
        Query(f"sum by (reason) (increase({SKIPPED}[{PACE}]))", "{{reason}}"),
    )


def _success() -> Panel:
    return lines(
        "Success ratio by operation",
        "Share of the operations due that succeeded. One that an open circuit breaker withheld counts as "
        "failed.",
        Query(promql.success_ratio(PACE, by="operation"), "{{operation}}"),
        unit="percentunit",
        steps=SUCCESS,
        highest=1,
        calcs=("mean", "min"),
    )


def _ratios() -> Panel:
    return lines(
        "What the circuit breaker sees",
        "Shares of failed and of slow operations in its monitoring window, and the share of failures that "
        "raises an alert.",
        Query(f"max(r2_circuit_breaker_failure_ratio{{{TARGET}}})", "failed"),
        Query(f"max(r2_circuit_breaker_slow_call_ratio{{{TARGET}}})", "slow"),
        Query(promql.threshold("error_rate"), "alert threshold"),
        unit="percentunit",
        highest=1,
        dashed="alert threshold",
    )


def _where() -> Panel:
    return of_targets(
        "Place",
        "Where the target is.",
        [Column("There", f"r2_target_info{{{TARGET}}}", hidden=True)],
        labels=("target", "bucket", "endpoint", "region"),
        sort="Target",
        links={},
    )


def _billed() -> Panel:
    return lines(
        "Bill per month",
        "What 30 days at the pace of each moment cost at R2's list prices, and the budget.",
        Query(promql.bill(), "bill", step=BILLED_OVER),
        Query(promql.threshold("monthly_budget_dollars"), "budget"),
        unit="currencyUSD",
        dashed="budget",
    )
