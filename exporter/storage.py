"""One bucket as the probe sees it: an operation on one of our keys, and its reply."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from exporter.hints import NO_S3
from exporter.keys import ProbeKey
from exporter.outcome import Failure, Operation, Phase, Reason
from exporter.reason import explain_answer, explain_error
from exporter.s3.address import Address, Url
from exporter.s3.client import Answer, Client, Exchange
from exporter.s3.connections import host_of
from exporter.s3.credentials import AccessKey, CredentialsError, CredentialSource
from exporter.s3.sign import signed_headers
from exporter.s3.trace import Trace
from exporter.s3.xml import GarbageError, Listing, S3Error, parse_error, parse_listing

MAX_DOCUMENT = 256 << 10
"""Bytes that are read of an error, or of a listing of two keys: many times what S3 writes."""

MAX_PAGE = 4 << 20
"""The same of a listing of 1000 keys, each of 1024 bytes that are written as %XX."""

_METHODS = {
    Operation.PUT: "PUT",
    Operation.GET: "GET",
    Operation.HEAD: "HEAD",
    Operation.LIST: "GET",
    Operation.DELETE: "DELETE",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What was sent, with everything in it that could sign another request masked."""

    method: str
    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """One request and what became of it. Durations in seconds, `started_at` in Unix seconds."""

    request: Request
    started_at: float
    duration: float
    phases: Mapping[Phase, float]
    reconnected: bool
    status: int | None
    request_id: str
    answer: Answer | None
    failure: Failure | None


class Storage:
    """Addresses, signs, sends and explains. Deletes nothing but a ProbeKey."""

    def __init__(self, address: Address, region: str, credentials: CredentialSource, client: Client) -> None:
        self._address = address
        self._host = host_of(address.url().origin)
        self._region = region
        self._credentials = credentials
        self._client = client

    async def perform(
        self,
        operation: Operation,
        key: ProbeKey,
        body: bytes,
        *,
        timeout: float,
        fresh: bool = False,
    ) -> Reply:
        """One operation on `key`, over a new connection if `fresh`; a LIST asks for keys beginning with it.

        `body` is what PUT sends and GET is to return. Raises nothing but CancelledError.
        A 404 to GET or HEAD that names only the key is no failure here: the caller knows
        whether the object should exist.
        """
        query = {"list-type": "2", "prefix": str(key), "max-keys": "2"} if operation is Operation.LIST else {}
        url = self._address.url("" if operation is Operation.LIST else str(key), query)
        sent = body if operation is Operation.PUT else b""
        limit = max(len(body), MAX_DOCUMENT)
        return await self._send(operation, url, sent, timeout, limit, fresh=fresh)

    async def list_page(
        self,
        prefix: str,
        token: str | None,
        after: str = "",
        *,
        timeout: float,
    ) -> tuple[Reply, Listing | None]:
        """A page of at most 1000 keys under `prefix`; no listing where the reply failed.

        It is the page that `token` stands for, or without one that of the keys `after` this one.

        Asked to be encoded, for XML 1.0 cannot hold every character that a key of somebody else may have.
        """
        query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        if token:
            query["continuation-token"] = token
        elif after:
            query["start-after"] = after
        reply = await self._send(Operation.LIST, self._address.url("", query), b"", timeout, MAX_PAGE)
        if reply.failure is not None or reply.answer is None:
            return reply, None
        try:
            return reply, parse_listing(reply.answer.body)
        except GarbageError as error:
            return replace(reply, failure=Failure(Reason.INTEGRITY, str(error), hint=NO_S3)), None

    async def close(self) -> None:
        await self._client.close()

    async def _send(
        self,
        operation: Operation,
        url: Url,
        body: bytes,
        timeout: float,
        limit: int,
        *,
        fresh: bool = False,
    ) -> Reply:
        method = _METHODS[operation]
        started_at = time.time()
        trace = Trace()
        headers: dict[str, str] = {}
        try:
            key = self._credentials.at_hand() or await self._current_credentials(timeout)
        except CredentialsError as error:
            trace.finish()
            exchange = Exchange(trace, error)
        else:
            headers = signed_headers(key, self._region, method, self._host, url, body, started_at)
            exchange = await self._client.send(
                method, url, headers, body, timeout=timeout, max_body=limit, fresh=fresh
            )
        return _reply(operation, Request(method, str(url), _masked(headers)), started_at, exchange, timeout)

    async def _current_credentials(self, timeout: float) -> AccessKey:
        try:
            async with asyncio.timeout(timeout):
                return await self._credentials.current()
        except TimeoutError as error:
            raise CredentialsError(f"boto3's credential chain gave nothing within {timeout:g}s") from error


def _masked(headers: Mapping[str, str]) -> dict[str, str]:
    secret = {"authorization", "x-amz-security-token"}
    return {name: "***" if name.lower() in secret else value for name, value in headers.items()}


def _reply(
    operation: Operation, request: Request, started_at: float, exchange: Exchange, timeout: float
) -> Reply:
    s3, answer = S3Error(), None
    if isinstance(exchange.result, Exception):
        failure: Failure | None = explain_error(exchange.result, exchange.trace, timeout)
    else:
        answer = exchange.result
        s3 = parse_error(answer.body) if answer.status >= 300 else s3
        failure = None if _only_the_key_is_missing(operation, answer, s3) else explain_answer(answer, s3)
    return Reply(
        request=request,
        started_at=started_at,
        duration=exchange.trace.duration,
        phases=exchange.trace.phases(),
        reconnected=exchange.trace.reconnected,
        status=answer.status if answer else None,
        request_id=(answer.request_id if answer else "") or s3.request_id,
        answer=answer,
        failure=failure,
    )


def _only_the_key_is_missing(operation: Operation, answer: Answer, s3: S3Error) -> bool:
    """A HEAD's 404 has no body that could name the bucket, so it is taken to mean the key."""
    if answer.status != 404:
        return False
    return operation is Operation.HEAD or (operation is Operation.GET and s3.code == "NoSuchKey")
