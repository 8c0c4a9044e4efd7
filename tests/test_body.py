"""What a request may bring along: how much, in which form, and what the API makes of the rest."""

import io
import json
import zlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from exporter.web.body import MAX_BODY, MAX_WEBHOOK_BODY, whole_body
from exporter.web.errors import as_json
from tests.serving import serving

API, WEBHOOK, OTHER = "/api/echo", "/api/alertmanager/webhook", "/-/echo"
JSON = {"Content-Type": "application/json"}


def application() -> web.Application:
    """Answers with how much it was sent."""
    app = web.Application(middlewares=[as_json, whole_body(30.0)])

    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    for path in (API, WEBHOOK, OTHER):
        app.router.add_post(path, echo)
        app.router.add_put(path, echo)
    return app


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        (API, MAX_BODY - 1, 200),
        (API, MAX_BODY + 1, 413),
        (API, 20 * MAX_BODY, 413),
        (OTHER, MAX_BODY + 1, 413),
        (WEBHOOK, MAX_BODY + 1, 200),
        (WEBHOOK, MAX_WEBHOOK_BODY + 1, 413),
        ("/api/nothing", MAX_BODY + 1, 404),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_may_be_so_large_and_no_larger(path: str, size: int, status: int, chunked: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, size, 8192):
            yield b"x" * min(8192, size - start)

    async with serving(application()) as served, aiohttp.ClientSession() as session:
        body = parts() if chunked else io.BytesIO(b"x" * size)
        async with session.post(served.url + path, data=body, headers=JSON) as answer:
            assert answer.status == status
            text = await answer.text()
    if status == 200:
        assert int(text) == size
    else:
        assert json.loads(text)["error"].keys() == {"code", "message", "details"}


async def test_one_that_is_announced_as_too_large_is_not_waited_for() -> None:
    async with serving(application()) as served:
        client = await served.open()
        client.send(f"POST {API} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n")
        answer = await client.answer()
    assert (answer.status, answer.code) == (413, "content_too_large")


@pytest.mark.parametrize(
    ("path", "content_type", "status"),
    [
        (API, "application/json", 200),
        (API, "application/json; charset=utf-8", 200),
        (API, "Application/JSON;charset=UTF-8", 200),
        (API, None, 415),
        (API, "", 415),
        (API, "text/plain", 415),
        (API, "application/x-www-form-urlencoded", 415),
        (API, "multipart/form-data; boundary=a", 415),
        (API, "text/plain; application/json", 415),
        (API, "application/json; charset=utf-16", 415),
        (API, "application/json; charset=no-such", 415),
        (WEBHOOK, "text/plain", 415),
        (OTHER, "text/plain", 200),
    ],
)
async def test_the_api_takes_json_alone(path: str, content_type: str | None, status: int) -> None:
    sent = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    async with serving(application()) as served:
        client = await served.open()
        for method in ("POST", "PUT"):
            client.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{sent}Content-Length: 2\r\n\r\n{{}}")
            answer = await client.answer()
            assert answer.status == status
            assert status == 200 or answer.code == "unsupported_media_type"


async def test_without_a_body_no_content_type_is_needed() -> None:
    async with serving(application()) as served:
        client = await served.open()
        for length in ("", "Content-Length: 0\r\n"):
            client.send(f"POST {API} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n")
            assert (await client.answer()).body == b"0"


async def test_a_compressed_body_is_refused_before_it_grows() -> None:
    bomb = zlib.compress(b"\0" * 50_000_000)
    assert len(bomb) < MAX_BODY
    async with serving(application()) as served, aiohttp.ClientSession() as session:
        headers = JSON | {"Content-Encoding": "deflate"}
        async with session.post(served.url + API, data=bomb, headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Transfer-Encoding: chunked", "2\r\n{}\r\nzz\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 2", "{}"),
        ("Content-Length: two", "{}"),
    ],
)
async def test_a_body_that_is_framed_wrongly_is_400(framing: str, body: str) -> None:
    async with serving(application()) as served:
        client = await served.open()
        client.send(
            f"POST {API} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
        )
        await client.writer.drain()
        client.send(body)
        answer = await client.answer()
    assert (answer.status, answer.code) == (400, "bad_request")


async def test_a_client_may_ask_before_it_sends_the_body() -> None:
    async with serving(application()) as served:
        client = await served.open()
        client.send(
            f"POST {API} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        client.send("{}")
        assert (await client.answer()).body == b"2"
