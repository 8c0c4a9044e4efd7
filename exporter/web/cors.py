"""Letting pages of the origins in `api.cors_origins` call the JSON API, and no other.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from exporter.web.access import AccessPolicy
from exporter.web.errors import allowed_methods
from exporter.web.paths import in_api

REQUEST_HEADERS = "Authorization, Content-Type, If-Match"
EXPOSED_HEADERS = "ETag, Link, Retry-After"
PREFLIGHT_SECONDS = 600


def preflight(get_policy: Callable[[], AccessPolicy]) -> Middleware:
    """Answers what a browser asks before it sends a request; that question never has credentials."""

    @web.middleware
    async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        methods = allowed_methods(request)
        if methods is None or not is_preflight(request, get_policy()):
            return await handler(request)
        headers = {
            "Allow": methods,
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }
        return web.Response(status=204, headers=headers)

    return preflight


def is_preflight(request: web.Request, policy: AccessPolicy) -> bool:
    """Whether this is such a question, of a page that may call."""
    asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    return asked and bool(_allowed_origin(request, policy))


def add_headers(request: web.Request, response: web.StreamResponse, policy: AccessPolicy) -> None:
    """Says on an answer of the API whether the page that asked may read it."""
    if not in_api(request.path) or not (policy.trusted_origins or policy.any_origin):
        return
    vary = [response.headers["Vary"]] if "Vary" in response.headers else []
    response.headers["Vary"] = ", ".join([*vary, "Origin"])
    allowed = _allowed_origin(request, policy)
    if not allowed:
        return
    response.headers["Access-Control-Allow-Origin"] = allowed
    response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
    if allowed != "*":
        response.headers["Access-Control-Allow-Credentials"] = "true"


def _allowed_origin(request: web.Request, policy: AccessPolicy) -> str:
    """The origin to allow, `*` for any, "" for none. A login goes along to those that are listed alone."""
    origin = request.headers.get("Origin")
    if origin is None or not in_api(request.path):
        return ""
    if origin in policy.trusted_origins:
        return origin
    return "*" if policy.any_origin else ""
