"""Where the time of operations goes: panels of the target's dashboard."""

from grafana import promql
from grafana.panels import Panel, Query, areas, heat_map, lines
from grafana.promql import OPERATION, PACE, TARGET


def quantiles() -> Panel:
    moving = f"max(r2_circuit_breaker_response_time_ewma_seconds{{{TARGET}}})"
    return lines(
        "Durations",
        "Quantiles of how long operations took, failures and timeouts included, and the moving average. "
        "Points lead to single operations and their request ids, where exemplars are kept.",
        *(Query(promql.quantile(q, PACE), f"p{q * 100:.0f}", exemplars=q == 0.99) for q in (0.5, 0.95, 0.99)),
        Query(moving, "moving average"),
        Query(promql.threshold("slow_response_seconds"), "slow"),
        unit="s",
        dashed="slow",
    )


def by_operation() -> Panel:
    return lines(
        "p95 by operation",
        "95 of 100 operations took at most this long.",
        Query(promql.quantile(0.95, PACE, "operation"), "{{operation}}"),
        Query(promql.threshold("slow_response_seconds"), "slow"),
        unit="s",
        dashed="slow",
    )


def phases() -> Panel:
    return areas(
        "Where the time goes",
        "The mean operation, by phase. A phase that a kept connection skips counts as no time.",
        _phase_query(),
        unit="s",
    )


def slow() -> Panel:
    buckets = f"r2_probe_phase_duration_seconds_bucket{{{OPERATION}}}"
    return lines(
        "p95 by phase",
        "95 of 100 times that a phase happened, it took at most this long.",
        Query(
            f"histogram_quantile(0.95, sum by (phase, le) (rate({buckets}[{PACE}])))",
            "{{phase}}",
        ),
        unit="s",
    )


def distribution() -> Panel:
    buckets = f"r2_probe_duration_seconds_bucket{{{OPERATION}}}"
    return heat_map(
        "$operation: durations",
        "How many operations took how long.",
        Query(f"sum by (le) (increase({buckets}[{PACE}]))"),
    )


def phases_of_operation() -> Panel:
    return areas(
        "$operation: where the time goes",
        "The mean operation, by phase. A phase that a kept connection skips counts as no time.",
        _phase_query(),
        unit="s",
    )


def _phase_query() -> Query:
    """Time of each phase over all operations, not over those that had it: the stack is the mean duration."""
    spent = f"sum by (phase) (rate(r2_probe_phase_duration_seconds_sum{{{OPERATION}}}[{PACE}]))"
    sent = f"sum (rate(r2_probe_duration_seconds_count{{{OPERATION}}}[{PACE}]))"
    return Query(f"{spent} / on () group_left () {sent}", "{{phase}}")
