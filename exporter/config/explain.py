"""Pydantic's errors in plain words. A value is quoted only where it cannot be a secret."""

import difflib
import inspect
import json
import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from exporter.config.problem import Path

_MISFIT = "misfit"

_WORDS = {
    "missing": "is required",
    "string_type": "expected text",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "enum": "expected one of {expected}",
    "literal_error": "expected one of {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length}",
    "too_long": "takes at most {max_length}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "value_error": "{error}",
    "assertion_error": "{error}",
    **dict.fromkeys(
        ("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "expected a whole number"
    ),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "expected a number"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "expected a list"),
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type", "mapping_type", "dataclass_type"),
        "expected a mapping of keys to values",
    ),
}

# Text that fails these was meant as a number, a flag or a choice, so it is no secret.
_QUOTED = {_MISFIT, "bool_parsing", "enum", "literal_error", "int_parsing", "float_parsing"} | {
    "int_from_float",
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
}
_LONGEST_QUOTE = 60
_KINDS = {type(None): "nothing", str: "text", dict: "a mapping", list: "a list"}
# As what text is read where a flag or a number is wanted.
_FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "1"), "true"),
    **dict.fromkeys(("false", "no", "off", "0"), "false"),
}
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?(e[-+]?[0-9]+)?", re.IGNORECASE)


def misfit(message: str) -> PydanticCustomError:
    """An error for validators to raise; the offending text is added to `message` in a report.

    Raise ValueError instead where the value may hold a secret: that one is never quoted.
    """
    return PydanticCustomError(_MISFIT, "{message}", {"message": message})


def explain(
    model: type[BaseModel], data: object, error: ValidationError, hidden: frozenset[Path]
) -> Iterator[tuple[Path, str]]:
    """The place in `data` and the words for each error; values at `hidden` paths are never quoted."""
    for details in error.errors(include_url=False):
        path = _place(data, details)
        if details["type"] == "extra_forbidden":
            yield path, "unknown key" + _suggestion(model, path)
        else:
            yield path, _words(details) + _got(model, path, details, path in hidden)


def _place(data: object, details: ErrorDetails) -> Path:
    """The error's location without the steps pydantic adds for keys and unions."""
    path: list[str | int] = []
    for step in details["loc"]:
        if isinstance(data, Mapping) and isinstance(step, str):
            if step not in data:
                return (*path, step) if details["type"] == "missing" else tuple(path)
            data = data[step]
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            break
        path.append(step)
    return tuple(path)


def _words(details: ErrorDetails) -> str:
    template = _WORDS.get(details["type"])
    if template is None:
        return details["msg"]
    context = details.get("ctx", {})
    if "expected" in context:
        context["expected"] = context["expected"].replace("'", "")
    return template.format(**context)


def _got(model: type[BaseModel], path: Path, details: ErrorDetails, hidden: bool) -> str:
    value, kind = details["input"], details["type"]
    if kind.endswith("_type"):
        flag = _FLAGS.get(value.lower()) if isinstance(value, str) and not hidden else None
        return f", got {_kind(value, hidden)}" + (_switch(model, path, flag) if flag else "")
    if not isinstance(value, str) or hidden or kind not in _QUOTED:
        return ""
    shown = value if len(value) <= _LONGEST_QUOTE else value[:_LONGEST_QUOTE] + "..."
    return f", got {json.dumps(shown)}"


def _kind(value: object, hidden: bool) -> str:
    """What the value is to whoever wrote it: a flag and a number are text only to us."""
    if isinstance(value, str) and not hidden:
        if value.lower() in _FLAGS:
            return value
        if _NUMBER.fullmatch(value):
            return "a number"
    return _KINDS.get(type(value), "something else")


def _switch(model: type[BaseModel], path: Path, flag: str) -> str:
    """How to say it, if the flag stands where a section does that can be turned on and off."""
    section = _model_at(model, path)
    return f"; write {{enabled: {flag}}}" if section and "enabled" in section.model_fields else ""


def _suggestion(model: type[BaseModel], path: Path) -> str:
    """A known key that was probably meant: of the same section, or of one below it."""
    owner, wrong = _model_at(model, path[:-1]), str(path[-1])
    if owner is None:
        return ""
    known = _keys(owner)
    near = difflib.get_close_matches(wrong.lower(), known, n=1)
    if near:
        return f'; did you mean "{near[0]}"?'
    for key, annotation in known.items():
        below = _bare(annotation)
        if _is_model(below) and wrong in _keys(below):
            return f'; did you mean "{wrong}" under "{key}"?'
    return f"; known here: {', '.join(known)}"


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    here: Any = model
    for step in path:
        if _is_model(here):
            here = _bare(_keys(here).get(str(step)))
        else:  # a list or a mapping: what it holds
            held = [a for a in get_args(here) if a is not Ellipsis]
            here = _bare(held[-1]) if held else None
    return here if _is_model(here) else None


def _keys(model: type[BaseModel]) -> dict[str, Any]:
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def _bare(annotation: Any) -> Any:
    """The annotation without `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return next((_bare(a) for a in get_args(annotation) if a is not type(None)), None)
    return annotation


def _is_model(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)
