"""News of breakers that waits for the disk, and whoever waits for it to be told."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event

import pytest
from structlog.testing import capture_logs

from exporter.admission import TargetBreaker
from exporter.alerting import Alerting
from exporter.alertmanager import Pusher
from exporter.config import BreakerSettings
from exporter.history import History
from exporter.metrics import Metrics
from exporter.recorder import Recorder
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


@pytest.mark.parametrize("turns", range(6))
async def test_who_is_cancelled_in_the_turn_in_which_news_is_told_is_cancelled(
    tmp_path: Path, turns: int
) -> None:
    history, metrics = History(tmp_path / "history.db"), Metrics()
    history.start()
    recorder = Recorder(metrics, history, Alerting(metrics, history, Pusher(lambda _: None)), {})
    recorder.start()
    breaker = TargetBreaker(BreakerSettings(), 0.0)
    breaker.configure(BreakerSettings(enabled=False), 0.0)
    with capture_logs() as told:
        async with hanging(history):
            recorder.end("media", breaker)
            waiting = asyncio.create_task(recorder.told(DEADLINE))
            await asyncio.sleep(0)
        while not told:
            await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    cancelling = waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled() == cancelling
    await recorder.stop(DEADLINE)
    assert await history.stop(DEADLINE)
