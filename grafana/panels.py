"""Panels of one look: every one has a title, a description, a unit and thresholds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

Steps = Sequence[tuple[float | None, str]]
"""Colours from a value on; the first has None, for there is no smallest value."""

PLAIN: Steps = ((None, "text"),)
NONE_IS_GOOD: Steps = ((None, "green"), (1, "red"))
ONE_IS_GOOD: Steps = ((None, "red"), (1, "green"))
SUCCESS: Steps = ((None, "red"), (0.99, "orange"), (0.999, "green"))
BUDGET: Steps = ((None, "red"), (0, "orange"), (0.25, "green"))
SECONDS: Steps = ((None, "green"), (1, "orange"), (2, "red"))

Names = Mapping[int, tuple[str, str]]
"""What is shown in the place of a number, and its colour."""

UP_OR_DOWN: Names = {0: ("Down", "red"), 1: ("Up", "green")}
YES_OR_NO: Names = {0: ("No", "red"), 1: ("Yes", "green")}
SUCCEEDED: Names = {0: ("Failed", "red"), 1: ("Succeeded", "green")}
BREAKER: Names = {
    0: ("Disabled", "text"),
    1: ("Closed", "green"),
    2: ("Half open", "orange"),
    3: ("Open", "red"),
}


class Panel(Protocol):
    """What the SDK's builders of panels have in common."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: model.DataSourceRef) -> Self: ...
    def with_target(self, target: Builder[variants.Dataquery]) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def thresholds(self, thresholds: Builder[model.ThresholdsConfig]) -> Self: ...
    def no_value(self, no_value: str) -> Self: ...
    def span(self, w: int) -> Self: ...
    def height(self, h: int) -> Self: ...
    def build(self) -> model.Panel: ...


P = TypeVar("P", bound=Panel)


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel. `step` is the smallest step, and so the smallest rate interval."""

    expr: str
    legend: str = ""
    step: str = ""
    exemplars: bool = False

    def target(self, position: int) -> prometheus.Dataquery:
        target = prometheus.Dataquery().expr(self.expr).ref_id(chr(ord("A") + position))
        target.datasource(PROMETHEUS)
        if self.legend:
            target.legend_format(self.legend)
        if self.step:
            target.interval(self.step)
        return target.exemplar(self.exemplars)


def colours(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=colour) for value, colour in steps])
    )


def value_mappings(names: Names) -> list[model.ValueMapping]:
    """What to show in the place of a number."""
    options = {
        str(value): model.ValueMappingResult(text=name, color=colour, index=index)
        for index, (value, (name, colour)) in enumerate(names.items())
    }
    return [model.ValueMap(options)]


def begun(panel: P, title: str, description: str, unit: str, steps: Steps) -> P:
    """The panel with what every panel has."""
    return (
        panel.title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .thresholds(colours(steps))
    )


def number(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str = "none",
    steps: Steps = PLAIN,
    names: Names | None = None,
    decimals: int | None = None,
    empty: str = "",
) -> stat.Panel:
    """One number, as of the end of the time shown."""
    panel = begun(stat.Panel(), title, description, unit, steps)
    panel.with_target(query.target(0).instant())
    panel.graph_mode(looks.BigValueGraphMode.NONE).color_mode(looks.BigValueColorMode.VALUE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    if names:
        panel.mappings(value_mappings(names))
    if decimals is not None:
        panel.decimals(decimals)
    if empty:
        panel.no_value(empty)
    return panel


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    steps: Steps = PLAIN,
    highest: float | None = None,
    calcs: Sequence[str] = ("mean", "max"),
    dashed: str = "",
) -> timeseries.Panel:
    """Lines over time. The thresholds' colours fill the background, where there are several.

    `dashed` is the name of a line that is no measurement, but a limit.
    """
    panel = begun(timeseries.Panel(), title, description, unit, steps)
    for position, query in enumerate(queries):
        panel.with_target(query.target(position).range())
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.line_width(1).fill_opacity(8).show_points(looks.VisibilityMode.NEVER).axis_soft_min(0)
    if len(steps) > 1:
        mode = looks.GraphThresholdsStyleMode.DASHED
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(mode))
    if highest is not None:
        panel.max(highest)
    if dashed:
        panel.override_by_name(
            dashed,
            [
                model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}),
                model.DynamicConfigValue("custom.fillOpacity", 0),
                model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "red"}),
            ],
        )
    panel.tooltip(_tooltip())
    return panel.legend(_legend(calcs))


def areas(title: str, description: str, *queries: Query, unit: str) -> timeseries.Panel:
    """Lines stacked on one another."""
    panel = lines(title, description, *queries, unit=unit, calcs=("mean",)).fill_opacity(60).line_width(0)
    return panel.stacking(_stacked())


def bars(title: str, description: str, *queries: Query, unit: str = "short") -> timeseries.Panel:
    """What happened in each step, stacked."""
    panel = lines(title, description, *queries, unit=unit, calcs=("sum",)).min(0).fill_opacity(80)
    return panel.draw_style(looks.GraphDrawStyle.BARS).stacking(_stacked())


def timeline(title: str, description: str, query: Query, names: Names) -> statetimeline.Panel:
    """A line of coloured states for each series."""
    panel = begun(statetimeline.Panel(), title, description, "none", PLAIN)
    panel.with_target(query.target(0).range()).mappings(value_mappings(names))
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    panel.merge_values(True).show_value(looks.VisibilityMode.NEVER).row_height(0.8).fill_opacity(80)
    return panel.per_page(20).legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(looks.LegendDisplayMode.LIST)
        .placement(looks.LegendPlacement.BOTTOM)
    )


def heat_map(title: str, description: str, query: Query) -> heatmap.Panel:
    """How many operations took how long, from a histogram's buckets."""
    panel = begun(heatmap.Panel(), title, description, "short", PLAIN)
    panel.with_target(query.target(0).range().format(PromQueryFormat.HEATMAP).legend_format("{{le}}"))
    panel.y_axis(heatmap.YAxisConfig().unit("s")).calculate(False).show_y_histogram()
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(heat.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .steps(64)
        .exponent(0.5)
    )
    # An empty bucket is left out rather than shown in the lightest colour.
    return panel.filter_values(heatmap.FilterValueRange().le(1e-9)).cell_gap(1).show_legend()


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING)


def _legend(calcs: Sequence[str]) -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(looks.LegendDisplayMode.TABLE)
        .placement(looks.LegendPlacement.RIGHT)
        .calcs(list(calcs))
    )


def _stacked() -> common.StackingConfig:
    return common.StackingConfig().mode(looks.StackingMode.NORMAL)
