"""Tables: one row for each target (or whatever the queries are grouped by), one query for each column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.panels import PLAIN, Names, Query, Steps, begun, colours, value_mappings

TO_TARGET = "/d/r2-target?${datasource:queryparam}&${job:queryparam}&${__url_time_range}&var-target="

Links = Mapping[str, tuple[str, str]]
"""Columns whose cells lead somewhere: the link's title and address."""

TARGETS_LINK: Links = {"Target": ("Open the target", TO_TARGET + "${__value.raw:percentencode}")}


_HEADINGS = {"alertname": "Alert", "s3_code": "S3 code", "request_id": "Request id"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column with the values of a query."""

    title: str
    expr: str
    unit: str = "none"
    steps: Steps = PLAIN
    names: Names | None = None
    decimals: int | None = None
    step: str = ""
    hidden: bool = False

    def properties(self) -> list[model.DynamicConfigValue]:
        """How its cells look."""
        found = [
            model.DynamicConfigValue("unit", self.unit),
            model.DynamicConfigValue("thresholds", colours(self.steps).build()),
        ]
        if self.names:
            found.append(model.DynamicConfigValue("mappings", value_mappings(self.names)))
        if self.decimals is not None:
            found.append(model.DynamicConfigValue("decimals", self.decimals))
        if self.names or len(self.steps) > 1:
            cell = {"type": "color-text"}
            found.append(model.DynamicConfigValue("custom.cellOptions", cell))
        if self.hidden:
            found.append(model.DynamicConfigValue("custom.hidden", True))
        return found


def of_targets(
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    labels: Sequence[str] = ("target",),
    sort: str,
    falling: bool = False,
    empty: str = "",
    links: Links = TARGETS_LINK,
) -> table.Panel:
    """A page of rows at a time, the worst first: as readable with 500 targets as with one.

    `labels` are shown before the columns. Several columns are joined by the first of them.
    """
    panel = begun(table.Panel(), title, description, "none", PLAIN)
    for position, column in enumerate(columns):
        query = Query(column.expr, step=column.step)
        panel.with_target(query.target(position).instant().format(PromQueryFormat.TABLE))
    for transformation in _joined(columns, labels):
        panel.with_transformation(transformation)
    for column in columns:
        panel.override_by_name(column.title, column.properties())
    for name, (text, url) in links.items():
        panel.override_by_name(name, [model.DynamicConfigValue("links", [{"title": text, "url": url}])])
    if empty:
        panel.no_value(empty)
    panel.filterable(True).cell_height(looks.TableCellHeight.SM)
    panel.footer(common.TableFooterOptions().enable_pagination(True).show(False).reducer([]))
    return panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(falling)])


def heading(label: str) -> str:
    """What stands above the column of a label."""
    return _HEADINGS.get(label, label.capitalize())


def _joined(columns: Sequence[Column], labels: Sequence[str]) -> list[model.DataTransformerConfig]:
    """The queries' answers as one table, with the labels first and the names that people read."""
    single = len(columns) == 1
    values = ["Value" if single else f"Value #{chr(ord('A') + i)}" for i in range(len(columns))]
    shown = [*labels, *values]
    names = [*map(heading, labels), *(column.title for column in columns)]
    join = model.DataTransformerConfig(id_val="joinByField", options={"byField": labels[0], "mode": "outer"})
    # By name, for the join numbers the queries' times in a way that differs between versions.
    keep = model.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": shown}})
    arrange = model.DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": {},
            "indexByName": {name: index for index, name in enumerate(shown)},
            "renameByName": dict(zip(shown, names, strict=True)),
        },
    )
    return [keep, arrange] if single else [join, keep, arrange]
