"""The JSON Schema of the configuration file, by which editors complete and check it.

`python -m exporter.config.schema` prints it.
"""

import json
import sys
from typing import Any

from exporter.config.alertmanager import AlertmanagerSettings
from exporter.config.model import (
    AlertSettings,
    BreakerSettings,
    ConfigFile,
    HistorySettings,
    ProbeSettings,
)

Schema = dict[str, Any]

_VARIABLE: Schema = {
    "description": "The value of an environment variable: ${NAME}.",
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}",
}
_NULL: Schema = {"type": "null"}
_ABOUT = ("description", "default")


def json_schema() -> Schema:
    """What load_settings takes, as far as one value at a time can show it."""
    schema = ConfigFile.model_json_schema()
    definitions = schema["$defs"]
    for model in (ProbeSettings, BreakerSettings, AlertSettings, AlertmanagerSettings, HistorySettings):
        for key, default in model().model_dump(mode="json").items():
            definitions[model.__name__]["properties"][key]["default"] = default
    for section in (schema, *definitions.values()):
        for key, value in section.get("properties", {}).items():
            section["properties"][key] = _property(value, key in section.get("required", ()))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_untitled(schema),
        "title": "r2-exporter configuration",
        "$defs": {"Variable": _VARIABLE, **{name: _untitled(part) for name, part in definitions.items()}},
    }


def _property(value: Schema, required: bool) -> Schema:
    """A key's schema; one that may be left out may also stand there with nothing after it."""
    about = {key: value[key] for key in _ABOUT if value.get(key) is not None}
    kinds = value.get("anyOf", [{key: part for key, part in value.items() if key not in _ABOUT}])
    accepted = [choice for kind in kinds if kind != _NULL for choice in _choices(_untitled(kind))]
    if not required:
        accepted.append(_NULL)
    return {**about, **(accepted[0] if len(accepted) == 1 else {"anyOf": accepted})}


def _choices(kind: Schema) -> list[Schema]:
    """The value itself or, for everything that is written as one word, a variable in its place."""
    if kind.get("type") == "array":
        items = _choices(kind["items"])
        return [{**kind, "items": items[0] if len(items) == 1 else {"anyOf": items}}]
    if "patternProperties" in kind:
        return [{**kind, "additionalProperties": False}]
    one_word = kind.get("type") in ("integer", "number", "boolean") or kind.keys() & {"pattern", "enum"}
    if one_word or kind.get("$ref") == "#/$defs/Operation":
        return [kind, {"$ref": "#/$defs/Variable"}]
    return [kind]


def _untitled(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "title"}


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
