"""The JSON Schema for editors says what the loader does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from exporter.config.schema import json_schema

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "exporter" / "config" / "exporter.schema.json"
EXAMPLE = ROOT / "exporter.yaml"


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator(json.loads(SHIPPED.read_text("utf-8")))


def test_the_shipped_schema_is_the_models() -> None:
    shipped = json.loads(SHIPPED.read_text("utf-8"))
    mend = "python -m exporter.config.schema > exporter/config/exporter.schema.json"
    assert shipped == json_schema(), f"the models have changed; run: {mend}"


def test_the_command_prints_it() -> None:
    command = [sys.executable, "-m", "exporter.config.schema"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout == SHIPPED.read_text("utf-8")


def test_the_example_fits_and_points_to_the_schema(schema: Draft202012Validator) -> None:
    schema.check_schema(schema.schema)
    written = EXAMPLE.read_text("utf-8")
    first = written.splitlines()[0]
    assert ROOT / first.removeprefix("# yaml-language-server: $schema=") == SHIPPED
    schema.validate(yaml.safe_load(written))


def sections() -> list[tuple[str, dict[str, Any]]]:
    schema = json_schema()
    return [("", schema), *((n, part) for n, part in schema["$defs"].items() if "properties" in part)]


@pytest.mark.parametrize(
    ("name", "section"), sections(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_key_is_described_and_no_other_allowed(name: str, section: dict[str, Any]) -> None:
    assert section["additionalProperties"] is False
    assert [key for key, value in section["properties"].items() if not value.get("description")] == []


@pytest.mark.parametrize(
    ("name", "section"), sections(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_example_shows_every_key(name: str, section: dict[str, Any]) -> None:
    written = EXAMPLE.read_text("utf-8")
    assert [key for key in section["properties"] if f"{key}:" not in written] == []


TARGET = {"name": "a", "bucket": "aaa", "endpoint": "http://a"}


@pytest.mark.parametrize(
    "written",
    [
        {"targets": [TARGET]},
        {"targets": [TARGET], "probe": None, "breaker": {"recovery_timeout": None}},
        {"targets": [TARGET], "probe": {"interval": "${EVERY}", "operations": ["get", "${ALSO}"]}},
        {"targets": [TARGET], "probe": {"interval": "1h30m", "object_size": "1MB"}},
        {"targets": [{**TARGET, "labels": {"team": "web"}}]},
        {"targets": [TARGET], "alertmanager": {"basic_auth": {"username": "a", "password": "${P}"}}},
        {"targets": [TARGET], "alertmanager": {"cert_file": "a", "key_file": "b", "basic_auth": None}},
        {"targets": [{"name": "a", "bucket": "aaa", "account_id": "${ACCOUNT}", "jurisdiction": "eu"}]},
    ],
)
def test_what_it_accepts(schema: Draft202012Validator, written: dict[str, Any]) -> None:
    schema.validate(written)


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"targets": []},
        {"targets": [{**TARGET, "account_id": "0" * 32}]},
        {"targets": [{**TARGET, "jurisdiction": "eu"}]},
        {"targets": [{**TARGET, "labels": {"job": "web"}}]},
        {"targets": [{**TARGET, "name": None}]},
        {"targets": [TARGET], "probe": {"interval": 30}},
        {"targets": [TARGET], "probe": {"interval": "30 s"}},
        {"targets": [TARGET], "probe": {"intervall": "30s"}},
        {"targets": [TARGET], "probe": {"object_size": "1K"}},
        {"targets": [TARGET], "probe": {"key_prefix": "../"}},
        {"targets": [TARGET], "alerts": {"error_rate_threshold": 2}},
        {"targets": [TARGET], "alerts": {"slo_objective": 1}},
        {"targets": [TARGET], "alertmanager": {"cert_file": "a"}},
        {"targets": [TARGET], "alertmanager": {"basic_auth": {"username": "a"}}},
        {"targets": [TARGET], "alertmanager": {"labels": {"alertname": "a"}}},
    ],
)
def test_what_it_refuses(schema: Draft202012Validator, written: dict[str, Any]) -> None:
    assert not schema.is_valid(written)
