"""Storages in a process of their own, that fail at random as long as they may; and an Alertmanager.

    python -m tests.soak.storage SERVERS SEED

It first says where they are, then takes a line `trouble` or `calm` and says when that is so. At the end of
its input it ends, once every connection has, and says what there was.
"""

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from exporter.outcome import Operation
from tests.faults.kinds import KINDS
from tests.faults.server import FaultServer, fault_server, noting

PAUSE = 0.7
"""Seconds from one fault to the next."""
SHORT, LONG = 0.5, 6.0
"""Seconds that a fault lasts."""
OF_CONNECTIONS = ("hangs", "resets", "closes", "no HTTP")


@dataclass
class Storages:
    """Some servers, and whoever disturbs them."""

    servers: list[FaultServer]
    chance: random.Random
    pending: list[tuple[str, Operation]] = field(default_factory=list)
    faults: int = 0
    met: set[tuple[str, Operation]] = field(default_factory=set)
    operations: int = 0

    async def trouble(self) -> None:
        """Until cancelled; then all are well."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                server = self.chance.choice(self.servers)
                self._fault(server)
                loop.call_later(self.chance.uniform(SHORT, LONG), server.heal)
                await asyncio.sleep(PAUSE)
        finally:
            for server in self.servers:
                server.heal()

    def _fault(self, server: FaultServer) -> None:
        """Of an operation in some way; all are had before one comes again. At times of whole connections."""
        if not self.pending:
            self.pending = [(kind, operation) for kind in KINDS for operation in Operation]
            self.chance.shuffle(self.pending)
        kind, operation = self.pending.pop()
        server.script[operation] = noting(KINDS[kind], partial(self.met.add, (kind, operation)))
        self.faults += 1
        if self.chance.random() < 0.05:
            server.on_connect = KINDS[self.chance.choice(OF_CONNECTIONS)]
            server.accept_delay = self.chance.choice([0, 1])

    async def forget(self) -> None:
        """What was asked for is counted only: an hour of it would fill the memory."""
        while True:
            await asyncio.sleep(1)
            for server in self.servers:
                self.operations += len(server.requests)
                server.requests.clear()

    def told(self) -> dict[str, int]:
        return {
            "operations": self.operations,
            "faults": self.faults,
            "kinds": len(self.met),
            "connections": sum(server.connections for server in self.servers),
            "objects": sum(len(server.objects) for server in self.servers),
        }


@asynccontextmanager
async def alertmanager() -> AsyncIterator[str]:
    """Takes every alert; its URL."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def serve(servers: int, seed: int) -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(alertmanager())
        storages = Storages(
            [await stack.enter_async_context(fault_server()) for _ in range(servers)], random.Random(seed)
        )
        say({"endpoints": [server.endpoint for server in storages.servers], "alertmanager": url})
        forgetting = asyncio.create_task(storages.forget())
        disturbing: asyncio.Task[None] | None = None
        while line := await asyncio.to_thread(sys.stdin.readline):
            if disturbing is not None:
                disturbing.cancel()
                await asyncio.wait([disturbing])
            disturbing = asyncio.create_task(storages.trouble()) if line.strip() == "trouble" else None
            say(storages.told())
        forgetting.cancel()
    say(storages.told())


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
