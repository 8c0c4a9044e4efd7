"""Connections to storages, kept open and shared by all who go to the same place in the same way.

aiohttp resolves, connects, keeps and speaks TLS. What is sent over a connection and what comes back is
the business of `exporter.s3.client`: aiohttp's own requests take longer than all else that a probe does.
"""

import asyncio
import ssl
import time
from functools import partial
from typing import Any

import aiohttp
from aiohttp import ClientRequest, ClientTimeout, StreamReader, tracing
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from exporter.outcome import Phase
from exporter.s3.address import Url
from exporter.s3.trace import Trace, current, watch

_NO_TIMEOUTS = ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_KEEP_SECONDS = 3600.0

MAX_OVERHEAD = 1 << 20
"""Bytes that are read of an answer besides its body: its head, and what frames the body."""


def host_of(origin: str) -> str:
    """What the Host header says."""
    return URL(origin, encoded=True).host_port_subcomponent or ""


class Pool:
    """Connections to one origin. Not for more than one event loop."""

    def __init__(
        self,
        origin: str,
        tls: ssl.SSLContext,
        proxy: str | None,
        resolver: aiohttp.abc.AbstractResolver | None,
    ) -> None:
        self.users = 0
        self._connector = _Connector(
            ssl=tls,
            resolver=resolver,
            use_dns_cache=False,
            keepalive_timeout=_KEEP_SECONDS,
            limit=0,
        )
        # Stands for all requests: it is what aiohttp's connector wants to be asked with.
        loop, proxy_url = asyncio.get_running_loop(), URL(proxy) if proxy else None
        self._request = ClientRequest("GET", URL(origin, encoded=True), loop=loop, proxy=proxy_url)
        self.host = host_of(origin)
        self._in_full = proxy is not None and not self._request.is_ssl()

    async def connect(self, trace: Trace) -> Connection:
        """A kept connection, or a new one; a new one in any case for a trace that is `fresh`."""
        watch(trace)
        connection = await self._connector.connect(self._request, _HOOKS, _NO_TIMEOUTS)
        trace.connected()
        return connection

    def request_target(self, url: Url) -> str:
        """What the request line says: the whole URL, if a proxy is to forward the request.

        https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
        """
        return str(url) if self._in_full else url.target

    def proxy_authorization(self) -> str | None:
        """For a proxy that forwards requests, known once connected; aiohttp tells it to one that tunnels."""
        return self._request.headers.get("Proxy-Authorization") if self._in_full else None

    async def close(self) -> None:
        await self._connector.close()


class Connections:
    """The pools. One is closed when its last user has left it."""

    def __init__(self, resolver: aiohttp.abc.AbstractResolver | None = None) -> None:
        self._resolver = resolver
        self._pools: dict[tuple[object, ...], Pool] = {}

    def enter(self, origin: str, tls: ssl.SSLContext, proxy: str | None) -> Pool:
        """The pool for these; to be left again."""
        key = (origin, tls, proxy)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(origin, tls, proxy, self._resolver)
        pool.users += 1
        return pool

    async def leave(self, pool: Pool) -> None:
        pool.users -= 1
        if not pool.users:
            self._pools = {key: kept for key, kept in self._pools.items() if kept is not pool}
            await pool.close()


class TimedHandler(ResponseHandler):
    """Notes when something arrives, before anything is made of it, and closes when it is too much.

    Whoever waits for it gets its turn later, at a busy moment by milliseconds that are not the storage's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.received_at = self.head_at = 0.0
        """When the last bytes came, and those that made the head of an answer complete."""
        self.room = MAX_OVERHEAD
        """Bytes that may still come, whatever they are: of a body's framing aiohttp takes any number."""

    def data_received(self, data: bytes) -> None:
        self.received_at = time.perf_counter()
        self.room -= len(data)
        if self.room >= 0:
            super().data_received(data)
        elif self.transport is not None:
            error = HttpProcessingError(message="the answer is too long")
            self.set_exception(error)
            if self._payload is not None:
                self._payload.set_exception(error)
            self.transport.close()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        self.head_at = self.received_at
        super().feed_data(data, size)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.received_at = time.perf_counter()  # the end of an answer without a length
        super().connection_lost(exc)


class _Connector(aiohttp.TCPConnector):
    """Closes a kept connection where a new one is to be seen, and lets the new one take its place."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(TimedHandler, loop=asyncio.get_running_loop())  # type: ignore[assignment]

    async def _get(self, key: Any, _traces: Any) -> Connection | None:
        kept = await super()._get(key, [])
        if kept is not None and current().fresh:
            kept.close()
            return None
        return kept


class _Hooks(tracing.Trace):
    """What aiohttp's connector tells of its steps, as marks on the current trace."""

    def __init__(self) -> None:
        pass

    async def send_connection_create_start(self) -> None:
        current().enter(Phase.CONNECT)

    async def send_connection_create_end(self) -> None:
        pass

    async def send_dns_resolvehost_start(self, _host: str) -> None:
        trace = current()
        trace.leave(Phase.CONNECT)  # aiohttp says that a connection begins before it resolves the name
        trace.enter(Phase.RESOLVE)

    async def send_dns_resolvehost_end(self, _host: str) -> None:
        current().enter(Phase.CONNECT)


_HOOKS: list[tracing.Trace] = [_Hooks()]
