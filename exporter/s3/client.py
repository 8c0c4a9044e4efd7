"""Sends one request and says what came back and how long each part took."""

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache

from aiohttp import ClientConnectionResetError, ClientOSError, ServerDisconnectedError, StreamReader
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError

from exporter.outcome import Phase
from exporter.s3.address import Url
from exporter.s3.connections import MAX_OVERHEAD, Connections, Pool, TimedHandler
from exporter.s3.printable import printable
from exporter.s3.trace import TimedSSLContext, Trace

_ALWAYS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "r2-exporter"}
_BREAKS_OUT = re.compile(r"[\x00\r\n]")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the storage said, header names in lower case; `truncated` when the body was cut at the limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)  # of a listing, megabytes
    truncated: bool = False
    certificate_expiry: float | None = None
    clock_skew: float | None = None

    @property
    def request_id(self) -> str:
        """The id to give to the storage's support: S3's own, or Cloudflare's ray on R2."""
        return printable(self.headers.get("x-amz-request-id") or self.headers.get("cf-ray", ""), 128)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request's story: its timing, and an answer or the error that took its place."""

    trace: Trace
    result: Answer | Exception


class LostConnectionError(Exception):
    """The connection ended before the answer began."""


class InvalidAnswerError(Exception):
    """What came back is not HTTP."""


class Client:
    """Requests to the origins of one target, or of any other service; close it when done.

    `connections` may be shared with other clients.
    """

    def __init__(
        self, *, tls: ssl.SSLContext, proxy: str | None = None, connections: Connections | None = None
    ) -> None:
        self._tls = tls
        self._proxy = proxy
        self._connections = connections or Connections()
        self._pools: dict[str, Pool] = {}

    async def send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        timeout: float,
        max_body: int,
        fresh: bool = False,
    ) -> Exchange:
        """Sends the request and reads at most `max_body` bytes of the answer within `timeout` seconds.

        `fresh` asks for a new connection. Redirects are not followed. Raises nothing but CancelledError:
        a failure is what this program is here to report.
        """
        trace = Trace(fresh=fresh)
        result: Answer | Exception
        try:
            async with asyncio.timeout(timeout) as deadline:
                result = await self._exchange(method, url, headers, body, trace, max_body)
        except Exception as error:
            result = _bare(error)
            # Timers may fire early: uvloop's by a few milliseconds.
            trace.finish(at_least=timeout if deadline.expired() else 0.0)
        return Exchange(trace, result)

    async def close(self) -> None:
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await self._connections.leave(pool)

    async def _exchange(
        self, method: str, url: Url, headers: Mapping[str, str], body: bytes, trace: Trace, max_body: int
    ) -> Answer:
        """Replaces a kept connection that turns out to be closed, within the same measurement.

        The server may close it while idle, at the very moment we write to it. Any other request that is
        lost is a failure, and not sent again.
        https://www.rfc-editor.org/rfc/rfc9112#section-9.3.1
        """
        pool = self._pools.get(url.origin)
        if pool is None:
            pool = self._pools[url.origin] = self._connections.enter(url.origin, self._tls, self._proxy)
        while True:
            connection = await pool.connect(trace)
            try:
                request = _head(pool, method, url, headers, body) + body
                return await _ask(connection, request, trace, max_body, has_body=method != "HEAD")
            except (ClientOSError, ClientConnectionResetError, ServerDisconnectedError) as error:
                if not trace.reused:
                    raise LostConnectionError from error
                trace.restart()
            finally:
                connection.close()  # unless it was released, because the answer is complete


def _bare(error: Exception) -> Exception:
    """Without tracebacks: their frames hold the error in turn, and only the garbage collector ends that."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


async def _ask(
    connection: Connection, request: bytes, trace: Trace, max_body: int, *, has_body: bool
) -> Answer:
    transport, protocol = connection.transport, connection.protocol
    if transport is None or not isinstance(protocol, TimedHandler) or transport.is_closing():
        raise ClientConnectionResetError("the connection is closed")
    trace.certificate_expiry = _certificate_expiry(transport)
    protocol.set_response_params(
        skip_payload=not has_body, read_until_eof=True, auto_decompress=False, read_timeout=None
    )
    protocol.room = max_body + MAX_OVERHEAD
    transport.write(request)
    try:
        message, payload = await protocol.read()
        while message.code < 200 and message.code != 101:  # interim answers
            message, payload = await protocol.read()
        skew = _clock_skew(message.headers.get("Date", ""), time.time())
        trace.enter(Phase.TRANSFER, protocol.head_at)
        content = await _read(payload, max_body)
    except HttpProcessingError as error:
        raise InvalidAnswerError from error
    trace.finish(protocol.received_at)
    if len(content) <= max_body:
        connection.release()
    return Answer(
        status=message.code,
        headers={name.lower(): value for name, value in message.headers.items()},
        body=content[:max_body],
        truncated=len(content) > max_body,
        certificate_expiry=trace.certificate_expiry,
        clock_skew=skew,
    )


def _head(pool: Pool, method: str, url: Url, headers: Mapping[str, str], body: bytes) -> bytes:
    """The request up to its body. Raises ValueError for a value that would break out of its line."""
    fields = {**_ALWAYS, "Host": pool.host, **headers}
    if body or method not in ("GET", "HEAD"):
        fields["Content-Length"] = str(len(body))
    if authorization := pool.proxy_authorization():
        fields["Proxy-Authorization"] = authorization
    lines = [f"{method} {pool.request_target(url)} HTTP/1.1", *[f"{k}: {v}" for k, v in fields.items()]]
    if any(_BREAKS_OUT.search(line) for line in lines):
        raise ValueError("a header holds a line break")
    return "\r\n".join([*lines, "", ""]).encode()


def tls_context(ca_file: str | None) -> TimedSSLContext:
    """A verifying client context; `ca_file` (PEM) replaces the system's authorities.

    Reads files: call it off the event loop. Raises OSError and ssl.SSLError.
    """
    context = TimedSSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cafile=ca_file)
    return context


async def _read(content: StreamReader, limit: int) -> bytes:
    """The body, or its first `limit` bytes and a little more: no server can fill our memory."""
    chunks, size = [], 0
    while size <= limit and (chunk := await content.readany()):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _certificate_expiry(transport: asyncio.Transport) -> float | None:
    certificate = transport.get_extra_info("peercert")
    return _certificate_time(certificate["notAfter"]) if certificate else None


def _clock_skew(date: str, now: float) -> float | None:
    """Seconds that our wall clock is ahead of the storage's `Date`, whose resolution is a second."""
    their_time = _http_time(date)
    if their_time is None:
        return None
    skew = now - their_time
    return 0.0 if 0 <= skew < 1 else skew


@lru_cache(maxsize=64)
def _http_time(date: str) -> float | None:
    """Many answers say the same: all of one second."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


_certificate_time = lru_cache(maxsize=1024)(ssl.cert_time_to_seconds)
