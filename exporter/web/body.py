"""What may come along with a request: how much, how long it may take, and that the API takes JSON alone."""

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from exporter.web.errors import error
from exporter.web.paths import WEBHOOK, in_api

MAX_BODY = 64 * 1024
MAX_WEBHOOK_BODY = 1024 * 1024
"""Alertmanager sends all alerts of a group in one."""


def whole_body(seconds: float) -> Middleware:
    """Reads the body before the handler runs, in at most `seconds` all in all; bad ones never reach it.

    A form of another site's page can send text, but never the content type of JSON.
    """

    @web.middleware
    async def whole_body(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.body_exists or request.match_info.http_exception is not None:
            return await handler(request)
        limit = MAX_WEBHOOK_BODY if request.path == WEBHOOK else MAX_BODY
        if (request.content_length or 0) > limit:
            return _too_large(limit)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return error(415, "unsupported_media_type", "Send the body without Content-Encoding.")
        request = request.clone(client_max_size=limit)
        try:
            async with asyncio.timeout(seconds):
                body = await request.read()
        except TimeoutError:
            message = f"The body did not arrive within {seconds:g} s."
            return _closing(error(408, "request_timeout", message))
        except web.HTTPRequestEntityTooLarge:
            return _too_large(limit)
        except web.RequestPayloadError:
            return _closing(error(400, "bad_request", "The body breaks off or is not framed as HTTP asks."))
        if body and in_api(request.path) and not _is_json(request):
            message = "The API takes JSON: send Content-Type: application/json, in UTF-8."
            return error(415, "unsupported_media_type", message)
        return await handler(request)

    return whole_body


def _is_json(request: web.Request) -> bool:
    charset = (request.charset or "utf-8").lower()
    return request.content_type == "application/json" and charset in ("utf-8", "utf8")


def _too_large(limit: int) -> web.Response:
    message = f"The body is larger than the {limit} bytes that are taken here."
    return _closing(error(413, "content_too_large", message))


def _closing(answer: web.Response) -> web.Response:
    """Nothing that follows on this connection could be told from the rest of the body."""
    answer.force_close()
    return answer
