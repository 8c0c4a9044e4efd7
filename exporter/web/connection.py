"""One client's connection: how long the client may be slow, how many there are, and what junk is answered.

By itself aiohttp takes any number of connections. It waits an hour for the head of a request, and without
end for an answer, or the rest of one on a connection that it closes, to be read.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from exporter.web import errors
from exporter.web.turns import Turns

MAX_LINE = 8 * 1024
MAX_FIELD = MAX_LINE - 2
"""Not the same as MAX_LINE: by the bound that it names, an error tells a long URL from a long header."""
PROGRESS = 32 * 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a client may take, and how many connections there may be."""

    handshake: float = 10.0
    head: float = 10.0
    body: float = 10.0
    stall: float = 30.0
    """Reads less than `PROGRESS` bytes of an answer that waits for it."""
    idle: float = 75.0
    """Sends no further request; above the minute that proxies keep a connection for."""
    linger: float = 5.0
    """Goes on to send what was refused; it may not read the refusal before."""
    closing: float = 10.0
    """Reads the end of its last answer."""
    connections: int = 512


class Connections:
    """Makes the connections of a runner that is set up. One too many replaces the one idle longest.

    Each request waits for its turn, of those that `turns` gives.
    """

    def __init__(
        self,
        runner: web.BaseRunner,
        patience: Patience,
        get_headers: Callable[[], Mapping[str, str]],
        turns: Turns,
    ) -> None:
        if runner.server is None:
            raise RuntimeError("the runner is not set up")
        self.server = server = runner.server
        self.patience = patience
        self.get_headers = get_headers
        self.closing = False
        self._open: dict[Connection, None] = {}
        handle = server.request_handler

        async def handle_known(request: web.BaseRequest) -> web.StreamResponse:
            if isinstance(request.protocol, Connection):
                request.protocol.head_arrived()
                await request.protocol.turn(turns)
            try:
                return await handle(request)
            except web.HTTPException as raised:
                # Before any middleware runs, aiohttp refuses what Expect asks.
                if raised.status < 400:
                    raise
                return errors.of(raised, request)

        server.request_handler = handle_known

    def __call__(self) -> "Connection":
        return Connection(self, asyncio.get_running_loop())

    def opened(self, connection: "Connection") -> None:
        if len(self._open) >= self.patience.connections:
            idle = next((each for each in self._open if each.idle), connection)
            idle.abort()
            self.closed(idle)
            if idle is connection:
                return
        self._open[connection] = None

    def used(self, connection: "Connection") -> None:
        """Puts it at the end of those that may have to go."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def closed(self, connection: "Connection") -> None:
        self._open.pop(connection, None)

    def close(self) -> None:
        """From now on nothing is answered but what has had its turn."""
        self.closing = True
        for connection in self._open:
            connection.forgo_turn()


class Connection(web.RequestHandler):
    """aiohttp's side of one connection, with a deadline for whatever the client has to do next."""

    def __init__(self, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        patience = connections.patience
        options: dict[str, Any] = {
            "keepalive_timeout": patience.idle,
            "lingering_time": patience.linger,
            "max_line_size": MAX_LINE,
            "max_field_size": MAX_FIELD,
            "auto_decompress": False,  # no compressed body is taken, and what is passed over stays as it is
            "access_log": None,
        }
        super().__init__(connections.server, loop=loop, **options)
        self._connections = connections
        self._patience = patience
        self._socket: asyncio.Transport | None = None
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._last: asyncio.TimerHandle | None = None
        self._turn: asyncio.Future[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is being answered; the head of one may have begun to arrive."""
        return self._waiter is not None and not self._waiter.done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)  # what TCP has; uvloop's is no subclass
        self._head = self._after(self._patience.head)
        super().connection_made(transport)
        self._connections.opened(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is None and self.idle:
            self._head = self._after(self._patience.head)

    def head_arrived(self) -> None:
        """A request is going to be answered."""
        _cancel(self._head)
        self._head = None
        self._connections.used(self)

    async def turn(self, turns: Turns) -> None:
        """Waits for it. Raises ConnectionError if the connection closes before."""
        self._turn = turns.next()
        if self._connections.closing:
            self.forgo_turn()
        await self._turn

    def forgo_turn(self) -> None:
        """Without this, the requests of callers who have left would make those who stay wait."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_exception(ConnectionResetError("the connection closes before its turn"))
            self._turn.exception()  # nobody may be there any more to retrieve it

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()

    def _watch_reading(self) -> None:
        """An answer that is written in one piece pauses once, however long the client goes on to read."""
        if self._socket is None:
            return
        unread = self._socket.get_write_buffer_size()

        def check() -> None:
            if self._socket is None or self._socket.get_write_buffer_size() > unread - PROGRESS:
                self.abort()
            else:
                self._watch_reading()

        self._stall = self._loop.call_later(self._patience.stall, check)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._stall)

    async def start(self) -> None:
        try:
            await super().start()
        finally:
            # The connection is closing now, once the client has read what it was sent: if it ever does.
            if self._socket is not None:
                self._last = self._after(self._patience.closing)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._socket = None
        for timer in (self._head, self._stall, self._last):
            _cancel(timer)
        self.forgo_turn()
        self._connections.closed(self)

    def abort(self) -> None:
        """Drops the client at once, whatever it was sent."""
        if self._socket is not None:
            self._socket.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """What does not parse as HTTP, or a defect outside of every middleware, in the JSON form.

        aiohttp would log each with a traceback, and send back what it could not read.
        """
        self.head_arrived()
        if isinstance(exc, ConnectionError):
            raise exc  # the client has left in the middle of an answer, which aiohttp passes over
        if isinstance(exc, HttpProcessingError):
            log.debug("a request is not HTTP", client=request.remote, cause=type(exc).__name__)
            answer = _malformed(exc)
        else:
            log.error("a request failed unexpectedly", exc_info=exc)
            answer = errors.error(500, "internal_error", "The exporter failed to answer; its log says why.")
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        answer.headers.update(self._connections.get_headers())
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Passes over what aiohttp does to itself when an answer ends just as it gives up waiting for it."""
        if not (self._connections.closing and isinstance(kw.get("exc_info"), asyncio.InvalidStateError)):
            super().log_exception(*args, **kw)

    def _after(self, seconds: float) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, self.abort)


def _malformed(exc: HttpProcessingError) -> web.Response:
    if not isinstance(exc, LineTooLong):
        return errors.error(400, "bad_request", "This is not a valid HTTP request.")
    if str(MAX_LINE) in map(str, exc.args):
        return errors.error(414, "uri_too_long", f"The URL is longer than {MAX_LINE} bytes.")
    message = f"A header is longer than {MAX_FIELD} bytes."
    return errors.error(431, "request_header_fields_too_large", message)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
