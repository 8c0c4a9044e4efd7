"""Sends one request and says what came back and how long each part took."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from aiohttp.connector import Connection
from yarl import URL

from exporter.outcome import Phase
from exporter.s3.printable import printable
from exporter.s3.trace import TimedSSLContext, Trace, current, trace_config, watch

_NO_TIMEOUTS = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the storage said, header names in lower case; `truncated` when the body was cut at the limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes
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


class Client:
    """Connections to one target. Not for more than one event loop; close it when done."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext,
        proxy: str | None = None,
        resolver: aiohttp.abc.AbstractResolver | None = None,
    ) -> None:
        self._tls = tls
        self._proxy = proxy
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        timeout: float,
        max_body: int,
    ) -> Exchange:
        """Sends the request and reads at most `max_body` bytes of the answer within `timeout` seconds.

        Raises nothing but CancelledError: a failure is what this program is here to report.
        """
        session = self._session or self._open()
        trace = Trace()
        watch(trace)
        result: Answer | Exception
        try:
            async with asyncio.timeout(timeout) as deadline:
                result = await self._exchange(session, method, url, headers, body, trace, max_body)
        except Exception as error:
            result = error
            # Timers may fire early: uvloop's by a few milliseconds.
            trace.finish(at_least=timeout if deadline.expired() else 0.0)
        return Exchange(trace, result)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        trace: Trace,
        max_body: int,
    ) -> Answer:
        request = session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body or None,
            allow_redirects=False,
            proxy=self._proxy,
        )
        async with request as response:
            skew = _clock_skew(response, time.time())
            trace.enter(Phase.TRANSFER)
            content = await _read(response, max_body)
            trace.finish()
            if len(content) > max_body:
                response.close()
            return Answer(
                status=response.status,
                headers={name.lower(): value for name, value in response.headers.items()},
                body=content[:max_body],
                truncated=len(content) > max_body,
                certificate_expiry=trace.certificate_expiry,
                clock_skew=skew,
            )

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=self._tls,
            resolver=self._resolver,
            use_dns_cache=False,
            keepalive_timeout=3600,
            limit=0,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=_NO_TIMEOUTS,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace_config()],
            request_class=_Request,
            middlewares=[_replace_closed_connection],
            skip_auto_headers=["Content-Type"],
            headers={"Accept-Encoding": "identity", "User-Agent": "r2-exporter"},
            auto_decompress=False,
        )
        return self._session


class _Request(ClientRequest):
    """Sees the connection while the request has it: a short answer gives it back before we see the answer."""

    async def send(self, conn: Connection) -> ClientResponse:
        if self.headers.get("Connection") == "close" and conn.protocol is not None:
            # Not every server says in its answer that it will close: such a connection must not be kept.
            conn.protocol.force_close()
        current().certificate_expiry = _certificate_expiry(conn)
        return await super().send(conn)


async def _replace_closed_connection(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Takes the place of aiohttp's silent retry of every lost request: a retry would hide a failure.

    Only a connection kept from an earlier request is replaced, within the same measurement: the
    server may close it while idle, at the very moment we write to it.
    https://www.rfc-editor.org/rfc/rfc9112#section-9.3.1
    """
    trace = current()
    while True:
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise
        except (
            aiohttp.ClientOSError,
            aiohttp.ClientConnectionResetError,
            aiohttp.ServerDisconnectedError,
        ) as error:
            if not trace.reused:
                raise LostConnectionError from error
            trace.restart()


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


async def _read(response: ClientResponse, limit: int) -> bytes:
    """The body, or its first `limit` bytes and a little more: no server can fill our memory."""
    chunks, size = [], 0
    while size <= limit and (chunk := await response.content.readany()):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _certificate_expiry(connection: Connection) -> float | None:
    certificate = connection.transport.get_extra_info("peercert") if connection.transport else None
    return ssl.cert_time_to_seconds(certificate["notAfter"]) if certificate else None


def _clock_skew(response: ClientResponse, now: float) -> float | None:
    """Seconds that our wall clock is ahead of the storage's `Date`, whose resolution is a second."""
    try:
        skew = now - parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return 0.0 if 0 <= skew < 1 else skew
