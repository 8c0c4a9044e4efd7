"""Callers who ask as much as they can: no storage is said to fail for it, and others are answered."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.running import (
    DEADLINE,
    Client,
    demo_server,
    eventually,
    new_bucket,
    serving_command,
    target,
    write,
)

CALLERS = 400
NAMES = ("media", "backups")
RUNS = 3


@asynccontextmanager
async def flooded(url: str) -> AsyncIterator[None]:
    """Until the exporter closes the connections, which the callers never do."""
    port = url.rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.hostile.flooding", port, str(CALLERS)), stdout=PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE):
            assert await process.stdout.readline() == b"flooding\n"
        yield
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_callers_who_ask_without_end_are_no_outage(tmp_path: Path) -> None:
    with demo_server() as storage:
        bucket, probe = new_bucket(storage), {"interval": "1s", "timeout": "1s"}
        targets = [target(name, storage, bucket, probe=probe) for name in NAMES]
        async with serving_command(write(tmp_path / "exporter.yaml", *targets)) as exporter:
            client = Client(exporter.url)
            await eventually(lambda: ran(client, 1))
            async with flooded(exporter.url):
                before = (await client.metrics())("r2_probes_total", target="backups", operation="put")
                await eventually(lambda: ran(client, before + RUNS))
                samples = await client.metrics()
                status = await exporter.end()
    assert samples("r2_probes_total", result="failure") == 0
    for name in NAMES:
        assert samples("r2_probes_skipped_total", target=name) == 0
        assert samples("r2_target_up", target=name) == 1
    assert status == 0
    assert not exporter.said("level=error"), exporter.lines
    assert not exporter.said("level=warn"), exporter.lines


async def ran(exporter: Client, times: float) -> bool:
    """Whether every target was probed so often."""
    samples = await exporter.metrics()
    return all(samples("r2_probes_total", target=name, operation="put") >= times for name in NAMES)
