"""The OpenAPI document is valid, complete, and what the running exporter gives."""

import json
import re
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from exporter.web.api import endpoints
from exporter.web.api.openapi import PATH, document
from tests.api.rig import DOCUMENT
from tests.running import running, target, write


def test_the_document_is_valid() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


async def test_the_exporter_answers_with_the_document(config: Path, storage: str) -> None:
    write(config, target("media", storage, "media"))
    async with running(config) as exporter:
        status, text = await exporter.get(PATH)
        assert (status, json.loads(text)) == (200, document(endpoints))
        assert await exporter.ask("HEAD", PATH) == (200, "")


@pytest.mark.parametrize("endpoint", endpoints, ids=lambda endpoint: endpoint.path)
async def test_every_endpoint_takes_the_methods_that_the_document_says(
    config: Path, storage: str, endpoint: object
) -> None:
    path = getattr(endpoint, "path", "")
    shown = re.sub(r"\{\w+\}", "1", path)
    write(config, target("media", storage, "media"))
    async with running(config) as exporter:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            status, _ = await exporter.ask(method, shown)
            assert (status != 405) == (method.lower() in DOCUMENT["paths"][path])


def test_everything_is_explained() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            assert all(parameter["description"] for parameter in operation["parameters"])
            for parameter in operation["parameters"]:
                assert not {"ge", "le"} & parameter["schema"].keys()
    durations = [
        (name, field, schema)
        for name, model in DOCUMENT["components"]["schemas"].items()
        for field, schema in model.get("properties", {}).items()
        if field in ("duration", "mean", "max", "retryAfter", "averageResponseTime", "recoveryTimeout")
    ]
    assert len(durations) > 5
    assert [each[:2] for each in durations if "millisecond" not in each[2].get("description", "")] == []
