"""Minutes of everything that can go wrong, at random, and what is always true all the same.

`make soak` makes them longer. The seed of a run stands in what pytest reports of it.
"""

import asyncio
import os
import random
import resource
import signal
import sqlite3
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import trustme

from exporter.keys import parse_key
from exporter.outcome import Operation
from tests.alertmanager.rig import Scripted, answering, garbling, hanging, member, resetting
from tests.conftest import server_context
from tests.faults.kinds import KINDS
from tests.faults.server import FaultServer, fault_server, later, noting
from tests.faults.watch import (
    Watch,
    active_alerts,
    assert_history_agrees,
    kept_of_alerts,
    quiet_names,
    told_of_alerts,
)
from tests.hostile.effort import times
from tests.running import Client, eventually, serving_command, target, write
from tests.stores import PREFIX

INTERVAL = 1.0
TARGETS = 12
SERVERS = 4
NAMES = quiet_names(TARGETS)
PASSING = "passing"
"""A target that is configured at times. It only reads: nobody would sweep for it at the end."""
CHANGING = (Operation.PUT, Operation.DELETE)
READING = (Operation.HEAD, Operation.LIST)
FOREIGN = {f"{PREFIX}{name}": name.encode() for name in ("", "mine", "2026/mine", "../mine")}
"""Objects of others, under the very prefix."""
TROUBLES = 80
MEMORY = 24
"""MiB that an exporter may have more after its first minute: its caches are full then."""


@dataclass
class Campaign:
    """An exporter, the storages it probes, and whoever disturbs them."""

    watch: Watch
    config: Path
    servers: list[FaultServer]
    alertmanager: Scripted
    trusted: ssl.SSLContext
    """What the last of the servers shows, unless it is in trouble."""
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    met: set[tuple[str, Operation]] = field(default_factory=set)
    pending: list[tuple[str, Operation]] = field(default_factory=list)

    async def trouble(self) -> None:
        """One more of some kind."""
        kinds: list[Callable[[], Any]] = [self.fault] * 16 + [self.heal] * 4
        kinds += [self.reload, self.reload_of_rubbish, self.half_written, self.hold_up, self.lock]
        kinds += [self.stop_and_go, self.late, self.no_connection, self.reset_breakers, self.call]
        kinds += [self.full_disk, self.no_descriptors, self.certificate, *[self.alerts_unheard] * 2]
        kind = self.chance.choice(kinds)
        self.done[kind.__name__] += 1
        await kind()

    async def fault(self) -> None:
        """Operations of each storage go wrong in some way: first in those that none has met yet."""
        for server in 2 * self.servers:
            if not self.pending:
                every = [(kind, operation) for kind in KINDS for operation in Operation]
                self.pending = [each for each in every if each not in self.met] or every
                self.chance.shuffle(self.pending)
            kind, operation = self.pending.pop()
            server.script[operation] = noting(KINDS[kind], partial(self.met.add, (kind, operation)))

    async def heal(self) -> None:
        self.make_well(self.chance.choice(self.servers))

    def make_well(self, server: FaultServer) -> None:
        server.heal()
        self.servers[-1].tls = self.trusted

    async def certificate(self) -> None:
        """Of an authority that nobody knows, for connections from now on."""
        self.servers[-1].tls = server_context(trustme.CA().issue_cert("127.0.0.1"))

    async def alerts_unheard(self) -> None:
        """Alertmanager is there, but dead in some way, or comes back."""
        ways = [hanging, resetting, garbling, answering(503), *[answering(200)] * 2]
        self.alertmanager.behave = self.chance.choice(ways)

    async def late(self) -> None:
        server = self.chance.choice(self.servers)
        server.script[self.chance.choice(list(Operation))] = later(0.1, server.healthy)

    async def no_connection(self) -> None:
        server = self.chance.choice(self.servers)
        server.on_connect = KINDS[self.chance.choice(["hangs", "resets", "closes", "no HTTP"])]
        server.accept_delay = self.chance.choice([0, 1])

    async def reload(self) -> None:
        """Some signals in a row, for a file that is different; one target comes and goes with it."""
        self.write_config(self.chance.choice([[], [PASSING]]), team=str(self.chance.random()))
        for _ in range(self.chance.randrange(1, 5)):
            self.watch.exporter.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(self.chance.choice([0, 0.01]))

    async def reload_of_rubbish(self) -> None:
        self.config.write_bytes(self.chance.randbytes(200))
        self.watch.exporter.process.send_signal(signal.SIGHUP)

    async def half_written(self) -> None:
        self.write_config()
        begun = self.config.read_text()[: self.chance.randrange(2000)]
        self.config.write_text(f"{begun}\n  - {{name: ")
        self.watch.exporter.process.send_signal(signal.SIGHUP)

    async def hold_up(self) -> None:
        """The whole process, as a busy host or a snapshot of the machine does."""
        async with self.watch.stopped:
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
        """All is well, and the exporter has seen it."""
        for server in self.servers:
            self.make_well(server)
        self.alertmanager.behave = answering(200)
        self.write_config()
        self.watch.exporter.process.send_signal(signal.SIGHUP)
        client = Client(self.watch.exporter.url)
        await client.post("/api/health/circuit-breaker/reset")
        await eventually(lambda: client.has("r2_target_up"))
        await eventually(lambda: client.has_value(TARGETS, "r2_target_up"))
        await eventually(lambda: client.has_value(1, "r2_exporter_history_up"))

    def write_config(self, more: Iterable[str] = (), **labels: str) -> None:
        write_config(self.config, self.servers, self.alertmanager, more, **labels)

    async def heard(self) -> bool:
        """Whether the last that Alertmanager was told of each alert is what the page shows."""
        last = {
            (alert["labels"]["target"], alert["labels"]["type"]): datetime.fromisoformat(alert["endsAt"])
            for body in self.alertmanager.bodies
            for alert in body
        }
        told = {alert for alert, ends in last.items() if ends.timestamp() > time.time()}
        return told == active_alerts(await self.watch.scrape())


def write_config(
    config: Path, servers: list[FaultServer], alertmanager: Scripted, more: Iterable[str] = (), **labels: str
) -> None:
    """Every third target has no breaker, so that its storage is asked on and on."""
    targets = []
    for number, name in enumerate([*NAMES, *more]):
        server = servers[number % SERVERS]
        settings: dict[str, Any] = {
            "labels": labels,
            "breaker": {"enabled": False} if number % 3 == 0 else {"recovery_timeout": "1s"},
            "probe": {
                "interval": f"{INTERVAL:g}s",
                "timeout": "500ms",
                "operations": [str(each) for each in (READING if name == PASSING else Operation)],
            },
        }
        if server.tls is not None:
            settings["ca_file"] = "ca.pem"
        targets.append(target(name, server.endpoint, "bucket", **settings))
    urls = [alertmanager.url, "http://127.0.0.1:1"]
    write(config, *targets, alertmanager={"urls": urls, "timeout": "1s"})


def leftovers(servers: list[FaultServer]) -> int:
    """Objects that wait for a sweep. All that was ever written or deleted is one of the exporter's."""
    for server in servers:
        changed = {each.key for each in server.requests if each.operation in CHANGING}
        assert all(parse_key(PREFIX, key) for key in changed), changed
        assert server.objects.items() >= FOREIGN.items()
    return sum(len(server.objects) - len(FOREIGN) for server in servers)


@asynccontextmanager
async def campaign(folder: Path, seed: int) -> AsyncIterator[Campaign]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trusted = server_context(authority.issue_cert("127.0.0.1"))
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(fault_server(tls)) for tls in [*[None] * (SERVERS - 1), trusted]
        ]
        for server in servers:
            server.objects.update(FOREIGN)
        alertmanager = await stack.enter_async_context(member())
        config = folder / "exporter.yaml"
        write_config(config, servers, alertmanager)
        exporter = await stack.enter_async_context(serving_command(config))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        watch = Watch(exporter, NAMES, INTERVAL, session)
        yield Campaign(watch, config, servers, alertmanager, trusted, random.Random(seed))


async def test_a_bad_day(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    seed = int(os.environ.get("R2_EXPORTER_SEED", random.randrange(1 << 32)))
    record_property("seed", seed)
    async with campaign(tmp_path, seed) as it:
        watch = it.watch
        await it.peace()
        first = await watch.settled()
        descriptors, memory = watch.descriptors(), watch.memory()
        async with watch.scraping():
            while it.done.total() < times(TROUBLES) or len(it.met) < len(KINDS) * len(Operation):
                assert it.done.total() < 3 * times(TROUBLES), it.pending
                await it.trouble()
                await asyncio.sleep(it.chance.uniform(0, 0.15))
        await it.peace()
        await Client(watch.exporter.url).post("/api/health/monitoring/stop")
        await eventually(it.heard)
        last = await watch.settled()
        turns = watch.assert_each_turn_counted_once(first, last)
        more = {
            "descriptors more": watch.descriptors() - descriptors,
            "MiB more": round((watch.memory() - memory) / 2**20, 1),
        }
        assert await watch.exporter.end() == 0
        assert last.samples("r2_exporter_history_dropped_total") == 0
        results = assert_history_agrees(tmp_path / "r2-exporter.db", last)
        assert_alerts_were_kept(tmp_path / "r2-exporter.db", watch.exporter.lines)
        for text in ("Traceback", "unexpected", "never awaited", "never retrieved", "destroyed"):
            assert not watch.exporter.said(text), seed
        assert leftovers(it.servers) <= last.samples("r2_probe_cleanups_total", result="failure")
    for name, value in {**it.done, **more, "turns": turns, "pages": watch.pages, "results": results}.items():
        record_property(name, value)
    record_property("kinds of faults met, by operation", len(it.met))
    record_property("times Alertmanager was told", len(it.alertmanager.bodies))
    record_property("slowest page, seconds", round(watch.slowest, 3))
    assert more["descriptors more"] <= TARGETS
    assert more["MiB more"] <= MEMORY
    watch.assert_in_time()


def assert_alerts_were_kept(history: Path, lines: list[str]) -> None:
    """Each that was raised, and no other; one that came and went while nothing could be written may lack."""
    with closing(sqlite3.connect(history)) as connection:
        kept, told = kept_of_alerts(connection), told_of_alerts(lines)
    assert told
    assert not kept - told
    if not any("the history cannot be written now" in line for line in lines):
        assert kept == told
