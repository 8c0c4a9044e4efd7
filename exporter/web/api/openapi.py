"""`/api/openapi.json`: the API's OpenAPI 3.1 document, made from the declarations that check and answer.

Spec: https://spec.openapis.org/oas/v3.1.0
"""

import asyncio
import functools
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from exporter import __version__
from exporter.web.api.declare import Endpoint
from exporter.web.api.models import ErrorAnswer

PATH = "/api/openapi.json"
REFERENCE = "#/components/schemas/{model}"

READ_REFUSALS = (400, 401, 403, 408, 413, 415, 429)
"""What any request may be refused with: bad parameters, no login, a body that is none, too many of them."""

WHY = {
    400: "A parameter or the body does not fit; details has the field and what is allowed.",
    401: "A login or token is missing or wrong.",
    403: "The caller may not do that.",
    404: "There is no such target, or no such item.",
    408: "The body did not arrive in time.",
    409: "It is over already, or the query and the body name two targets.",
    412: "If-Match has another ETag: somebody else changed it meanwhile.",
    413: "The body is too large.",
    415: "The body is not sent as application/json.",
    429: "Too many requests; Retry-After says when to try again.",
    503: "The history cannot be read, or the exporter is stopping.",
}


def document_route(endpoints: Sequence[Endpoint]) -> web.RouteDef:
    """The route that answers with the document of `endpoints`."""

    @functools.cache
    def encoded() -> bytes:
        return json.dumps(document(endpoints)).encode()

    async def handle(_request: web.Request) -> web.Response:
        # It takes some tens of milliseconds to make, the first time.
        return web.Response(body=await asyncio.to_thread(encoded), content_type="application/json")

    return web.get(PATH, handle)


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document."""
    references, schemas = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, references)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
        if endpoint.method == "GET":
            paths[endpoint.path]["head"] = _without_bodies(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "r2-exporter",
            "version": __version__,
            "description": (
                "What the exporter knows of its targets. Times are in RFC 3339, durations in milliseconds, "
                "ratios from 0 to 1. Every error has the form of ErrorAnswer."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "login": {"type": "http", "scheme": "basic"},
            },
        },
        # The empty one: neither is needed where none is set.
        "security": [{}, {"token": []}, {"login": []}],
    }


_TAGS: dict[str, Any] = {"type": "string", "examples": ['"0123456789abcdef"']}

References = dict[tuple[type[BaseModel], JsonSchemaMode], dict[str, Any]]


def _schemas(endpoints: Sequence[Endpoint]) -> tuple[References, dict[str, Any]]:
    """A reference to the schema of each model of an answer or a body, and the schemas."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ErrorAnswer, "serialization")]
    for endpoint in endpoints:
        models.append((endpoint.answer, "serialization"))
        if endpoint.body is not None:
            models.append((endpoint.body, "validation"))
    unique = list(dict.fromkeys(models))
    found, definitions = models_json_schema(unique, ref_template=REFERENCE)
    return {key: found[key] for key in unique}, definitions["$defs"]


def _operation(endpoint: Endpoint, references: References) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, references),
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if endpoint.body is not None:
        schema = references[endpoint.body, "validation"]
        needed = any(field.is_required() for field in endpoint.body.model_fields.values())
        operation["requestBody"] = {"required": needed, "content": {"application/json": {"schema": schema}}}
    return operation


def _responses(endpoint: Endpoint, references: References) -> dict[str, Any]:
    answer = references[endpoint.answer, "serialization"]
    refused = references[ErrorAnswer, "serialization"]
    responses: dict[str, dict[str, Any]] = {
        "200": {"description": "OK", "content": {"application/json": {"schema": answer}}}
    }
    if endpoint.tagged and endpoint.method == "GET":
        responses["200"]["headers"] = {"ETag": {"schema": _TAGS, "required": True}}
        responses["304"] = {"description": "It is as it was.", "headers": responses["200"]["headers"]}
    for status in sorted({*READ_REFUSALS, *endpoint.refusals}):
        why = WHY.get(status, HTTPStatus(status).phrase)
        responses[str(status)] = {
            "description": why,
            "content": {"application/json": {"schema": refused}},
        }
    return responses


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    schema = endpoint.query.model_json_schema()
    required = schema.get("required", [])
    queried = [
        _parameter(name, _inlined(field, schema.get("$defs", {})), name in required, endpoint.path)
        for name, field in schema.get("properties", {}).items()
    ]
    return [*queried, *_conditions(endpoint)]


def _conditions(endpoint: Endpoint) -> list[dict[str, Any]]:
    if not endpoint.tagged:
        return []
    if endpoint.method == "GET":
        name, description = (
            "If-None-Match",
            "ETags of earlier answers: 304 if one of them still holds.",
        )
    else:
        name, description = (
            "If-Match",
            "The ETag that the change builds on: 412 if there is another by now.",
        )
    return [{"name": name, "in": "header", "description": description, "required": False, "schema": _TAGS}]


def _parameter(name: str, field: dict[str, Any], required: bool, path: str) -> dict[str, Any]:
    description = field.pop("description", "")
    choices = [each for each in field.get("anyOf", []) if each.get("type") != "null"]
    if len(choices) == 1:  # a parameter is left out, and never null
        field = choices[0]
    elif choices:
        field = {**field, "anyOf": choices}
    schema = {
        key: value
        for key, value in field.items()
        if key not in ("title", "description") and not (key == "default" and value is None)
    }
    place = "path" if f"{{{name}}}" in path else "query"
    return {"name": name, "in": place, "description": description, "required": required, "schema": schema}


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """With each definition in the place of the reference to it."""
    if isinstance(node, list):
        return [_inlined(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in node.items()}


def _without_bodies(operation: dict[str, Any]) -> dict[str, Any]:
    """What HEAD answers."""
    responses = {
        status: {"description": answer["description"]} for status, answer in operation["responses"].items()
    }
    return {**operation, "operationId": f"{operation['operationId']}_head", "responses": responses}
