"""docs/api.md leaves nothing out: every path has a section, every parameter a row, every link an end."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp.web import RouteDef

from exporter.web import lifecycle, metrics, probing
from exporter.web.api import endpoints, routes
from exporter.web.api.declare import Endpoint
from exporter.web.api.openapi import document
from tests.test_api_docs import BASE, PAGE

FOLDER = Path(__file__).parents[1] / "docs"
DOCUMENT = document(endpoints)
SERVED = [
    f"{route.method} {route.path}"
    for route in (*routes, *metrics.routes, *probing.routes, *lifecycle.routes)
    if isinstance(route, RouteDef)
]


def sections() -> dict[str, str]:
    """The text of each path's section, by its heading."""
    parts = re.split(r"^#{2,3} (.+)$", PAGE, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {heading: text for heading, text in found.items() if " /" in heading}


def section(endpoint: Endpoint) -> str:
    return sections()[f"{endpoint.method} {endpoint.path}"]


def test_every_path_has_a_section_and_no_other() -> None:
    assert len(SERVED) > len(endpoints)
    assert sorted(sections()) == sorted(SERVED)


@pytest.mark.parametrize("heading", SERVED)
def test_a_section_begins_with_a_command_that_asks_for_its_path(heading: str) -> None:
    method, path = heading.split()
    found = re.search(r"^```sh\n(.*?)^```$", sections()[heading], re.MULTILINE | re.DOTALL)
    assert found is not None
    asked = re.search(re.escape(BASE) + r"([^\s'?]+)", found[1])
    assert asked is not None
    assert re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)), asked[1])
    sent = re.search(r"-X (\w+)", found[1])
    assert (sent[1] if sent else "GET") == method


@pytest.mark.parametrize("endpoint", endpoints, ids=lambda each: each.name)
def test_a_section_says_of_every_parameter_what_is_allowed(endpoint: Endpoint) -> None:
    pattern = r"^\| (\w+) \| `([\w-]+)` \| (.+?) \| (.+?) \| (.+?) \|$"
    rows = re.findall(pattern, section(endpoint), re.MULTILINE)
    shown = [(place, name, allowed, default) for place, name, allowed, default, _ in rows]
    assert sorted(shown) == sorted(declared(endpoint))


@pytest.mark.parametrize("endpoint", endpoints, ids=lambda each: each.name)
def test_a_section_says_with_which_status_it_refuses(endpoint: Endpoint) -> None:
    words = re.sub(r"^```.*?^```$", "", section(endpoint), flags=re.MULTILINE | re.DOTALL)
    assert [each for each in endpoint.refusals if not re.search(rf"\b{each}\b", words)] == []


def test_the_statuses_that_any_path_may_have_are_explained() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE)
    listed = re.findall(r"\d+", " ".join(rows))
    answers = [operation["responses"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    refusals = {status for each in answers for status in each if status >= "400"}
    assert set(listed) == refusals | {"405"}


def test_its_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]
    assert len(links) > len(endpoints)
    assert [link for link in links if not _leads_somewhere(link)] == []


def _leads_somewhere(link: str) -> bool:
    path, _, anchor = link.partition("#")
    file = FOLDER / (path or "api.md")
    return file.is_file() and (not anchor or anchor in anchors(file.read_text(encoding="utf-8")))


def anchors(page: str) -> set[str]:
    """What the headings of a page are called in links to them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- what is declared, as the page puts it ---


def declared(endpoint: Endpoint) -> Iterator[tuple[str, str, str, str]]:
    """Place, name, what is allowed and default of everything that an endpoint takes."""
    operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
    for each in operation["parameters"]:
        yield each["in"], each["name"], *_said(each["schema"], each["in"])
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        for name, field in resolved(schema).get("properties", {}).items():
            yield "body", name, *_said(field, "body")


def _said(schema: Mapping[str, Any], place: str) -> tuple[str, str]:
    default = schema.get("default")
    shown = str(default).lower() if default is not None else "–"  # noqa: RUF001 - an en dash in the table
    return "ETags" if place == "header" else allowed(schema), shown


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Looked up where it is defined, and without null as a choice."""
    if "$ref" in schema:
        return resolved(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    choices = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    return resolved(choices[0]) if len(choices) == 1 else schema


def allowed(schema: Mapping[str, Any]) -> str:
    """What fits a schema, in the page's words."""
    match here := resolved(schema):
        case {"anyOf": [{"format": "date-time"}, {"minimum": least, "maximum": most}]}:
            return f"RFC 3339, or Unix seconds from {least} to {most}"
        case {"const": value}:
            return str(value)
        case {"enum": values}:
            return ", ".join(values)
        case {"type": "boolean"}:
            return "true, false"
        case {"exclusiveMinimum": above, "maximum": most}:
            return f"above {_number(above)}, up to {_number(most)}"
        case {"type": "integer", "minimum": least, "maximum": most}:
            return f"{least} to {most}"
        case {"type": "string", "maxLength": most}:
            return f"{_span(here.get('minLength'), most)} characters"
        case {"type": "array", "maxItems": most, "items": items}:
            of = resolved(items).get("enum", ())
            return _span(here.get("minItems"), most) + (f" of {_listed(of)}" if of else "")
    raise AssertionError(schema)


def _span(least: int | None, most: int) -> str:
    return f"{least} to {most}" if least else f"up to {most}"


def _number(value: float) -> str:
    return f"{value:g}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
