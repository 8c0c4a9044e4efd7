"""Storages, and a browser, for the tests of the status page."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.running import demo_server
from tests.status.rig import CHROMIUM, FLAGS


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """It starts in half a second: one for all tests of a file, each with a profile of its own."""
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        await launched.close()
