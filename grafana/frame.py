"""What the dashboards have around their panels: variables, links to one another, annotations, rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from grafana.panels import PROMETHEUS, Panel
from grafana.promql import JOB, TARGET

TAG = "r2-exporter"
ALL = model.VariableOption(selected=True, text="All", value="$__all")

Variable = Builder[model.VariableModel]


def new(
    uid: str, title: str, description: str, *variables: Variable, shown: str = "now-6h"
) -> dashboard.Dashboard:
    """A dashboard without panels. Read-only in Grafana: what is changed there would be lost."""
    board = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    board.time(shown, "now").refresh("1m").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    board.link(
        dashboard.DashboardLink("r2-exporter")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .tooltip("The other dashboards, with the same time and variables")
        .include_vars(True)
        .keep_time(True)
    )
    for variable in (_datasource(), *variables):
        board.with_variable(variable)
    return board


def row(board: dashboard.Dashboard, title: str, height: int, *panels: tuple[int, Panel]) -> None:
    """Panels side by side under a heading; the number before each is its width of 24, and they wrap."""
    if title:
        board.with_row(dashboard.Row(title))
    for width, panel in panels:
        # The SDK's builders of panels have their methods in common, but no class that has them.
        board.with_panel(cast("Builder[model.Panel]", panel.span(width).height(height)))


# --- variables ---


def _datasource() -> dashboard.DatasourceVariable:
    return (
        dashboard.DatasourceVariable("datasource")
        .label("Data source")
        .description("The Prometheus that scrapes the exporter.")
        .type("prometheus")
        .current(model.VariableOption(selected=False, text="default", value="default"))
    )


def job(metric: str = "r2_target_info") -> Variable:
    return _several("job", "Job", f"label_values({metric}, job)", "The scrape jobs to look at.")


def targets() -> Variable:
    query = f"label_values(r2_target_info{{{JOB}}}, target)"
    return _several("target", "Target", query, "The targets to look at.")


def one_target() -> Variable:
    variable = _queried("target", "Target", f"label_values(r2_target_info{{{JOB}}}, target)")
    return variable.description("The target to look at.").multi(False).include_all(False)


def operations() -> Variable:
    query = f"label_values(r2_probes_total{{{TARGET}}}, operation)"
    return _several("operation", "Operation", query, "The S3 operations to look at.")


def instances() -> Variable:
    query = f"label_values(r2_exporter_build_info{{{JOB}}}, instance)"
    return _several("instance", "Instance", query, "The exporters to look at.")


def top() -> Variable:
    return _chosen("top", "Show at most", ("5", "10", "20", "50"), "10").description(
        "How many targets the graphs show: those that are worst over the time shown."
    )


def window() -> Variable:
    return _chosen("window", "Objective over", ("1d", "7d", "30d", "90d"), "30d").description(
        "The time that the error budget is for."
    )


def text(name: str, label: str, value: str, description: str) -> Variable:
    option = model.VariableOption(selected=True, text=value, value=value)
    box = dashboard.TextBoxVariable(name).label(label).description(description)
    return box.default_value(value).current(option).options([option])


def _chosen(name: str, label: str, values: Sequence[str], value: str) -> dashboard.CustomVariable:
    options = [model.VariableOption(selected=each == value, text=each, value=each) for each in values]
    [current] = [option for option in options if option.selected]
    return (
        dashboard.CustomVariable(name).label(label).values(",".join(values)).options(options).current(current)
    )


def _queried(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
    )


def _several(name: str, label: str, query: str, description: str) -> Variable:
    variable = _queried(name, label, query).description(description)
    return variable.multi(True).include_all(True).all_value(".+").current(ALL)


# --- annotations ---


@dataclass(frozen=True, slots=True)
class Annotation(Builder[model.AnnotationQuery]):
    """Marks on every graph, from a query: `title` may hold labels in double braces."""

    name: str
    expr: str
    title: str
    colour: str

    def build(self) -> model.AnnotationQuery:
        return _PrometheusAnnotation(self)


class _PrometheusAnnotation(model.AnnotationQuery):
    """The SDK knows the query, but not the texts that Grafana's Prometheus data source adds."""

    def __init__(self, annotation: Annotation) -> None:
        super().__init__(
            name=annotation.name,
            datasource=PROMETHEUS,
            icon_color=annotation.colour,
            expr=annotation.expr,
        )
        self._title = annotation.title

    def to_json(self) -> dict[str, object]:
        texts: dict[str, object] = {"titleFormat": self._title, "step": "15s", "useValueForTime": False}
        return super().to_json() | texts
