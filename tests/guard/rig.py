"""What the guard tests run on: storage that fails on demand, a clock, and the two ways to guard boto3."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client import CollectorRegistry, generate_latest

from exporter.guard import CircuitBreaker, Counts, GuardedBucket, Policy, State, guard_client
from tests.running import DEADLINE
from tests.stores import Before, Bucket, Front, Seen, s3_error

T = TypeVar("T")
GOOD = Counts(calls=1)
BAD = Counts(calls=1, failures=1)
NOTHING = Counts()
RECOVERY = Policy().recovery_timeout


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Rig:
    """A bucket of moto's behind a server that can fail, and a clock for breakers."""

    front: Front
    outside: Bucket
    clock: Clock = field(default_factory=Clock)
    clients: list[Any] = field(default_factory=list)

    def client(self, endpoint: str = "", **config: Any) -> Any:
        """An unguarded boto3 client that sends each request once."""
        once = {"total_max_attempts": 1}
        settings: dict[str, Any] = {"retries": once, "read_timeout": DEADLINE, "proxies": {}} | config
        client = boto3.client(
            "s3",
            endpoint_url=endpoint or self.front.url,
            region_name="us-east-1",
            aws_access_key_id="somebody",
            aws_secret_access_key="somebodys-secret",
            config=Config(s3={"addressing_style": "path"}, **settings),
        )
        self.clients.append(client)
        return client

    def breaker(self, **policy: Any) -> CircuitBreaker:
        return CircuitBreaker("media", Policy(**policy), clock=self.clock)

    def bucket(self, breaker: CircuitBreaker, **more: Any) -> GuardedBucket:
        return GuardedBucket(self.client(), self.outside.name, breaker=breaker, **more)

    def requests(self) -> int:
        return len(self.front.seen)


@contextmanager
def in_background(served: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What is served on an event loop of its own, for boto3 blocks the thread that calls it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(step: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(step, loop).result(DEADLINE)

    try:
        value = run(served.__aenter__())
        try:
            yield value
        finally:
            run(served.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def page(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


# --- faults ---


def answers(status: int, code: str) -> Before:
    async def fail(request: Seen) -> web.Response:
        return s3_error(status, code)

    return fail


async def hang_up(request: Seen) -> web.Response:
    assert request.connection.transport
    request.connection.transport.close()
    return web.Response()


async def cut(request: Seen) -> web.Response:
    assert request.connection.transport
    request.connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<ListBucketResult>")
    request.connection.transport.close()
    return web.Response()


async def stall(request: Seen) -> web.Response:
    assert request.connection.transport
    request.connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<ListBucketResult>")
    await asyncio.Event().wait()
    raise AssertionError


async def never_answer(request: Seen) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def garble(request: Seen) -> web.Response:
    return web.Response(text="<ListBucketResult><Contents", content_type="application/xml")


async def gateway_page(request: Seen) -> web.Response:
    return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")


FAULTS_OF_THE_STORAGE = {
    "internal error": answers(500, "InternalError"),
    "unavailable": answers(503, "ServiceUnavailable"),
    "slow down": answers(503, "SlowDown"),
    "too many requests": answers(429, "TooManyRequests"),
    "request timeout": answers(400, "RequestTimeout"),
    "a gateway's page": gateway_page,
    "hangs up": hang_up,
    "cut": cut,
}
IMPATIENT = {"stalls": stall, "never answers": never_answer}
REFUSALS = [
    (304, "NotModified"),
    (400, "InvalidArgument"),
    (401, "Unauthorized"),
    (403, "AccessDenied"),
    (403, "SignatureDoesNotMatch"),
    (404, "NoSuchKey"),
    (404, "NoSuchBucket"),
    (412, "PreconditionFailed"),
    (501, "NotImplemented"),
]
NO_ANSWER = (BotoCoreError, ClientError)

# --- ways ---

Get = Callable[[str], bytes]
Way = Callable[[Any, str, CircuitBreaker], Get]


def through_the_client(client: Any, name: str, breaker: CircuitBreaker) -> Get:
    guard_client(client, breaker)

    def get(key: str) -> bytes:
        content: bytes = client.get_object(Bucket=name, Key=key)["Body"].read()
        return content

    return get


def through_the_bucket(client: Any, name: str, breaker: CircuitBreaker) -> Get:
    return GuardedBucket(client, name, breaker=breaker).get


both_ways = pytest.mark.parametrize("way", [through_the_client, through_the_bucket])


def broken(rig: Rig, way: Way, client: Any, **policy: Any) -> tuple[CircuitBreaker, Get]:
    """A breaker that one failure has opened, whose recovery timeout is over, around a healed storage."""
    breaker = rig.breaker(failure_threshold=1, **policy)
    get = way(client, rig.outside.name, breaker)
    rig.front.before = answers(500, "InternalError")
    with pytest.raises(ClientError):
        get("report")
    assert breaker.status().state is State.OPEN
    rig.front.before = None
    rig.outside.put("report", b"42")
    rig.clock.now += RECOVERY
    return breaker, get
