"""What makes a good dashboard, as far as its JSON shows it.

Most rules are those of Grafana's dashboard-linter (https://github.com/grafana/dashboard-linter). `target`
stands where it wants `instance`: several exporters may probe one target, and people look for targets.
"""

import re
from collections.abc import Iterator

from tests.grafana.boards import Asked, Json, annotations, label_values, panels, queries, used, variables

UNITS = {"none", "short", "percentunit", "s", "bytes", "ops", "currencyUSD"}
GIVEN = {"__rate_interval", "__interval", "__range", "__all", "__url_time_range", "__value", "__data"}
OWN_RANGES = {"$__rate_interval", "$__range", "$window"}
BURN_RANGES = {"5m", "1h", "6h", "3d"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

_SELECTOR = re.compile(r"(?:(\w+)\()?\b([a-zA-Z_:][\w:]*)\{([^}]*)\}(?:\[([^\]]+)\])?")
_BARE = re.compile(r"\b(?:r2_\w+|ALERTS|up|process_\w+|scrape_\w+)\b(?!\{)")
_COUNTER = re.compile(r"_(?:total|bucket|sum|count)$")


def problems(board: Json, uids: set[str]) -> list[str]:
    """Everything that is wrong with a dashboard; `uids` are those that it may lead to."""
    found = [*_whole(board), *_variables(board), *_links(board, uids)]
    for panel in panels(board):
        found += [f"{panel['title'] or 'untitled'}: {problem}" for problem in _panel(panel)]
    for asked in queries(board):
        found += [f"{asked.where}: {problem}" for problem in _query(asked)]
    return found


def _whole(board: Json) -> Iterator[str]:
    if board["editable"]:
        yield "can be edited in Grafana, where the change is lost"
    if not (board["title"] and board["description"] and board["refresh"]):
        yield "has no title, no description or no refresh"
    undefined = used(str(board)) - set(variables(board)) - GIVEN
    if undefined:
        yield f"uses variables that it does not have: {sorted(undefined)}"
    asked = " ".join([*(query.expr for query in queries(board)), str(board["links"]), str(board["panels"])])
    asked += " ".join(str(variable["query"]) for variable in variables(board).values())
    for name in set(variables(board)) - used(asked):
        yield f"has a variable that nothing uses: {name}"


def _variables(board: Json) -> Iterator[str]:
    have = variables(board)
    sources = [name for name, variable in have.items() if variable["type"] == "datasource"]
    if sources != ["datasource"] or have["datasource"]["query"] != "prometheus":
        yield "has not exactly one data source, called datasource, for Prometheus"
    if have.get("job", {}).get("allValue") != ".+" or not have["job"]["multi"]:
        yield "has no variable job for several jobs"
    if not {"target", "instance"} & set(have):
        yield "has neither a variable target nor instance"
    for name, variable in have.items():
        if not (variable["label"] and variable["description"]):
            yield f"variable {name} has no label or no description"
        if variable["type"] != "query":
            continue
        series, label = label_values(variable["query"])
        if label != name:
            yield f"variable {name} holds values of {label}"
        if name != "job" and '{job=~"$job"' not in series:
            yield f"variable {name} does not depend on the job"
        if variable["datasource"] != DATASOURCE:
            yield f"variable {name} has a data source of its own"
        if variable["refresh"] != 2:
            yield f"variable {name} is not asked again when the time changes"


def _links(board: Json, uids: set[str]) -> Iterator[str]:
    [others] = [link for link in board["links"] if link["type"] == "dashboards"]
    if not (others["includeVars"] and others["keepTime"] and set(others["tags"]) <= set(board["tags"])):
        yield "does not lead to the other dashboards with its time and variables"
    for uid in re.findall(r"/d/([\w-]+)", str(board["panels"])):
        if uid not in uids:
            yield f"leads to a dashboard that is not there: {uid}"
    for annotation in annotations(board):
        if annotation["datasource"] != DATASOURCE:
            yield f"annotation {annotation['name']} has a data source of its own"


def _panel(panel: Json) -> Iterator[str]:
    if not panel.get("title") or not panel.get("description", "").endswith("."):
        yield "has no title, or no description in sentences"
    if panel["datasource"] != DATASOURCE:
        yield "has a data source of its own"
    if not panel["targets"]:
        yield "asks nothing"
    defaults = panel["fieldConfig"]["defaults"]
    looks = {"": defaults} | _overrides(panel)
    for name, look in looks.items():
        if "unit" in look and look["unit"] not in UNITS:
            yield f"{name} has an unknown unit {look['unit']}"
        steps = look.get("thresholds", {}).get("steps", [])
        values = [step["value"] for step in steps]
        if "unit" in look and (not steps or values[0] is not None or values[1:] != sorted(values[1:])):
            yield f"{name} has no thresholds, or none that rise"
    if "unit" not in defaults:
        yield "has no unit"
    if (
        panel["type"] in ("stat", "timeseries")
        and defaults.get("unit") == "none"
        and not defaults.get("mappings")
    ):
        yield "has neither a unit nor names for its values"
    if panel.get("repeat") in ("target", "instance"):
        yield "is one panel for each target: with hundreds nobody can read it"
    if panel["type"] == "table" and not panel["options"]["footer"].get("enablePagination"):
        yield "is a table without pages"
    for target in panel["targets"]:
        if target["datasource"] != DATASOURCE:
            yield "has a query with a data source of its own"
        if panel["type"] in ("timeseries", "state-timeline") and not target.get("legendFormat"):
            yield "has a query whose series have no name"


def _overrides(panel: Json) -> dict[str, Json]:
    return {
        override["matcher"]["options"]: {each["id"]: each["value"] for each in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }


def _query(asked: Asked) -> Iterator[str]:
    if bare := _BARE.findall(re.sub(r'"[^"]*"', "", asked.expr)):
        yield f"has metrics without matchers: {bare}"
    for function, metric, matchers, over in _SELECTOR.findall(asked.expr):
        if metric != "ALERTS" and 'job=~"$job"' not in matchers:
            yield f"{metric} is not of the chosen job"
        if 'target=~"$target' not in matchers and 'instance=~"$instance"' not in matchers:
            yield f"{metric} is not of the chosen targets or instances"
        if (
            _COUNTER.search(metric)
            and function not in ("rate", "increase")
            and "annotation" not in asked.where
        ):
            yield f"the counter {metric} is neither a rate nor an increase"
        if function == "rate" and over != "$__rate_interval":
            yield f"the rate of {metric} is not over $__rate_interval"
        if over and over not in OWN_RANGES | BURN_RANGES:
            yield f"{metric} has a range of its own: {over}"
    if "topk($top" in asked.expr and "@ end()" not in asked.expr:
        yield "shows other targets at each point of the graph"
