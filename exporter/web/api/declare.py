"""Endpoints by declaration: what one takes and answers is said once, for checking and for the document."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web
from multidict import MultiDict
from pydantic import BaseModel

from exporter.history import HistoryUnavailableError
from exporter.web.api.parameters import Body, Query, RefusedError, parse_body, parse_query
from exporter.web.errors import error
from exporter.web.keys import APP

Q = TypeVar("Q", bound=Query)
B = TypeVar("B", bound=Body)
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HISTORY_SECONDS = 5.0
"""The longest that an answer waits for the history: a disk that hangs must not keep a client."""


SHORT_BODY = 4096
"""Bytes that are parsed in a fraction of a millisecond; what is longer is parsed off the event loop."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and method. `refusals` are the statuses of its errors beside those that all endpoints have.

    A field of `query` that `path` names in braces is taken from there.
    """

    name: str
    method: str
    path: str
    summary: str
    description: str
    query: type[Query]
    body: type[Body] | None
    answer: type[BaseModel]
    refusals: tuple[int, ...]
    handler: Handler
    tagged: bool = False
    """Whether GET answers with an ETag, and a write takes one in If-Match (RFC 9110, section 13)."""

    @property
    def route(self) -> web.RouteDef:
        declare = {"GET": web.get, "POST": web.post, "PUT": web.put}[self.method]
        return declare(self.path, self.handler)


def getting(
    path: str,
    *,
    query: type[Q],
    answer: type[BaseModel],
    refusals: tuple[int, ...] = (),
    tagged: bool = False,
) -> Callable[[Callable[[web.Request, Q], Awaitable[web.StreamResponse]]], Endpoint]:
    """A GET, and so a HEAD. The handler's docstring becomes its summary and description."""

    def declare(handler: Callable[[web.Request, Q], Awaitable[web.StreamResponse]]) -> Endpoint:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await handler(request, _asked(query, request))

        return Endpoint(
            **_told(handler),
            method="GET",
            path=path,
            query=query,
            body=None,
            answer=answer,
            refusals=refusals,
            handler=_refusing(handle),
            tagged=tagged,
        )

    return declare


def posting(
    path: str,
    *,
    query: type[Q],
    body: type[B],
    answer: type[BaseModel],
    refusals: tuple[int, ...] = (),
    method: str = "POST",
    tagged: bool = False,
) -> Callable[[Callable[[web.Request, Q, B], Awaitable[web.StreamResponse]]], Endpoint]:
    """A POST, or a PUT, with a JSON body, which may be left out where none of its fields is needed."""

    def declare(handler: Callable[[web.Request, Q, B], Awaitable[web.StreamResponse]]) -> Endpoint:
        async def handle(request: web.Request) -> web.StreamResponse:
            asked, sent = _asked(query, request), await request.read()
            if len(sent) <= SHORT_BODY:
                return await handler(request, asked, parse_body(body, sent))
            return await handler(request, asked, await asyncio.to_thread(parse_body, body, sent))

        return Endpoint(
            **_told(handler),
            method=method,
            path=path,
            query=query,
            body=body,
            answer=answer,
            refusals=refusals,
            handler=_refusing(handle),
            tagged=tagged,
        )

    return declare


def answered(model: BaseModel) -> web.Response:
    """A model as it is declared."""
    return web.Response(body=encoded(model), content_type="application/json")


def encoded(model: BaseModel) -> bytes:
    """The same off the event loop, where an answer is long."""
    return model.model_dump_json(by_alias=True).encode()


async def in_time(reading: Awaitable[T]) -> T:
    """What the history says, unless its disk hangs. Raises HistoryUnavailableError."""
    try:
        async with asyncio.timeout(HISTORY_SECONDS):
            return await reading
    except TimeoutError:
        message = f"the history did not answer within {HISTORY_SECONDS:g} s"
        raise HistoryUnavailableError(message) from None


def unknown_target(request: web.Request, name: str) -> web.Response:
    return error(404, "unknown_target", request.app[APP].shard.unknown(name))


def _asked(query: type[Q], request: web.Request) -> Q:
    """What the query string and the path say."""
    place = request.match_info
    if twice := sorted(place.keys() & request.query.keys()):
        raise RefusedError([{"field": name, "message": "stands in the path already"} for name in twice])
    return parse_query(query, MultiDict([*request.query.items(), *place.items()]))


def _refusing(handler: Handler) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RefusedError as refused:
            message = "; ".join(f"{each['field']}: {each['message']}" for each in refused.details)
            return error(400, "invalid_request", message, refused.details)
        except HistoryUnavailableError as unavailable:
            return error(503, "history_unavailable", str(unavailable))

    return handle


def _told(handler: Callable[..., object]) -> dict[str, str]:
    summary, _, rest = (handler.__doc__ or "").partition("\n")
    return {
        "name": getattr(handler, "__name__", ""),
        "summary": summary.strip(),
        "description": " ".join(rest.split()),
    }
