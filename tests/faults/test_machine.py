"""The machine that the exporter runs on lets it down: that is no outage of the storage."""

import asyncio
import resource
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from exporter.outcome import Operation
from tests.faults.clock import Clock
from tests.faults.kinds import KINDS
from tests.faults.server import FaultServer, fault_server, later
from tests.faults.watch import Page, Watch, assert_history_agrees, quiet_names
from tests.hostile.effort import times
from tests.running import Client, eventually, serving_command, target, until, write

NAMES = quiet_names(5)
INTERVAL = 1.0
DAY = 86_400
DESCRIPTORS = 8
"""More that there may be at the end: of who asked last, and the history's."""
MEMORY = 16 << 20
"""Bytes more: caches fill for minutes."""
EVERYTHING = [str(operation) for operation in Operation]


@dataclass
class Machine:
    """An exporter of healthy storage, and who looks at it."""

    watch: Watch
    storage: FaultServer
    history: Path
    descriptors: int
    memory: int

    def has_more_reads(self, number: int) -> bool:
        return self.storage.count(Operation.GET) > number

    async def is_blameless(self) -> None:
        """No failure was counted, no breaker opened, no alert raised; all turns are in the history.

        And it holds no more of the machine than before.
        """
        await Client(self.watch.exporter.url).post("/api/health/monitoring/stop")
        page = await self.watch.settled()
        assert self.watch.descriptors() <= self.descriptors + DESCRIPTORS
        assert self.watch.memory() <= self.memory + MEMORY
        assert page.samples("r2_probes_total", result="failure") == 0
        assert page.samples("r2_circuit_breaker_transitions_total") == 0
        assert page.samples("r2_alert_active") == 0
        assert await self.watch.exporter.end() == 0
        assert assert_history_agrees(self.history, page) > 0
        assert not self.watch.exporter.said("Traceback")


@asynccontextmanager
async def machine(folder: Path, **env: str) -> AsyncIterator[Machine]:
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(fault_server())
        probe = {"interval": f"{INTERVAL:g}s", "timeout": "900ms", "operations": EVERYTHING}
        each = (target(name, storage.endpoint, "bucket", probe=probe) for name in NAMES)
        config = write(folder / "exporter.yaml", *each)
        exporter = await stack.enter_async_context(serving_command(config, env=env))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        client = Client(exporter.url)
        await eventually(lambda: client.has("r2_target_up"))
        await eventually(lambda: client.has_value(len(NAMES), "r2_target_up"))
        watch = Watch(exporter, NAMES, INTERVAL, session)
        history = folder / "r2-exporter.db"
        yield Machine(watch, storage, history, watch.descriptors(), watch.memory())


async def test_a_process_that_is_stopped_blames_no_storage(tmp_path: Path) -> None:
    """SIGSTOP in the middle of operations: longer than their timeout, or long enough to seem slow.

    In the long form also once for a minute.
    """
    async with machine(tmp_path) as it:
        it.storage.script[Operation.GET] = later(0.1, it.storage.healthy)
        first = await it.watch.settled()
        for number in range(times(4)):
            before = it.storage.count(Operation.GET)
            await until(partial(it.has_more_reads, before))
            it.watch.exporter.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(60 if number == 4 else [2.2, 1.05][number % 2])
            it.watch.exporter.process.send_signal(signal.SIGCONT)
            await it.watch.scrape()
        last = await it.watch.settled()
        it.watch.assert_each_turn_counted_once(first, last)
        assert last.samples("r2_probes_skipped_total", reason="overrun") > 0
        it.watch.assert_in_time()
        assert it.watch.exporter.said("the process stood still")
        await it.is_blameless()


async def test_without_file_descriptors_probes_are_skipped_and_scrapes_go_on(tmp_path: Path) -> None:
    """What is open stays open; whoever else asks has to wait until there are some again."""
    async with machine(tmp_path) as it:
        pid = it.watch.exporter.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft == hard  # it takes what it may have
        first = await it.watch.settled()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (it.watch.descriptors() - 4, hard))
        it.storage.on_connect = None
        for task in it.storage.open:
            task.cancel()  # every connection of before has ended
        await until(lambda: it.watch.exporter.said("this machine fails, not the storage"))
        for _ in range(5):
            await it.watch.scrape()
            await asyncio.sleep(0.1)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        client = Client(it.watch.exporter.url)
        before = (await it.watch.scrape()).samples("r2_probes_total", result="success")
        await eventually(lambda: client.has_more(before + 40, "r2_probes_total", result="success"))
        await eventually(lambda: client.has_value(1, "r2_exporter_history_up"))
        last = await it.watch.settled()
        it.watch.assert_each_turn_counted_once(first, last)
        assert last.samples("r2_probes_skipped_total", reason="overrun") > 0
        it.watch.assert_in_time()
        await it.is_blameless()


async def test_a_clock_that_is_set_changes_no_turn_and_no_verdict(tmp_path: Path) -> None:
    """The wall clock goes back and forth by libfaketime; the monotonic one cannot be set."""
    clock = Clock(tmp_path / "clock", wall_only=True)
    clock.set(0)
    async with machine(tmp_path, **clock.env) as it:
        first = await it.watch.settled()
        shown = set()
        for days in (1, -1, 20, -20, -365, 29, 0):
            clock.set(days * DAY)
            await asyncio.sleep(1.1)
            page = await it.watch.scrape()
            shown.add(round((last_run(page) - time.time()) / DAY))
        last = await it.watch.settled()
        it.watch.assert_each_turn_counted_once(first, last)
        assert len(shown) > 3, shown  # the clock was set indeed
        await it.is_blameless()


def successes(page: Page, name: str) -> float:
    return page.samples("r2_probes_total", target=name, result="success")


def last_run(page: Page) -> float:
    """When the last operation was, on the exporter's wall clock."""
    name = "r2_probe_last_run_timestamp_seconds"
    return max(value for (series, _), value in page.samples.values.items() if series == name)


async def test_black_holes_take_nothing_from_the_others(tmp_path: Path) -> None:
    """Half of the targets hang for as long as they may; the others are probed as if they were alone."""
    async with AsyncExitStack() as stack:
        good, hole = [await stack.enter_async_context(fault_server()) for _ in range(2)]
        names = quiet_names(40, 0.7)
        probe = {"interval": "2s", "timeout": "2s", "operations": EVERYTHING}
        each = [
            target(name, [good, hole][number % 2].endpoint, "bucket", probe=probe, breaker={"enabled": False})
            for number, name in enumerate(names)
        ]
        exporter = await stack.enter_async_context(serving_command(write(tmp_path / "exporter.yaml", *each)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        client, watch = Client(exporter.url), Watch(exporter, names, 2.0, session)
        await eventually(lambda: client.has("r2_target_up"))
        await eventually(lambda: client.has_value(len(names), "r2_target_up"))
        first = await watch.settled()
        hole.script.update(dict.fromkeys(Operation, KINDS["hangs"]))
        for _ in range(times(8)):
            await asyncio.sleep(1)
            page = await watch.scrape()
        hole.heal()
        watch.assert_each_turn_counted_once(first, await watch.settled())
        watch.assert_in_time()
        for number, name in enumerate(names):
            if number % 2 == 0:
                told = [line for line in exporter.lines if f"target={name} " in line]
                assert page.samples("r2_probes_total", target=name, result="failure") == 0, told
                assert successes(page, name) - successes(first, name) >= 3 * len(EVERYTHING)
                assert page.samples("r2_probes_skipped_total", target=name) == 0
            else:
                assert successes(page, name) == successes(first, name)
                assert page.samples("r2_probe_errors_total", target=name, reason="timeout") >= 1
