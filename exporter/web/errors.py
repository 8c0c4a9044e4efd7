"""Every error answers in one JSON form."""

from collections.abc import Sequence

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

# RFC 9110's names; Python before 3.13 gives older ones.
RENAMED = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}

log = structlog.get_logger(__name__)


def error(status: int, code: str, message: str, details: Sequence[object] = ()) -> web.Response:
    """`{"error": {"code", "message", "details"}}` with the fitting HTTP status."""
    body = {"error": {"code": code, "message": message, "details": list(details)}}
    return web.json_response(body, status=status)


def allowed_methods(request: web.Request) -> str | None:
    """What a path takes, as the header Allow lists it; None unless it refuses the request's method."""
    refused = request.match_info.http_exception
    if not isinstance(refused, web.HTTPMethodNotAllowed):
        return None
    return ", ".join(sorted({*refused.allowed_methods, "OPTIONS"}))


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns aiohttp's own errors (404, 405, 413) into that form, and a defect into a bare 500.

    No route has to speak of OPTIONS: it is answered here with the methods that the path takes.
    """
    methods = allowed_methods(request)
    if request.method == "OPTIONS" and methods is not None:
        return web.Response(status=204, headers={"Allow": methods})
    try:
        return await handler(request)
    except web.HTTPException as raised:
        if raised.status < 400:
            raise
        answer = of(raised, request)
        if methods is not None:
            answer.headers["Allow"] = methods
        elif "Allow" in raised.headers:
            answer.headers["Allow"] = raised.headers["Allow"]
        return answer
    except ConnectionError:
        raise  # the client has left in the middle of an answer, which aiohttp expects
    except Exception:
        log.exception("a request failed unexpectedly", method=request.method, path=request.path)
        return error(500, "internal_error", "The exporter failed to answer; its log says why.")


def of(raised: web.HTTPException, request: web.BaseRequest) -> web.Response:
    """One of aiohttp's own errors in that form."""
    name = RENAMED.get(raised.status, raised.reason)
    return error(raised.status, name.lower().replace(" ", "_"), _message(request, raised))


def _message(request: web.BaseRequest, raised: web.HTTPException) -> str:
    match raised:
        case web.HTTPNotFound():
            return f"Nothing is at {request.path}; / lists what there is."
        case web.HTTPMethodNotAllowed():
            return f"{request.path} takes {', '.join(sorted(raised.allowed_methods))}, not {raised.method}."
        case web.HTTPRequestEntityTooLarge():
            return "The request's body is larger than is taken here."
        case _:
            return raised.text or raised.reason
