"""Runs the whole exporter for as long as it takes to see whether anything of it grows."""

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from exporter.outcome import Operation
from tests.faults.watch import Page, Watch, assert_history_agrees, kept_of_alerts
from tests.running import Client, Spawned, eventually, serving_command, target, until, write
from tests.soak.calls import PATIENCE, Caller
from tests.soak.figures import Inside, Sample
from tests.soak.remote import Storages, storages
from tests.soak.scraper import Scraper

INTERVAL = 1.0
TO_EACH = 3
"""Targets of one storage."""
SPARE = 1.2
"""Operations that are due for each that is to be performed: open breakers skip some."""
CALLERS = 4
WHOLE = 20
"""Of so many scrapes one is read with Prometheus' own parser, which takes longer than the exporter does."""
SETTLING = 3
"""Readings at the most until it is calm."""


@dataclass(frozen=True)
class Plan:
    """How long (seconds), at how many operations a second, in which form, and by which chances."""

    seconds: float
    rate: float
    dev: bool
    seed: int
    calls: float = 10.0

    @property
    def warm_up(self) -> float:
        """Seconds until all windows and caches are full, and the heap has seen its highest peaks."""
        return min(self.seconds / 3, 1800.0)

    @property
    def rounds(self) -> int:
        """Of trouble after the warm-up; there is calm after each."""
        return max(1, round((self.seconds - self.warm_up) / 300))

    @property
    def reload_every(self) -> float:
        return min(20.0, self.seconds / 8)

    @property
    def sample_every(self) -> float:
        return min(5.0, self.seconds / 100)

    @property
    def servers(self) -> int:
        return max(2, round(self.rate * SPARE * INTERVAL / len(Operation) / TO_EACH))


@dataclass
class Soak:
    """An exporter under way, and what was seen of it."""

    plan: Plan
    watch: Watch
    storages: Storages
    config: Path
    chance: random.Random
    caller: Caller
    scraper: Scraper
    tell: Callable[[str], None]
    began: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    calms: list[Inside] = field(default_factory=list)
    collected: Inside | None = None
    page: Page | None = None
    reloads: int = 0
    troubled: float = 0.0

    @property
    def may_open(self) -> int:
        """Descriptors that may come after the warm-up: the history's, as SQLite opens them when needed."""
        return 8

    @property
    def may_run(self) -> int:
        """Threads: those of the event loop's pool, of the history and the log, and the main one."""
        return min(32, (os.cpu_count() or 1) + 4) + 9

    @property
    def exporter(self) -> Spawned:
        return self.watch.exporter

    async def run(self) -> None:
        """To the end of the exporter."""
        client = Client(self.exporter.url)
        await eventually(lambda: client.has("r2_target_up"))
        await eventually(lambda: client.has_value(len(self.watch.names), "r2_target_up"))
        await self._trouble(self.plan.warm_up)
        self.samples.clear()
        self.calms.append(await self._calm())
        for _ in range(self.plan.rounds):
            await self._trouble((self.plan.seconds - self.plan.warm_up) / self.plan.rounds)
            self.calms.append(await self._calm())
        self.collected = await self._inside(signal.SIGUSR2)
        assert await self.exporter.end() == 0

    async def _trouble(self, seconds: float) -> None:
        """Everything at once, for so long."""
        began = time.monotonic()
        await Client(self.exporter.url).post("/api/health/monitoring/start")
        await self.storages.order("trouble")
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                for work in (self._scrape(), self._sample(), self._reload()):
                    tasks.create_task(work)
                for _ in range(CALLERS):
                    tasks.create_task(self.caller.call(CALLERS / self.plan.calls))
        except TimeoutError:
            self.troubled += time.monotonic() - began

    async def _scrape(self) -> None:
        for number in count():
            await asyncio.sleep(1)
            if number % WHOLE == 0:
                await self.watch.scrape(PATIENCE)
            else:
                await self.scraper.scrape(PATIENCE)

    async def _sample(self) -> None:
        told = time.monotonic()
        while True:
            await asyncio.sleep(self.plan.sample_every)
            now = time.monotonic()
            threads = len(os.listdir(f"/proc/{self.exporter.process.pid}/task"))
            self.samples.append(Sample(now - self.began, self.watch.memory(), threads))
            if now - told >= 60:
                told = now
                self.tell(self._progress())

    async def _reload(self) -> None:
        """A file that is different each time, so that every target is replaced."""
        while True:
            await asyncio.sleep(self.plan.reload_every)
            write_config(self.config, self.watch.names, self.storages, team=str(self.chance.random()))
            self.exporter.process.send_signal(signal.SIGHUP)
            self.reloads += 1

    async def _calm(self) -> Inside:
        """What is alive once nothing is under way: storages are well, nobody asks, and probing is stopped."""
        await self.storages.order("calm")
        await self._stop()
        calm = await self._inside(signal.SIGUSR1)
        for _ in range(SETTLING):  # connections that were hung up a moment ago
            await asyncio.sleep(0.2)
            calm = min(calm, await self._inside(signal.SIGUSR1), key=lambda it: it.descriptors + it.all_tasks)
        self.tell(f"calm: {calm}")
        return calm

    async def _inside(self, number: signal.Signals) -> Inside:
        self.exporter.process.send_signal(number)
        await until(lambda: self.exporter.lines[-1].startswith("inside "))
        return Inside.of(self.exporter.lines.pop(), self.watch.descriptors())

    async def _stop(self) -> None:
        """Probing; nothing is under way then, and the last page has everything that was."""
        client = Client(self.exporter.url)
        await client.post("/api/health/monitoring/stop")
        await eventually(lambda: client.has_value(0, "r2_exporter_probes_in_flight"))
        await client.post(
            "/api/health/circuit-breaker/reset"
        )  # it answers once all changes of state are told
        self.page = await self.watch.scrape(PATIENCE)

    def _progress(self) -> str:
        last = self.samples[-1]
        return (
            f"{last.at:6.0f} s: {last.memory / 2**20:.1f} MiB, {last.threads} threads,"
            f" {self.watch.descriptors()} descriptors, {len(self.scraper.seconds)} pages,"
            f" slowest {max(self.scraper.seconds, default=0):.3f} s,"
            f" {self.caller.answers.total()} calls, {self.reloads} reloads, {len(self.exporter.lines)} lines"
        )


def write_config(config: Path, names: list[str], storages: Storages, **labels: str) -> None:
    """Every third target has no breaker, so that its storage is asked on and on."""
    probe = {
        "interval": f"{INTERVAL:g}s",
        "timeout": "500ms",
        "operations": [str(each) for each in Operation],
    }
    targets = []
    for number, name in enumerate(names):
        breaker: dict[str, Any] = {"enabled": False} if number % 3 == 0 else {"recovery_timeout": "1s"}
        endpoint = storages.endpoints[number % len(storages.endpoints)]
        targets.append(target(name, endpoint, "bucket", labels=labels, breaker=breaker, probe=probe))
    fresh = write(
        config.with_suffix(".new"),
        *targets,
        alertmanager={"urls": [storages.alertmanager, "http://127.0.0.1:1"]},
    )
    fresh.replace(config)  # at once: somebody may be reading


@dataclass(frozen=True)
class Soaked:
    """A run that is over."""

    plan: Plan
    page: Page
    results: int
    alerts: Counter[tuple[str, str]]
    """How often the history has each of a target raised."""
    disagreement: str
    storage: dict[str, int]
    soak: Soak


@asynccontextmanager
async def soaking(folder: Path, plan: Plan, tell: Callable[[str], None]) -> AsyncIterator[Soak]:
    async with AsyncExitStack() as stack:
        those = await stack.enter_async_context(storages(plan.servers, plan.seed))
        names = [f"t{number}" for number in range(plan.servers * TO_EACH)]
        config = folder / "exporter.yaml"
        write_config(config, names, those)
        program = [*(["-X", "dev"] if plan.dev else []), "-m", "tests.soak.inside"]
        exporter = await stack.enter_async_context(serving_command(config, program=program))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        chance = random.Random(plan.seed)
        watch = Watch(exporter, names, INTERVAL, session)
        yield Soak(
            plan,
            watch,
            those,
            config,
            chance,
            Caller(exporter.url, names, chance),
            Scraper(exporter.url, session),
            tell,
        )


async def soak(folder: Path, plan: Plan, tell: Callable[[str], None]) -> Soaked:
    """AssertionError, or a group of them, for what is wrong at once; the rest is for figures to say."""
    async with soaking(folder, plan, tell) as it:
        try:
            await it.run()
        except BaseException:
            tell("\n".join(["the exporter's last words:", *it.exporter.lines[-30:]]))
            raise
        storage = await it.storages.end()
    assert it.page is not None
    results, disagreement, history = 0, "", folder / "r2-exporter.db"
    try:
        results = await asyncio.to_thread(assert_history_agrees, history, it.page)
    except AssertionError as error:  # which is no reason to keep the figures back
        disagreement = str(error)
    with closing(sqlite3.connect(history)) as connection:
        alerts = kept_of_alerts(connection)
    return Soaked(plan, it.page, results, alerts, disagreement, storage, it)
