"""Storages for the tests of the JSON API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import demo_server


@pytest.fixture(scope="package")
def storage() -> Iterator[str]:
    with demo_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="package")
def failing() -> Iterator[str]:
    with demo_server("failing") as endpoint:
        yield endpoint


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "exporter.yaml"
