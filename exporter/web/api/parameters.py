"""What an endpoint takes: checked query parameters and bodies, and every misfit said with what is allowed."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from multidict import MultiMapping
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from exporter.outcome import Operation
from exporter.web.api.units import LATEST

FARTHEST = 1_000_000_000
"""The last place at which a page can begin."""

MOST = 999_999_999_999_999
"""The largest number that an item has."""

_WHOLE = re.compile(r"-?[0-9]{1,15}")
_SECONDS = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?")
# A plus sign that was not written as %2B arrives as a space.
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?)"
    r"([Zz]|[+ -][0-9]{2}:[0-9]{2})"
)
_TIME = "a time in RFC 3339 such as 2026-01-31T12:00:00Z, or in Unix seconds from 0 to 253402300799"


class Taken(BaseModel):
    """What is taken has no field that is not declared."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )


class Body(Taken):
    """A JSON body."""


class Query(Taken):
    """The parameters of a query string."""


class NoBody(Body):
    """An endpoint that needs to be told nothing."""


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else _unless_text(value)


def _integral(value: object) -> object:
    """JSON Schema takes 5.0 for a whole number too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, "") if isinstance(value, str) else value


def _unless_text(value: object) -> object:
    """Pydantic would take text such as 1_000 or 5.0 for a whole number."""
    return None if isinstance(value, str) else value


def _moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    if _SECONDS.fullmatch(value) and 0 <= float(value) <= LATEST:
        return float(value)
    if parts := _RFC_3339.fullmatch(value):
        day, time, zone = parts.groups()
        zone = zone.upper().replace(" ", "+")
        try:
            # Python knows no leap second; it is the last one again here.
            moment = datetime.fromisoformat(f"{day}T{time.replace(':60', ':59')}{zone}")
            return (moment - datetime.fromtimestamp(0, UTC)).total_seconds()
        except (ValueError, OverflowError):
            pass
    raise PydanticCustomError("allowed", "must be " + _TIME)


WHOLE = BeforeValidator(_whole)
INTEGRAL = BeforeValidator(_integral)
FLAG = BeforeValidator(_flag)
TargetName = Annotated[str, Field(min_length=1, max_length=128)]
Moment = Annotated[
    float,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "number", "minimum": 0, "maximum": int(LATEST)},
            ]
        }
    ),
]
"""Unix seconds, written so or in RFC 3339."""


class NothingAsked(Query):
    """An endpoint without parameters."""


class OfTarget(Query):
    """What is asked of one target."""

    target: TargetName | None = None
    """The target's name; without it, all targets."""


class Paged(Query):
    """Which page of a list is asked for."""

    limit: Annotated[int, Field(ge=1, le=1000), WHOLE] = 50
    """How many items a page has at most."""

    offset: Annotated[int, Field(ge=0, le=FARTHEST), WHOLE] = 0
    """How many items come before the page."""


class OfPage(Paged, OfTarget):
    """Which page of a target's list is asked for."""


class OfResults(OfPage):
    """Which results of checks are asked for."""

    operation: Operation | None = None
    """The S3 operation; without it, all."""

    since: Moment | None = None
    """Results from this time on: RFC 3339 such as 2026-01-31T12:00:00Z, or Unix seconds."""

    success: Annotated[bool | None, FLAG] = None
    """true for successes alone, false for failures alone; without it, both."""


class OfPeriod(OfTarget):
    """Which period is to be summed up."""

    hours: Annotated[int, Field(ge=1, le=87_600), WHOLE] = 24
    """How many hours, up to now."""


class OfAlerts(OfPage):
    """Which alerts are asked for."""

    resolved: Annotated[bool, FLAG] = False
    """true for the resolved ones too."""


T = TypeVar("T", bound=Taken)


class RefusedError(Exception):
    """What was sent does not fit; `details` has field and message of each misfit."""

    def __init__(self, details: Sequence[Mapping[str, str]]) -> None:
        super().__init__(details)
        self.details = details


def repeated(sent: MultiMapping[str]) -> list[str]:
    """Parameters of which one value would have to be picked."""
    return sorted({name for name in sent if len(sent.getall(name)) > 1})


def parse_query(model: type[T], sent: MultiMapping[str]) -> T:
    """The query string's parameters. Raises RefusedError."""
    if twice := repeated(sent):
        raise RefusedError([{"field": name, "message": "is given more than once"} for name in twice])
    try:
        return model.model_validate(dict(sent), by_name=False, by_alias=True)
    except ValidationError as error:
        raise RefusedError(_details(model, error, "parameter")) from error


def parse_body(model: type[T], sent: bytes) -> T:
    """A JSON body, where none is an empty one. Raises RefusedError."""
    try:
        return model.model_validate_json(sent or b"{}", strict=True, by_name=False, by_alias=True)
    except ValidationError as error:
        raise RefusedError(_details(model, error, "field")) from error


def _details(model: type[Taken], error: ValidationError, what: str) -> list[dict[str, str]]:
    schema = model.model_json_schema()
    known = ", ".join(schema.get("properties", {})) or "none"
    details = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        if each["type"] == "extra_forbidden":
            message = f"unknown {what}; known here: {known}"
        elif each["type"] in ("allowed", "json_invalid", "missing"):
            message = each["msg"]
        else:
            message = f"must be {_allowed(schema, each['loc'])}"
        details.append({"field": ".".join(map(str, each["loc"])) or "body", "message": message})
    return details


def _allowed(schema: Mapping[str, Any], path: Sequence[str | int]) -> str:
    """What the schema allows at `path`, in words."""
    here: Mapping[str, Any] = schema
    for step in path:
        here = _bare(schema, _below(here, step))
    match here:
        case {"const": value}:
            return str(value)
        case {"format": "date-time"}:
            return "a time in RFC 3339 such as 2026-01-31T12:00:00Z"
        case {"enum": values}:
            return "one of " + ", ".join(values)
        case {"type": "integer"}:
            return f"a whole number{_range(here.get('minimum'), here.get('maximum'))}"
        case {"type": "number"}:
            return f"a number above {here['exclusiveMinimum']}, up to {here['maximum']}"
        case {"type": "boolean"}:
            return "true or false"
        case {"type": "string"}:
            return f"text{_range(here.get('minLength'), here.get('maxLength'))} characters long"
        case {"type": "array", "items": items}:
            return (
                f"a list{_range(here.get('minItems'), here.get('maxItems'))} long"
                + (", without repetition, " if here.get("uniqueItems") else ", ")
                + f"of {_allowed(_bare(schema, items), ())}"
            )
        case {"type": "object"}:
            return "an object such as {}"
        case _:
            return _TIME


def _below(here: Mapping[str, Any], step: str | int) -> Mapping[str, Any]:
    found: Mapping[str, Any]
    if isinstance(step, int):
        found = here["items"]
    else:
        found = here.get("properties", {}).get(step) or here.get("additionalProperties") or {}
    return found


def _bare(schema: Mapping[str, Any], here: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without null as a choice, and looked up where it is defined elsewhere."""
    choices = [each for each in here.get("anyOf", []) if each.get("type") != "null"]
    if len(choices) == 1:
        here = choices[0]
    if "$ref" in here:
        found: Mapping[str, Any] = schema["$defs"][here["$ref"].rpartition("/")[2]]
        return found
    return here


def _range(least: float | None, most: float | None) -> str:
    return f" from {least or 0} to {most}" if most is not None else ""
