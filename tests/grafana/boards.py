"""The dashboards as their JSON says: panels, variables, and every query that Grafana would ask."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from grafana.build import FOLDER

Json = dict[str, Any]

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::\w+)?\})")
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A query of a panel or an annotation, and where it stands."""

    where: str
    expr: str
    instant: bool


def boards() -> dict[str, Json]:
    """Every dashboard by its uid."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: Json) -> list[Json]:
    """The panels that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def variables(board: Json) -> dict[str, Json]:
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def annotations(board: Json) -> list[Json]:
    found: list[Json] = board["annotations"].get("list", [])
    return found


def queries(board: Json) -> Iterator[Asked]:
    """What the panels and annotations ask."""
    for panel in panels(board):
        for target in panel["targets"]:
            where = f"{board['uid']}: {panel['title']}, {target['refId']}"
            yield Asked(where, target["expr"], target.get("instant", False))
    for annotation in annotations(board):
        yield Asked(f"{board['uid']}: annotation {annotation['name']}", annotation["expr"], instant=False)


def label_values(query: str) -> tuple[str, str]:
    """The series and the label that a variable's query names."""
    found = _LABEL_VALUES.fullmatch(query)
    assert found is not None, query
    return found[1], found[2]


def used(text: str) -> set[str]:
    """The names of the variables in a text."""
    return {one or other for one, other in _VARIABLE.findall(text) if not (one or other).isdigit()}


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables filled in; KeyError for one that has no value."""
    return _VARIABLE.sub(
        lambda found: found[0] if found[1] and found[1].isdigit() else values[found[1] or found[2]], text
    )
