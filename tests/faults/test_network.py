"""The network and the name servers go and come back: storages fail for so long, the exporter does not."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from exporter.outcome import Operation
from tests.faults.dns import dns_server
from tests.faults.island import ADDRESS, NAME_SERVER, network, on_an_island
from tests.faults.server import FaultServer, fault_server
from tests.faults.watch import Page, Watch, assert_history_agrees, quiet_names
from tests.hostile.effort import times
from tests.running import Client, eventually, serving_command, target, write

NAMES = quiet_names(5)
INTERVAL = 1.0
MEMORY = 24 << 20
BREAKER = {"recovery_timeout": "1s"}


@dataclass
class Outage:
    """An exporter of one storage that cannot be reached at times."""

    watch: Watch
    storage: FaultServer
    client: Client

    async def lasts_until_seen(self, reason: str) -> None:
        """Each target is down for this reason, and /metrics answers all the while."""
        before = (await self.watch.scrape()).samples
        counted = before("r2_probe_errors_total", reason=reason)

        async def is_seen() -> bool:
            page = (await self.watch.scrape()).samples
            errors = page("r2_probe_errors_total", reason=reason)
            return page("r2_target_up") == 0 and errors >= counted + len(NAMES)

        await eventually(is_seen)

    async def ends(self) -> None:
        await eventually(lambda: self.client.has_value(len(NAMES), "r2_target_up"))


@asynccontextmanager
async def outage(folder: Path, host: str, **more: object) -> AsyncIterator[Outage]:
    """At its end it has counted each turn once, and all of them are in the history."""
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(fault_server(host=host, address=ADDRESS))
        operations = [str(operation) for operation in Operation]
        probe = {"interval": f"{INTERVAL:g}s", "timeout": "800ms", "operations": operations}
        each = [target(name, storage.endpoint, "bucket", probe=probe, breaker=BREAKER) for name in NAMES]
        config = write(folder / "exporter.yaml", *each, **more)
        exporter = await stack.enter_async_context(serving_command(config))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        watch = Watch(exporter, NAMES, INTERVAL, session)
        it = Outage(watch, storage, Client(exporter.url))
        await eventually(lambda: it.client.has("r2_target_up"))
        await it.ends()
        first = await watch.settled()
        descriptors, memory = watch.descriptors(), watch.memory()
        yield it
        await it.client.post("/api/health/monitoring/stop")
        last = await watch.settled()
        assert watch.assert_each_turn_counted_once(first, last) > 0
        assert watch.descriptors() <= descriptors + len(NAMES)
        assert watch.memory() <= memory + MEMORY
        assert last.samples("r2_probe_cleanups_total", result="failure") >= len(storage.objects)
        assert await exporter.end() == 0
        assert_history_agrees(folder / "r2-exporter.db", last)
        watch.assert_in_time()
        for text in ("Traceback", "unexpected", "never awaited", "never retrieved"):
            assert not exporter.said(text)


@on_an_island
async def test_the_network_is_gone_and_comes_back(tmp_path: Path) -> None:
    """Both what is under way, which hangs, and what begins then, which has no route."""
    async with outage(tmp_path, ADDRESS, alertmanager={"urls": [f"http://{ADDRESS}:9093"]}) as it:
        for _ in range(times(3)):
            network(there=False)
            await it.lasts_until_seen("connect")
            network(there=True)
            await it.ends()


@on_an_island
async def test_name_servers_are_dead_or_slow_or_know_nothing(tmp_path: Path) -> None:
    """Connections that are open need no name, so they are closed each time."""
    async with AsyncExitStack() as stack:
        dns = await stack.enter_async_context(dns_server(0, NAME_SERVER))
        dns.knows = ADDRESS
        it = await stack.enter_async_context(outage(tmp_path, "s3.example.test"))
        for _ in range(times(1)):
            for rcode, delay, reason in ((None, 0.0, "timeout"), (0, 2.0, "timeout"), (3, 0.0, "dns")):
                dns.rcode, dns.delay = rcode, delay
                disconnect(it.storage)
                await it.lasts_until_seen(reason)
                dns.rcode, dns.delay = 0, 0.0
                await it.ends()
        before = await it.watch.settled()
        dns.delay, asked = 0.1, dns.questions
        disconnect(it.storage)
        enough = before.samples("r2_probes_total") + 3 * len(NAMES) * len(Operation)
        await eventually(lambda: it.client.has_more(enough, "r2_probes_total"))
        assert dns.questions > asked
        assert failures(await it.watch.settled()) == failures(before)


def disconnect(storage: FaultServer) -> None:
    for connection in storage.open:
        connection.cancel()


def failures(page: Page) -> float:
    return page.samples("r2_probes_total", result="failure")
