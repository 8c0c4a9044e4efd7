"""`/metrics`: everything, in the format the scraper asks for."""

import asyncio
import re
from collections.abc import Iterable

from aiohttp import web

from exporter.exposition import negotiate
from exporter.web.keys import APP

routes = web.RouteTableDef()


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.StreamResponse:
    form, content_type = negotiate(request.headers.get("Accept"))
    return await stream(request, content_type, request.app[APP].metrics.registry.render(form))


async def stream(request: web.Request, content_type: str, chunks: Iterable[bytes]) -> web.StreamResponse:
    """Sends chunks as they are made; the event loop gets a turn after each, for probes to be timed well."""
    response = web.StreamResponse(headers={"Content-Type": content_type})
    compressed = _takes_gzip(request.headers.get("Accept-Encoding", ""))
    if request.method == "HEAD":
        if compressed:  # said only: aiohttp would send the end of an empty gzip stream as a body
            response.headers["Content-Encoding"] = "gzip"
        await response.prepare(request)
        return response
    if compressed:
        response.enable_compression(web.ContentCoding.gzip)
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
        await asyncio.sleep(0)
    await response.write_eof()
    return response


def _takes_gzip(accept_encoding: str) -> bool:
    """RFC 9110 section 12.5.3, as far as gzip is named: a weight of 0 refuses it."""
    for coding in accept_encoding.lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight) is None
    return False
