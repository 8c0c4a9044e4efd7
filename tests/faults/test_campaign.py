"""Minutes of everything that can go wrong, at random, and what is always true all the same.

`make soak` makes them longer. The seed of a run stands in what pytest reports of it.
"""

import asyncio
import os
import random
import resource
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from exporter.keys import parse_key
from exporter.outcome import Operation
from tests.faults.kinds import KINDS
from tests.faults.server import FaultServer, fault_server, later
from tests.faults.watch import Watch, assert_history_agrees, quiet_names
from tests.hostile.effort import times
from tests.running import Client, eventually, serving_command, target, write
from tests.stores import PREFIX

INTERVAL = 1.0
TARGETS = 12
SERVERS = 4
TROUBLES = 80
MEMORY = 24 << 20
"""Bytes that an exporter may have more after its first minute: its caches are full then."""


@dataclass
class Campaign:
    """An exporter, the storages it probes, and whoever disturbs them."""

    watch: Watch
    config: Path
    servers: list[FaultServer]
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    tried: set[tuple[str, Operation]] = field(default_factory=set)
    pending: list[tuple[str, Operation]] = field(default_factory=list)

    async def trouble(self) -> None:
        """One more of some kind."""
        kinds: list[Callable[[], Any]] = [self.fault] * 16 + [self.heal] * 4
        kinds += [self.reload, self.reload_of_rubbish, self.half_written, self.hold_up, self.lock]
        kinds += [self.stop_and_go, self.late, self.no_connection, self.reset_breakers, self.call]
        kinds += [self.full_disk, self.no_descriptors]
        kind = self.chance.choice(kinds)
        self.done[kind.__name__] += 1
        await kind()

    async def fault(self) -> None:
        """Operations of each storage go wrong in some way. All are had before one comes again."""
        for server in 2 * self.servers:
            if not self.pending:
                self.pending = [(kind, operation) for kind in KINDS for operation in Operation]
                self.chance.shuffle(self.pending)
            kind, operation = self.pending.pop()
            server.script[operation] = KINDS[kind]
            self.tried.add((kind, operation))

    async def heal(self) -> None:
        self.chance.choice(self.servers).heal()

    async def late(self) -> None:
        server = self.chance.choice(self.servers)
        server.script[self.chance.choice(list(Operation))] = later(0.1, server.healthy)

    async def no_connection(self) -> None:
        server = self.chance.choice(self.servers)
        server.on_connect = KINDS[self.chance.choice(["hangs", "resets", "closes", "no HTTP"])]
        server.accept_delay = self.chance.choice([0, 1])

    async def reload(self) -> None:
        """Some signals in a row, for a file that is different."""
        write_config(self.config, self.servers, team=str(self.chance.random()))
        for _ in range(self.chance.randrange(1, 5)):
            self.watch.exporter.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(self.chance.choice([0, 0.01]))

    async def reload_of_rubbish(self) -> None:
        self.config.write_bytes(self.chance.randbytes(200))
        self.watch.exporter.process.send_signal(signal.SIGHUP)

    async def half_written(self) -> None:
        write_config(self.config, self.servers)
        begun = self.config.read_text()[: self.chance.randrange(2000)]
        self.config.write_text(f"{begun}\n  - {{name: ")
        self.watch.exporter.process.send_signal(signal.SIGHUP)

    async def hold_up(self) -> None:
        """The whole process, as a busy host or a snapshot of the machine does."""
        self.watch.exporter.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.chance.choice([0.2, 1.5]))
        self.watch.exporter.process.send_signal(signal.SIGCONT)

    async def lock(self) -> None:
        with closing(sqlite3.connect(self.config.with_name("r2-exporter.db"), timeout=20)) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(self.chance.choice([0.1, 1.5]))

    async def full_disk(self) -> None:
        """No file may grow beyond a page."""
        await self.limit(resource.RLIMIT_FSIZE, 4096)

    async def no_descriptors(self) -> None:
        await self.limit(resource.RLIMIT_NOFILE, self.watch.descriptors())

    async def limit(self, of: int, to: int) -> None:
        """For a while."""
        pid = self.watch.exporter.process.pid
        soft, hard = resource.prlimit(pid, of)
        resource.prlimit(pid, of, (to, hard))
        await asyncio.sleep(self.chance.choice([0.1, 1.5]))
        resource.prlimit(pid, of, (soft, hard))

    async def stop_and_go(self) -> None:
        client = Client(self.watch.exporter.url)
        name = self.chance.choice(self.watch.names)
        await client.post(f"/api/health/monitoring/stop?target={name}")
        await asyncio.sleep(self.chance.random())
        await client.post(f"/api/health/monitoring/start?target={name}")

    async def reset_breakers(self) -> None:
        await Client(self.watch.exporter.url).post("/api/health/circuit-breaker/reset")

    async def call(self) -> None:
        for path in ("/", "/api/health", "/api/health/history?limit=500", "/api/health/metrics", "/nothing"):
            await Client(self.watch.exporter.url).get(path)

    async def peace(self) -> None:
        """All storages are well, and the exporter has seen it."""
        for server in self.servers:
            server.heal()
        write_config(self.config, self.servers)
        self.watch.exporter.process.send_signal(signal.SIGHUP)
        client = Client(self.watch.exporter.url)
        await client.post("/api/health/circuit-breaker/reset")
        await eventually(lambda: client.has("r2_target_up"))
        await eventually(lambda: client.has_value(TARGETS, "r2_target_up"))
        await eventually(lambda: client.has_value(1, "r2_exporter_history_up"))


def write_config(config: Path, servers: list[FaultServer], **labels: str) -> None:
    """Every third target has no breaker, so that its storage is asked on and on."""
    targets = []
    for number, name in enumerate(quiet_names(TARGETS)):
        more: dict[str, Any] = {"labels": labels, "breaker": {"recovery_timeout": "1s"}}
        if number % 3 == 0:
            more["breaker"] = {"enabled": False}
        operations = [str(operation) for operation in Operation]
        more["probe"] = {"interval": f"{INTERVAL:g}s", "timeout": "500ms", "operations": operations}
        targets.append(target(name, servers[number % SERVERS].endpoint, "bucket", **more))
    write(config, *targets, alertmanager={"urls": ["http://127.0.0.1:1"]})


def leftovers(servers: list[FaultServer]) -> int:
    """Objects that wait for a sweep, each of them one of the exporter's."""
    keys = [key for server in servers for key in server.objects]
    assert all(parse_key(PREFIX, key) for key in keys), keys
    return len(keys)


@asynccontextmanager
async def campaign(folder: Path, seed: int) -> AsyncIterator[Campaign]:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(fault_server()) for _ in range(SERVERS)]
        config = folder / "exporter.yaml"
        write_config(config, servers)
        exporter = await stack.enter_async_context(serving_command(config))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        watch = Watch(exporter, quiet_names(TARGETS), INTERVAL, session)
        yield Campaign(watch, config, servers, random.Random(seed))


async def test_a_bad_day(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    seed = int(os.environ.get("R2_EXPORTER_SEED", random.randrange(1 << 32)))
    record_property("seed", seed)
    async with campaign(tmp_path, seed) as it:
        watch = it.watch
        await it.peace()
        first = await watch.settled()
        descriptors, memory = watch.descriptors(), watch.memory()
        for _ in range(times(TROUBLES)):
            await it.trouble()
            await asyncio.sleep(it.chance.uniform(0, 0.15))
            await watch.scrape()
        await it.peace()
        await Client(watch.exporter.url).post("/api/health/monitoring/stop")
        last = await watch.settled()
        turns = watch.assert_each_turn_counted_once(first, last)
        assert watch.descriptors() <= descriptors + TARGETS
        assert watch.memory() <= memory + MEMORY
        assert await watch.exporter.end() == 0
        assert last.samples("r2_exporter_history_dropped_total") == 0
        results = assert_history_agrees(tmp_path / "r2-exporter.db", last)
        for text in ("Traceback", "unexpected", "never awaited", "never retrieved", "destroyed"):
            assert not watch.exporter.said(text), seed
        assert leftovers(it.servers) <= last.samples("r2_probe_cleanups_total", result="failure")
    for name, value in {**it.done, "turns": turns, "pages": watch.pages, "results": results}.items():
        record_property(name, value)
    record_property("kinds of faults, by operation", len(it.tried))
    record_property("slowest page, seconds", round(watch.slowest, 3))
    watch.assert_in_time()
    assert len(it.tried) == len(KINDS) * len(Operation)
