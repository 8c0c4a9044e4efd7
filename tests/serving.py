"""A web application of a test's own, on connections as the exporter has them, and raw sockets to it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from exporter.web.connection import Connections, Patience
from exporter.web.turns import Turns

DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class Served:
    """Where it listens."""

    url: str
    port: int
    connections: Connections
    clients: list["Raw"] = field(default_factory=list)

    async def open(self) -> "Raw":
        """A client that lasts as long as the application."""
        self.clients.append(Raw(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]


@dataclass(frozen=True, slots=True)
class Raw:
    """A client that sends and reads bytes as it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, text: str) -> None:
        self.writer.write(text.encode())

    async def rest(self) -> bytes:
        """Everything until the server closes the connection; b"" if it has dropped it."""
        try:
            async with asyncio.timeout(DEADLINE):
                return await self.reader.read()
        except ConnectionResetError:
            return b""

    async def answer(self) -> "Answer":
        """One whole answer."""
        async with asyncio.timeout(DEADLINE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.splitlines()
            headers = dict(line.split(": ", 1) for line in lines if line)
            body = await self.reader.readexactly(int(headers["Content-Length"]))
        return Answer(int(first.split()[1]), headers, body)

    async def trickle(self, text: str) -> bytes:
        """Sends a byte every now and then; what comes back until the server has enough of it."""
        # Not a byte after the answer has begun: one that meets a closed end would take the answer along.
        first = asyncio.create_task(self.reader.read(1))
        for byte in text.encode():
            await asyncio.wait({first}, timeout=0.02)
            if first.done():
                break
            self.writer.write(bytes([byte]))
        try:
            return await first + await self.rest()
        except ConnectionResetError:  # a byte met a closed end all the same
            return b""

    async def close(self) -> None:
        self.writer.transport.abort()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert error.keys() == {"code", "message", "details"}
        return str(error["code"])


@asynccontextmanager
async def serving(
    app: web.Application,
    patience: Patience | None = None,
    tls: ssl.SSLContext | None = None,
    turns: Turns | None = None,
) -> AsyncIterator[Served]:
    """`app` on a free port."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    headers = {"X-Bare": "yes"}
    connections = Connections(runner, patience or Patience(), lambda: headers, turns or Turns())
    listener = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    served = Served(f"{'https' if tls else 'http'}://127.0.0.1:{port}", port, connections)
    try:
        yield served
    finally:
        for client in served.clients:
            await client.close()
        listener.close()
        await runner.cleanup()
