"""Clients that are slow, too many or speak no HTTP, over real sockets."""

import asyncio
import socket

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from exporter.web.body import whole_body
from exporter.web.connection import MAX_FIELD, MAX_LINE, Patience
from exporter.web.errors import as_json
from tests.running import until
from tests.serving import Raw, Served, serving

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

GET = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SOON = 0.4


def application(seconds: float = 30.0) -> web.Application:
    app = web.Application(middlewares=[as_json, whole_body(seconds)])

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=await request.read() or b"hello")

    app.router.add_route("*", "/", answer)
    return app


async def is_served(served: Served) -> bool:
    client = await served.open()
    client.send(GET)
    status = (await client.answer()).status
    await client.close()
    return status == 200


# --- slow ones ---


async def test_a_head_that_does_not_end_is_cut_off_however_it_trickles() -> None:
    async with serving(application(), Patience(head=SOON)) as served:
        slow, silent = await served.open(), await served.open()
        assert await slow.trickle("GET / HTTP/1.1\r\nHost: localhost\r\nX-Padding: " + "a" * 4000) == b""
        assert await silent.rest() == b""
        assert await is_served(served)


async def test_the_head_of_a_later_request_on_a_connection_is_no_exception() -> None:
    async with serving(application(), Patience(head=SOON)) as served:
        client = await served.open()
        for _ in range(3):
            client.send(GET)
            assert (await client.answer()).body == b"hello"
        assert await client.trickle(GET.rstrip() + "\r\nX-Padding: " + "a" * 4000) == b""


async def test_between_requests_a_client_may_take_longer_but_not_for_ever() -> None:
    async with serving(application(), Patience(idle=SOON)) as served:
        client = await served.open()
        client.send(GET)
        assert (await client.answer()).body == b"hello"
        [connection] = served.connections._open
        assert connection._head is None  # the deadline of a head begins with it
        assert await client.rest() == b""


async def test_a_body_that_does_not_end_gets_408_however_it_trickles() -> None:
    async with serving(application(SOON), Patience(linger=SOON)) as served:
        client = await served.open()
        client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n")
        answer = await client.trickle("a" * 4000)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code": "request_timeout"' in answer
        assert await is_served(served)


async def test_a_client_that_does_not_read_its_answer_is_dropped() -> None:
    app, ended = application(), asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            ended.set()

    app.router.add_get("/endless", stream)
    async with serving(app, Patience(stall=SOON)) as served:
        client = await served.open()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a reading transport
        client.send(GET.replace("/ ", "/endless "))
        async with asyncio.timeout(30):
            await ended.wait()


async def test_a_client_that_reads_as_fast_as_it_can_is_left_alone() -> None:
    app, size = application(), 30_000_000

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * size)

    app.router.add_get("/large", large)
    async with serving(app, Patience(stall=1.0)) as served:
        client = await served.open()
        client.send(GET.replace("/ ", "/large "))
        async with asyncio.timeout(30):
            await client.reader.readuntil(b"\r\n\r\n")
            for _ in range(10):
                await client.reader.readexactly(size // 10)
                await asyncio.sleep(0.15)  # in all above what it may take to read nothing


async def test_a_client_that_does_not_take_note_of_the_end_is_dropped() -> None:
    app = application()

    async def narrow(request: web.Request) -> web.Response:
        # What does not fit into the socket stays in the transport, which waits for it before it closes.
        assert request.transport is not None
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return web.Response(body=b"x" * 50_000)

    app.router.add_get("/narrow", narrow)
    async with serving(app, Patience(closing=SOON)) as served:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with client:
            client.connect(("127.0.0.1", served.port))
            client.sendall(
                GET.replace("/ ", "/narrow ").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode()
            )
            await until(lambda: served.connections._open)
            await until(lambda: not served.connections._open)
            client.settimeout(30)
            assert len(await asyncio.to_thread(_read_all, client)) < 50_000


def _read_all(client: socket.socket) -> bytes:
    read = b""
    try:
        while chunk := client.recv(65536):
            read += chunk
    except ConnectionResetError:
        pass
    return read


# --- too many ---


async def test_one_too_many_takes_the_place_of_the_one_idle_longest() -> None:
    async with serving(application(), Patience(connections=3)) as served:
        clients: list[Raw] = []
        for _ in range(3):
            clients.append(await served.open())
            clients[-1].send(GET)
            await clients[-1].answer()
        clients[0].send(GET)  # so that the second is now the one idle longest
        await clients[0].answer()
        assert await is_served(served)
        assert await clients[1].rest() == b""
        for client in (clients[0], clients[2]):
            client.send(GET)
            assert (await client.answer()).status == 200


async def test_while_all_are_answered_one_too_many_is_dropped() -> None:
    app, opened = application(), asyncio.Event()

    async def hold(_: web.Request) -> web.Response:
        await opened.wait()
        return web.Response()

    app.router.add_get("/held", hold)
    async with serving(app, Patience(connections=2)) as served:
        busy = [await served.open() for _ in range(2)]
        for client in busy:
            client.send(GET.replace("/ ", "/held "))
        await until(lambda: [each.idle for each in served.connections._open] == [False, False])
        assert await (await served.open()).rest() == b""
        opened.set()
        for client in busy:
            assert (await client.answer()).status == 200
            await client.close()
        await until(lambda: not served.connections._open)
        assert await is_served(served)


# --- no HTTP ---


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"\x00\xff\x16\x03\x01junk\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer hunter2\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"a" * MAX_LINE + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "uri_too_long"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (MAX_FIELD + 1) + b"\r\n\r\n",
            431,
            "request_header_fields_too_large",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: a miracle\r\n\r\n",
            417,
            "expectation_failed",
        ),
    ],
)
async def test_what_is_no_request_is_told_so_in_json(
    caplog: pytest.LogCaptureFixture, request_bytes: bytes, status: int, code: str
) -> None:
    async with serving(application()) as served:
        client = await served.open()
        client.writer.write(request_bytes)
        answer = await client.answer()
        assert (answer.status, answer.code) == (status, code)
        assert answer.headers["Content-Type"].startswith("application/json")
        assert status == 417 or answer.headers["X-Bare"] == "yes"
        assert b"hunter2" not in answer.body
        assert await is_served(served)
    assert caplog.records == []


async def test_a_defect_outside_of_every_middleware_is_a_bare_500() -> None:
    async def fail(_: web.Request) -> web.Response:
        raise ValueError("a detail for the log alone")

    app = web.Application()
    app.router.add_get("/", fail)
    async with serving(app) as served:
        client = await served.open()
        with capture_logs() as logs:
            client.send(GET)
            answer = await client.answer()
        assert (answer.status, answer.code) == (500, "internal_error")
        assert b"for the log alone" not in answer.body
        assert await client.rest() == b""
    assert [line["event"] for line in logs] == ["a request failed unexpectedly"]
