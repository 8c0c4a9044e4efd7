"""The dashboard that shows every target at a glance."""

from grafana_foundation_sdk.builders import dashboard

from grafana import frame, promql
from grafana.frame import row
from grafana.panels import (
    BREAKER,
    BUDGET,
    NONE_IS_GOOD,
    SECONDS,
    SUCCESS,
    UP_OR_DOWN,
    Panel,
    Query,
    bars,
    lines,
    number,
    timeline,
)
from grafana.promql import AT_END, OPERATION, PACE, SHOWN, TARGET
from grafana.tables import Column, of_targets

LATELY = "5m"
"""The smallest step of figures that say how it is now: with less, a slow interval leaves gaps."""

BILLED_OVER = "15m"

ERRORS = f"r2_probe_errors_total{{{OPERATION}}}"


def overview() -> dashboard.Dashboard:
    board = frame.new(
        "r2-overview",
        "R2: Overview",
        "Every probed target at a glance: what is down, how slow it is, why it fails and what it costs.",
        frame.job(),
        frame.targets(),
        frame.operations(),
        frame.top(),
        frame.window(),
    )
    row(board, "Now", 4, *((4, panel) for panel in _now()))
    row(board, "Targets", 12, (24, _targets()))
    row(board, "What is wrong", 8, (12, _alerts()), (12, _failing()), (12, _reasons()), (12, _failures()))
    row(board, "Circuit breakers", 10, (24, _breakers()))
    row(board, "Over time", 9, (12, _success()), (12, _down()), (12, _durations()), (12, _slowest()))
    row(board, "", 8, (24, _billed()))
    return board


def _now() -> list[Panel]:
    return [
        number(
            "Targets down",
            "Targets whose last run failed, or whose circuit breaker is not closed.",
            Query(f"count({promql.up()} == 0) or 0 * count({promql.up()})"),
            unit="short",
            steps=NONE_IS_GOOD,
        ),
        number(
            "Breakers not closed",
            "Targets whose circuit breaker is open or tries again. They are left alone meanwhile.",
            Query(f"count({promql.breaker_state()} > 1) or 0 * count({promql.breaker_state()})"),
            unit="short",
            steps=NONE_IS_GOOD,
        ),
        number(
            "Alerts firing",
            "Alerts of the exporter and of Prometheus' rules; one that both tell counts once.",
            Query(f"count({promql.alerts(good_news=False)}) or 0 * count({promql.up()})"),
            unit="short",
            steps=NONE_IS_GOOD,
        ),
        number(
            "Success ratio",
            "Share of the operations due in the time shown that succeeded, over all targets. "
            "An operation that an open circuit breaker withheld counts as failed.",
            Query(promql.success_ratio(SHOWN, by="")),
            unit="percentunit",
            steps=SUCCESS,
            decimals=3,
        ),
        number(
            "Least error budget left",
            "Of the target that has least, over the time chosen above. Below 0 the objective is missed.",
            Query(f"min({promql.budget_left('$window')})"),
            unit="percentunit",
            steps=BUDGET,
            decimals=1,
        ),
        number(
            "Bill per month",
            "What 30 days at the present pace cost at R2's list prices (Standard storage), the free tier "
            "not deducted. It means nothing for other storages.",
            Query(promql.bill(), step=BILLED_OVER),
            unit="currencyUSD",
            decimals=2,
        ),
    ]


def _targets() -> Panel:
    reasons = f"sum by (target, reason) ({promql.growth(ERRORS, SHOWN)})"
    budget = promql.threshold("monthly_budget_dollars")
    return of_targets(
        "Targets",
        "One line for each target. Success and failures are of the time shown, durations of the last "
        "minutes, the error budget of the time chosen above. The name leads to the target's own dashboard.",
        [
            Column("State", promql.up(), names=UP_OR_DOWN),
            Column("Breaker", promql.breaker_state(), names=BREAKER),
            Column("Alerts", f"count by (target) ({promql.alerts(good_news=False)})", "short", NONE_IS_GOOD),
            Column("Success", promql.success_ratio(SHOWN), "percentunit", SUCCESS, decimals=3),
            Column("p50", promql.quantile(0.5, PACE, "target"), "s", SECONDS, step=LATELY),
            Column("p95", promql.quantile(0.95, PACE, "target"), "s", SECONDS, step=LATELY),
            Column("p99", promql.quantile(0.99, PACE, "target"), "s", SECONDS, step=LATELY),
            Column("Failures", f"topk by (target) (1, {reasons}) > 0", "short", decimals=0),
            Column("Budget left", promql.budget_left("$window"), "percentunit", BUDGET, decimals=1),
            Column("Bill per month", promql.bill("target"), "currencyUSD", step=BILLED_OVER, decimals=2),
            Column(
                "of its budget",
                f"{promql.bill('target')} / {budget}",
                "percentunit",
                ((None, "green"), (0.8, "orange"), (1, "red")),
                step=BILLED_OVER,
                decimals=0,
            ),
        ],
        labels=("target", "reason"),
        sort="State",
    )


def _alerts() -> Panel:
    return of_targets(
        "Active alerts",
        "Alerts of the exporter and of Prometheus' rules; one that both tell is one line.",
        [Column("Firing", promql.alerts(), hidden=True)],
        labels=("target", "alertname", "severity"),
        sort="Severity",
        empty="No alert fires",
    )


def _failing() -> Panel:
    return of_targets(
        "Failing operations",
        "Operations whose latest run failed: why, S3's error code, and the request id of the first such "
        "failure, which the storage's support asks for.",
        [Column("Failing", f"r2_probe_failure_info{{{OPERATION}}}", hidden=True)],
        labels=("target", "operation", "reason", "s3_code", "request_id"),
        sort="Target",
        empty="No operation fails",
    )


def _reasons() -> Panel:
    return bars(
        "Failures by reason",
        "Failed operations of all targets in each step, by what went wrong.",
        Query(f"sum by (reason) (increase({ERRORS}[{PACE}]))", "{{reason}}"),
    )


def _failures() -> Panel:
    by_target = f"sum by (target) ({promql.growth(ERRORS, PACE)})"
    ranking = f"sum by (target) ({promql.growth(ERRORS, SHOWN, AT_END)})"
    return bars(
        "Failures by target",
        "Failed operations a second of the targets that fail most in the time shown.",
        Query(promql.worst(by_target, ranking), "{{target}}"),
        unit="ops",
    )


def _breakers() -> Panel:
    not_closed = f'r2_circuit_breaker_state{{{TARGET},state!="closed"}}'
    ranking = f"sum by (target) (avg_over_time({not_closed}[{SHOWN}]{AT_END}))"
    return timeline(
        "Circuit breakers",
        "The targets whose breakers were closed for the smallest part of the time shown.",
        Query(promql.worst(promql.breaker_state(), ranking), "{{target}}"),
        BREAKER,
    )


def _success() -> Panel:
    ranking = f"1 - ({promql.success_ratio(SHOWN, at=AT_END)})"
    return lines(
        "Success ratio of the worst targets",
        "Share of the operations due that succeeded. One that an open circuit breaker withheld counts as "
        "failed.",
        Query(promql.worst(promql.success_ratio(PACE), ranking), "{{target}}"),
        unit="percentunit",
        steps=SUCCESS,
        highest=1,
        calcs=("mean", "min"),
    )


def _down() -> Panel:
    return lines(
        "Targets down",
        "How many targets were down, and how many are probed.",
        Query(f"count({promql.up()} == 0) or 0 * count({promql.up()})", "down"),
        Query(f"count({promql.up()})", "targets"),
        unit="short",
        steps=NONE_IS_GOOD,
    )


def _durations() -> Panel:
    return lines(
        "Durations",
        "Quantiles of how long operations took, over all targets, failures and timeouts included.",
        *(Query(promql.quantile(q, PACE), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
        unit="s",
    )


def _slowest() -> Panel:
    ranking = promql.quantile(0.95, SHOWN, "target", AT_END)
    return lines(
        "Slowest targets",
        "95th percentile of how long operations took, of the targets that are slowest in the time shown.",
        Query(promql.worst(promql.quantile(0.95, PACE, "target"), ranking), "{{target}}"),
        unit="s",
        steps=SECONDS,
    )


def _billed() -> Panel:
    return lines(
        "Bill per month",
        "What 30 days at the pace of each moment cost at R2's list prices, and the budgets of all targets.",
        Query(promql.bill(), "bill", step=BILLED_OVER),
        Query(f"sum({promql.threshold('monthly_budget_dollars')})", "budget"),
        unit="currencyUSD",
        dashed="budget",
    )
