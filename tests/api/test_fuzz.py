"""Every endpoint against what schemathesis makes up from the OpenAPI document, with all its checks."""

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from exporter.app import App
from exporter.config import load_settings
from exporter.web.access import AccessPolicy
from exporter.web.server import Server
from exporter.web.toolkit import RateLimit, WebConfig
from tests.running import LOOPBACK, new_bucket, target, write

CASES = 2000
EXAMPLES = 60

# An If-Match that it makes up is rightly answered with 412.
SETTINGS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "401", "403", "404", "409", "412", "429", "5xx"]
"""
PATIENT = RateLimit.model_validate({"interval": "1ms", "burst": 100_000})


class Unhurried(Server):
    """It lets a caller write as fast as it likes."""

    def _policy_of(self, config: WebConfig) -> AccessPolicy:
        return replace(super()._policy_of(config), write_limit=PATIENT)


@asynccontextmanager
async def unhurried(config: Path) -> AsyncIterator[str]:
    app = App(lambda: load_settings(config, {}), config.with_name("r2-exporter.db"))
    server = Unhurried(app, LOOPBACK, None)
    await app.start()
    try:
        await server.start()
        yield server.urls[0]
    finally:
        await app.stop()
        await server.stop()


async def test_no_case_is_answered_outside_the_document(
    config: Path, storage: str, record_property: Callable[[str, object], None]
) -> None:
    names = ("media", "logs")
    config.with_name("schemathesis.toml").write_text(SETTINGS)
    write(config, *(target(name, storage, new_bucket(storage)) for name in names))
    async with unhurried(config) as url:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{url}/api/openapi.json",
            "--checks=all",
            f"--max-examples={EXAMPLES}",
            "--continue-on-failure",
            "--no-color",
            "--seed=1",
            "--generation-database=none",
            stdout=PIPE,
            stderr=STDOUT,
            cwd=config.parent,
        )
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    record_property("schemathesis", said[-500:])
    found = re.search(r"([0-9]+) generated, ([0-9]+) passed", said)
    assert found is not None, said
    assert int(found[1]) >= CASES, said
