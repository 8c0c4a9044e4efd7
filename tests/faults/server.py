"""A small S3 server on real sockets that fails on demand, in one scripted way for each operation."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from exporter.outcome import Operation


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came; `connection` counts from 1, header names are in lower case."""

    operation: Operation
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def key(self) -> str:
        return urlsplit(self.target).path.split("/", 2)[-1]


@dataclass(slots=True)
class Call:
    """One request, or one fresh connection, in the hands of a behaviour."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: Received | None = None

    async def until_hung_up(self) -> None:
        """Wait until the client has closed the connection, whatever it still sends."""
        while await self.reader.read(65536):
            pass


Behaviour = Callable[[Call], Awaitable[None]]


class HangUpError(Exception):
    """The behaviour is done with this connection."""


def answer(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """A complete HTTP answer. Underscores in header names stand for dashes."""
    fields = {"Content-Length": str(len(body))} | {k.replace("_", "-"): v for k, v in headers.items()}
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def s3_error(status: int, code: str, message: str = "told by the test", **headers: str) -> bytes:
    """An answer with S3's error document; `headers` may hold `Region`, `Endpoint` or `RequestId` for it."""
    inside = {name: headers.pop(name) for name in ("Region", "Endpoint", "RequestId") if name in headers}
    parts = {"Code": code, "Message": message} | inside
    body = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in parts.items())
    xml = f'<?xml version="1.0" encoding="UTF-8"?><Error>{body}</Error>'.encode()
    return answer(status, xml, Content_Type="application/xml", **headers)


def send(data: bytes, *, hang_up: bool = False) -> Behaviour:
    """Send `data`, which may be anything but an HTTP answer."""

    async def behave(call: Call) -> None:
        call.writer.write(data)
        await call.writer.drain()
        if hang_up:
            raise HangUpError

    return behave


def send_and_linger(data: bytes) -> Behaviour:
    """Send `data` and nothing more, but stay connected until the client has had enough."""

    async def behave(call: Call) -> None:
        call.writer.write(data)
        await call.until_hung_up()
        raise HangUpError

    return behave


def reset_after(data: bytes = b"") -> Behaviour:
    """Send `data`, then reset the connection (SO_LINGER 0 makes close() send RST)."""

    async def behave(call: Call) -> None:
        if data:
            call.writer.write(data)
            await call.writer.drain()
            # A reset overtakes data that the client has not read yet: let the client take it first.
            await asyncio.sleep(0.05)
        connection: socket.socket = call.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        call.writer.transport.abort()
        raise HangUpError

    return behave


def drip(data: bytes, pause: float, *, head: bytes = b"") -> Behaviour:
    """Send `head` at once, then `data` byte by byte, `pause` seconds apart."""

    async def behave(call: Call) -> None:
        call.writer.write(head)
        for byte in data:
            call.writer.write(bytes([byte]))
            await call.writer.drain()
            await asyncio.sleep(pause)

    return behave


def flood(head: bytes) -> Behaviour:
    """Send `head`, then zeros until the client hangs up."""

    async def behave(call: Call) -> None:
        call.writer.write(head)
        while True:
            call.writer.write(bytes(65536))
            await call.writer.drain()

    return behave


def later(pause: float, behaviour: Behaviour) -> Behaviour:
    async def behave(call: Call) -> None:
        await asyncio.sleep(pause)
        await behaviour(call)

    return behave


def noting(behaviour: Behaviour, note: Callable[[], object]) -> Behaviour:
    """The same, but it tells that a request has met it."""

    async def behave(call: Call) -> None:
        note()
        await behaviour(call)

    return behave


@dataclass(slots=True)
class FaultServer:
    """Keeps objects in memory. `script` overrides single operations, `on_connect` whole connections."""

    host: str
    tls: ssl.SSLContext | None = None
    script: dict[Operation, Behaviour] = field(default_factory=dict)
    on_connect: Behaviour | None = None
    accept_delay: float = 0.0
    port: int = 0
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    open: set[asyncio.Task[None]] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    def heal(self) -> None:
        self.script.clear()
        self.on_connect = None
        self.accept_delay = 0.0

    def count(self, operation: Operation) -> int:
        return sum(request.operation is operation for request in self.requests)

    async def accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            self.connections += 1
            task = asyncio.create_task(self._connected(connection, self.connections))
            self.open.add(task)
            task.add_done_callback(self.open.discard)

    async def _connected(self, connection: socket.socket, number: int) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        # The kernel has connected already: until here a client waits for the TLS handshake.
        await asyncio.sleep(self.accept_delay)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self.tls)
        except OSError:
            connection.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._talk(Call(reader, writer), number)
        except (HangUpError, asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def _talk(self, call: Call, number: int) -> None:
        if self.on_connect is not None:
            await self.on_connect(call)
        while True:
            call.request = await _receive(call.reader, number)
            self.requests.append(call.request)
            behaviour = self.script.get(call.request.operation) or self.healthy
            await behaviour(call)

    async def healthy(self, call: Call) -> None:
        request = call.request
        assert request is not None
        call.writer.write(self._reply(request))
        await call.writer.drain()

    def _reply(self, request: Received) -> bytes:
        held = self.objects.get(request.key)
        match request.operation:
            case Operation.PUT:
                self.objects[request.key] = request.body
                return answer(200, ETag='"etag"', x_amz_request_id="put-1")
            case Operation.DELETE:
                self.objects.pop(request.key, None)
                return answer(204)
            case Operation.LIST:
                prefix = parse_qs(urlsplit(request.target).query)["prefix"][0]
                return answer(200, listing([key for key in self.objects if key.startswith(prefix)]))
            case Operation.HEAD if held is not None:
                return answer(200, ETag='"etag"', Content_Length=str(len(held)))
            case Operation.HEAD:
                return answer(404)
            case Operation.GET if held is not None:
                return answer(200, held)
        return s3_error(404, "NoSuchKey")


def listing(keys: list[str]) -> bytes:
    contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
    return f"<ListBucketResult>{contents}</ListBucketResult>".encode()


async def _receive(reader: asyncio.StreamReader, number: int) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    operation = Operation.LIST if "list-type=2" in target else Operation(method.lower())
    return Received(operation, target, headers, body, number)


@asynccontextmanager
async def fault_server(
    tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", address: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[FaultServer]:
    """A server on a free port. On the way out it proves that every connection has ended."""
    server = FaultServer(host, tls)
    with socket.create_server((address, port)) as listener:
        listener.setblocking(False)
        server.port = listener.getsockname()[1]
        accepting = asyncio.create_task(server.accept(listener))
        try:
            yield server
        finally:
            accepting.cancel()
            await asyncio.wait([accepting])
            async with asyncio.timeout(10):
                await asyncio.gather(*server.open)
