"""The dashboard of service level objectives: how much may fail, and how much of that is used up."""

from grafana_foundation_sdk.builders import dashboard

from grafana import frame, promql
from grafana.frame import row
from grafana.panels import BUDGET, NONE_IS_GOOD, SUCCESS, Panel, Query, Steps, lines, number
from grafana.promql import AT_END, PACE, SHOWN, TARGET
from grafana.tables import Column, of_targets

BURN: Steps = ((None, "green"), (1, "orange"), (6, "red"))

ALL_OPERATIONS = TARGET
"""An objective is for a target as a whole: the variable `operation` does not narrow it."""


def slo() -> dashboard.Dashboard:
    board = frame.new(
        "r2-slo",
        "R2: Objectives",
        "Error budgets: the share of operations that may fail, how fast it is spent, and what is left of it.",
        frame.job(),
        frame.targets(),
        frame.operations(),
        frame.window(),
        frame.top(),
        shown="now-24h",
    )
    row(board, "Now", 4, *((6, panel) for panel in _now()))
    row(board, "Targets", 12, (24, _targets()))
    row(board, "Over time", 9, (12, _burning()), (12, _success()), (12, _left()), (12, _operations()))
    return board


def _now() -> list[Panel]:
    left = promql.budget_left("$window")
    return [
        number(
            "Objectives missed",
            "Targets whose error budget is used up.",
            Query(f"count({left} < 0) or 0 * count({left})"),
            unit="short",
            steps=NONE_IS_GOOD,
        ),
        number(
            "Burning fast",
            "Targets that spend their budget more than 6 times too fast over the last hour.",
            Query(f"count({promql.burn_rate('1h')} > 6) or 0 * count({promql.burn_rate('1h')})"),
            unit="short",
            steps=NONE_IS_GOOD,
        ),
        number(
            "Least error budget left",
            "Of the target that has least. Below 0 the objective is missed.",
            Query(f"min({left})"),
            unit="percentunit",
            steps=BUDGET,
            decimals=1,
        ),
        number(
            "Lowest success ratio",
            "Of the target that has the lowest, over the time chosen above.",
            Query(f"min({promql.success_ratio('$window', matchers=ALL_OPERATIONS)})"),
            unit="percentunit",
            steps=SUCCESS,
            decimals=3,
        ),
    ]


def _targets() -> Panel:
    withheld = f'r2_probes_skipped_total{{{ALL_OPERATIONS},reason="circuit_open"}}'
    failed = f'r2_probes_total{{{ALL_OPERATIONS},result="failure"}}'
    return of_targets(
        "Targets",
        "Success and budget are over the time chosen above. A burn rate is how many times faster than "
        "allowed the budget is spent: at 1 it lasts exactly that time, at 14.4 two days of thirty.",
        [
            Column("Budget left", promql.budget_left("$window"), "percentunit", BUDGET, decimals=1),
            Column("Objective", promql.threshold("slo_objective"), "percentunit", decimals=2),
            Column(
                "Success",
                promql.success_ratio("$window", matchers=ALL_OPERATIONS),
                "percentunit",
                SUCCESS,
                decimals=3,
            ),
            Column("Failed", f"sum by (target) (increase({failed}[$window]))", "short", decimals=0),
            Column("Withheld", f"sum by (target) (increase({withheld}[$window]))", "short", decimals=0),
            Column("Burn 5m", promql.burn_rate("5m"), "short", BURN, decimals=1),
            Column("Burn 1h", promql.burn_rate("1h"), "short", BURN, decimals=1),
            Column("Burn 6h", promql.burn_rate("6h"), "short", BURN, decimals=1),
            Column("Burn 3d", promql.burn_rate("3d"), "short", BURN, decimals=1),
        ],
        sort="Budget left",
    )


def _burning() -> Panel:
    ranking = f"1 - ({promql.success_ratio(SHOWN, matchers=ALL_OPERATIONS, at=AT_END)})"
    return lines(
        "Burn rate",
        "How many times faster than allowed the worst targets spend their budgets; 1 is as fast as allowed. "
        "Each point looks back an hour.",
        Query(promql.worst(promql.burn_rate("1h"), ranking), "{{target}}"),
        unit="short",
        steps=BURN,
    )


def _success() -> Panel:
    ranking = f"1 - ({promql.success_ratio(SHOWN, matchers=ALL_OPERATIONS, at=AT_END)})"
    return lines(
        "Success ratio of the worst targets",
        "Share of the operations due that succeeded. One that an open circuit breaker withheld counts as "
        "failed.",
        Query(promql.worst(promql.success_ratio(PACE, matchers=ALL_OPERATIONS), ranking), "{{target}}"),
        unit="percentunit",
        steps=SUCCESS,
        highest=1,
        calcs=("mean", "min"),
    )


def _left() -> Panel:
    # Each point looks back over the whole window, so there are few of them.
    ranking = f"1 - ({promql.success_ratio(SHOWN, matchers=ALL_OPERATIONS, at=AT_END)})"
    panel = lines(
        "Error budget left",
        "Of the worst targets, over the time chosen above; each point looks back that long.",
        Query(promql.worst(promql.budget_left("$window"), ranking), "{{target}}", step="5m"),
        unit="percentunit",
        steps=BUDGET,
        highest=1,
        calcs=("lastNotNull", "min"),
    )
    return panel.max_data_points(50)


def _operations() -> Panel:
    return lines(
        "Success ratio by operation",
        "Share of the operations due that succeeded, over all targets.",
        Query(promql.success_ratio(PACE, by="operation"), "{{operation}}"),
        unit="percentunit",
        steps=SUCCESS,
        highest=1,
        calcs=("mean", "min"),
    )
