"""Breakers that open while the disk hangs."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event

from exporter.history import History
from tests.running import DEADLINE, eventually, running, target, until, write

NOWHERE = "http://127.0.0.1:1"
NAMES = [f"bucket-{number}" for number in range(8)]


@asynccontextmanager
async def hanging(history: History) -> AsyncIterator[None]:
    """Its disk takes nothing until the block ends."""
    began, go_on = Event(), Event()

    def hang(_: sqlite3.Connection) -> None:
        began.set()
        go_on.wait(DEADLINE * 2)

    stuck = asyncio.ensure_future(history.change(hang))
    await until(began.is_set)
    try:
        yield
    finally:
        go_on.set()
        await stuck


async def test_breakers_that_open_while_the_disk_hangs_do_not_wait_for_each_other(tmp_path: Path) -> None:
    probe = {"interval": "1d", "operations": ["list"]}
    breaker = {"failure_threshold": 1}
    targets = [target(name, NOWHERE, name, probe=probe, breaker=breaker) for name in NAMES]
    async with running(write(tmp_path / "exporter.yaml", *targets)) as exporter:
        app = exporter.app

        async def all_are_open() -> bool:
            return await exporter.has_value(len(NAMES), "r2_circuit_breaker_state", state="open")

        async with hanging(app.history):
            probing = asyncio.gather(*(app.probe_now(name) for name in NAMES))
            # A result and a change of each: none would be lost if the exporter were to stop now.
            await until(lambda: app.history.state().queued == 2 * len(NAMES))
            await eventually(all_are_open)
            await probing
