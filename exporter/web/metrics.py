"""`/metrics`: everything, in the format the scraper asks for."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable

from aiohttp import web

from exporter.exposition import negotiate
from exporter.web.keys import APP, PAGES, TURNS
from exporter.web.pages import compressed
from exporter.web.turns import Turns

routes = web.RouteTableDef()

SENDING_SECONDS = 120.0
"""The longest that a scraper may take to read a page, which stays in memory until then; Prometheus itself
gives up after its scrape_timeout."""


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.StreamResponse:
    fmt, content_type = negotiate(request.headers.get("Accept"))
    if gzip := _takes_gzip(request):
        chunks = request.app[PAGES].read(fmt)
    else:
        chunks = _in_turns(request.app[APP].metrics.registry.render(fmt), request.app[TURNS])
    return await _send(request, content_type, chunks, gzip=gzip)


async def one_target(request: web.Request, target: str) -> web.StreamResponse:
    """The page of one target."""
    fmt, content_type = negotiate(request.headers.get("Accept"))
    text = request.app[APP].metrics.registry.render(fmt, target)
    if gzip := _takes_gzip(request):
        text = compressed(text)
    return await _send(request, content_type, _in_turns(text, request.app[TURNS]), gzip=gzip)


async def _send(
    request: web.Request, content_type: str, chunks: AsyncIterator[bytes], *, gzip: bool
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": content_type})
    if gzip:
        response.headers["Content-Encoding"] = "gzip"
    await response.prepare(request)
    if request.method != "HEAD":
        try:
            async with asyncio.timeout(SENDING_SECONDS):
                async for chunk in chunks:
                    await response.write(chunk)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
    return response


async def _in_turns(chunks: Iterable[bytes], turns: Turns) -> AsyncIterator[bytes]:
    """Others get theirs after each, for probes to be timed well."""
    for chunk in chunks:
        yield chunk
        await turns.next()


def _takes_gzip(request: web.Request) -> bool:
    """RFC 9110 section 12.5.3, as far as gzip is named: a weight of 0 refuses it."""
    for coding in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight) is None
    return False
