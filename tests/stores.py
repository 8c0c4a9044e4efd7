"""Real S3 servers for the tests, a server to put in front of them, and keys of other people."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4
from xml.sax.saxutils import escape

import aiohttp
import boto3
from aiohttp import web
from botocore.config import Config
from hypothesis import strategies as st
from yarl import URL

from exporter.config import ProbeSettings, Secret, TargetSettings
from exporter.keys import ProbeKey
from exporter.outcome import Operation, Outcome
from exporter.probe import Probe
from exporter.s3.address import Address
from exporter.s3.client import Client, tls_context
from exporter.s3.credentials import CredentialSource, StaticCredentials
from exporter.storage import Reply, Storage

ALL = tuple(Operation)
PREFIX = ".r2-exporter/"
LOOPBACK = "127.0.0.1"


@contextmanager
def moto() -> Iterator[str]:
    """The endpoint of the demo's S3 server, which takes every request whoever signed it."""
    command = [sys.executable, "-m", "exporter.demo.server", "--scene", "healthy"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        yield process.stdout.readline().strip()
        process.stdin.close()


@contextmanager
def moto_that_checks_signatures() -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """An endpoint, and the keys of two users of it: `allowed` may do everything, `powerless` nothing."""
    command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        endpoint = ""
        while not endpoint:
            line = process.stderr.readline()
            assert line, "moto ended before it was ready"
            endpoint = "".join(re.findall(r"Running on (http://\S+)", line))
        try:
            yield endpoint, _make_users(endpoint)
        finally:
            process.kill()


def _make_users(endpoint: str) -> dict[str, tuple[str, str]]:
    iam = _client("iam", endpoint)
    keys = {}
    for name in ("allowed", "powerless"):
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys[name] = (key["AccessKeyId"], key["SecretAccessKey"])
    everything = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
    )
    iam.put_user_policy(UserName="allowed", PolicyName="everything", PolicyDocument=everything)
    # From now on no request goes unchecked.
    with urlopen(Request(f"{endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})) as answer:
        assert answer.status == 200
    return keys


def s3_client(endpoint: str, key: tuple[str, str] = ("somebody", "somebodys-secret")) -> Any:
    """boto3, which looks at a bucket from outside."""
    return _client("s3", endpoint, key)


def _client(service: Any, endpoint: str, key: tuple[str, str] = ("somebody", "somebodys-secret")) -> Any:
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={})
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        config=config,
    )


class Bucket:
    """A bucket of its own for one test, as another client sees it."""

    def __init__(self, endpoint: str, key: tuple[str, str] = ("somebody", "somebodys-secret")) -> None:
        self.endpoint = endpoint
        self.name = f"test-{uuid4().hex}"
        self._s3 = s3_client(endpoint, key)
        self._s3.create_bucket(Bucket=self.name)

    def put(self, key: str, body: bytes = b"of somebody else") -> None:
        self._s3.put_object(Bucket=self.name, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        content: bytes = self._s3.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def delete(self, key: str) -> None:
        self._s3.delete_object(Bucket=self.name, Key=key)

    def keys(self) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: aiohttp.web.BaseRequest

    @property
    def operation(self) -> Operation:
        return Operation.LIST if "list-type=2" in self.path else Operation(self.method.lower())


Before = Callable[[Seen], Awaitable[web.Response | None]]
After = Callable[[Seen], Awaitable[None]]


@dataclass
class Front:
    """A server in front of `upstream`. It writes down every request.

    `before` may answer in place of the upstream; `after` runs when the upstream has answered and
    the client has not heard of it yet.
    """

    upstream: str
    path_prefix: str = ""
    before: Before | None = None
    after: After | None = None
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    stop_listening: Callable[[], Awaitable[None]] | None = None

    def operations(self) -> list[Operation]:
        return [request.operation for request in self.seen]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(request.method, request.raw_path, request.headers, await request.read(), request)
        self.seen.append(seen)
        early = await self.before(seen) if self.before else None
        if early is not None:
            return early
        response = await self._forward(seen)
        if self.after:
            await self.after(seen)
        return response

    async def _forward(self, seen: Seen) -> web.Response:
        url = URL(self.upstream + seen.path.removeprefix(self.path_prefix), encoded=True)
        headers = {name: value for name, value in seen.headers.items() if name != "Connection"}
        async with aiohttp.request(
            seen.method, url, headers=headers, data=seen.body or None, allow_redirects=False
        ) as answer:
            kept = ("Content-Type", "Content-Length", "ETag", "Date", "x-amz-request-id")
            headers = {name: answer.headers[name] for name in kept if name in answer.headers}
            body = None if seen.method == "HEAD" else await answer.read()
            return web.Response(status=answer.status, headers=headers, body=body)


@asynccontextmanager
async def front(
    upstream: str = "", tls: SSLContext | None = None, path_prefix: str = ""
) -> AsyncIterator[Front]:
    """A running `Front` on loopback, by HTTPS with `tls`."""
    server = Front(upstream, path_prefix)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{anything:.*}", server._serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0, ssl_context=tls)
    await site.start()
    server.stop_listening = site.stop
    scheme = "https" if tls else "http"
    server.url = f"{scheme}://{LOOPBACK}:{runner.addresses[0][1]}{path_prefix}"
    try:
        yield server
    finally:
        await runner.cleanup()


def s3_error(status: int, code: str) -> web.Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#RESTErrorResponses"""
    message = "<Message>as the test wants</Message><RequestId>4442587FB7D0A2F9</RequestId>"
    body = f"<Error><Code>{code}</Code>{message}</Error>"
    return web.Response(status=status, text=body, content_type="application/xml")


def listing(keys: Sequence[str], next_token: str | None = None) -> web.Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
    contents = "".join(f"<Contents><Key>{escape(key, {chr(10): '&#10;'})}</Key></Contents>" for key in keys)
    token = f"<NextContinuationToken>{next_token}</NextContinuationToken>" if next_token else ""
    body = f"<ListBucketResult>{contents}{token}</ListBucketResult>"
    return web.Response(text=body, content_type="application/xml")


def target(endpoint: str, bucket: str = "media", **probe: Any) -> TargetSettings:
    """A target with every operation and generous deadlines, but for what `probe` says."""
    settings: dict[str, Any] = {"operations": ALL, "timeout": 20.0, "key_prefix": PREFIX} | probe
    return TargetSettings(
        name="media",
        endpoint=endpoint,
        bucket=bucket,
        region="us-east-1",
        access_key_id=Secret("somebody"),
        secret_access_key=Secret("somebodys-secret"),
        labels={},
        probe=ProbeSettings(**settings),
    )


@dataclass
class Watched:
    """A probe, with all that it reported."""

    probe: Probe
    cleaned: list[bool]
    outcomes: list[Outcome] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    def record(self, outcome: Outcome, reply: Reply) -> None:
        self.outcomes.append(outcome)
        self.replies.append(reply)

    async def run(self, *operations: Operation, limit: float | None = None) -> list[Outcome]:
        """The outcomes of one run."""
        outcomes: list[Outcome] = []

        def record(outcome: Outcome, reply: Reply) -> None:
            outcomes.append(outcome)
            self.record(outcome, reply)

        await self.probe.run(record, operations, limit)
        return outcomes


@asynccontextmanager
async def watched(
    settings: TargetSettings,
    *,
    credentials: CredentialSource | None = None,
    client: Client | None = None,
) -> AsyncIterator[Watched]:
    """A probe of `settings`, closed at the end with time enough for its cleanups."""
    cleaned: list[bool] = []
    storage = Storage(
        Address(settings.endpoint, settings.bucket, virtual_host=settings.addressing_style == "virtual"),
        settings.region,
        credentials or StaticCredentials("somebody", "somebodys-secret"),
        client or Client(tls=tls_context(settings.ca_file)),
    )
    probe = Probe(settings, storage, "here", cleaned=cleaned.append)
    try:
        yield Watched(probe, cleaned)
    finally:
        await probe.close(20.0)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """The process environment with nothing in it that AWS tools or HTTP clients read but `variables`."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("AWS_") or name.upper().endswith("_PROXY"):
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def key_at(created_at: float, prefix: str = PREFIX, instance: str = "here") -> str:
    """A key of ours that was made at `created_at` (Unix seconds)."""
    return str(ProbeKey(prefix, instance, int(created_at), uuid4().hex))


@st.composite
def near_misses(draw: st.DrawFn, prefix: str = PREFIX) -> str:
    """Keys that resemble ours, and by a small change are not."""
    instance, stamp, nonce = "here", "20260102T030405Z", "0123456789abcdef" * 2
    key = f"{prefix}{instance}/{stamp}-{nonce}"
    place = draw(st.integers(len(prefix), len(key)))
    odd = draw(st.sampled_from(["\n", " ", "/", "..", "\u0663", "\u00e9", "\uff11", "_", "%", "A", "\u2028"]))
    return draw(
        st.sampled_from(
            [
                key + odd,
                odd + key,
                key[:-1],
                key[:-1] + key[-1].upper() + "0",
                key[:place] + odd + key[place:],
                f"{prefix}{instance}/{stamp}-{nonce.upper()}",
                f"{prefix}{instance}/{stamp.lower()}-{nonce}",
                f"{prefix}{instance.upper()}/{stamp}-{nonce}",
                f"{prefix}-{instance}/{stamp}-{nonce}",
                f"{prefix}{instance}-/{stamp}-{nonce}",
                f"{prefix}he--re/{stamp}-{nonce}",
                f"{prefix}{'h' * 64}/{stamp}-{nonce}",
                f"{prefix}../{stamp}-{nonce}",
                f"{prefix}/{stamp}-{nonce}",
                f"{prefix}{instance}/../{instance}/{stamp}-{nonce}",
                f"{prefix}{instance}/20261302T030405Z-{nonce}",
                f"{prefix}{instance}/20260230T030405Z-{nonce}",
                f"{prefix}{instance}/20260102T030460Z-{nonce}",
                f"{prefix}{instance}/2026010\u0662T030405Z-{nonce}",
                f"{prefix}{instance}/{stamp}-{nonce[:-1]}\u0661",
                f"{prefix[:-1]}x/{instance}/{stamp}-{nonce}",
                f"other/{prefix}{instance}/{stamp}-{nonce}",
                prefix,
                "",
            ]
        )
    )
