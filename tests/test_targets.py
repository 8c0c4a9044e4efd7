"""From settings to requests that a strict server takes: signature, address, proxy, CA and credentials."""

import asyncio
import ssl
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_INET, AF_UNSPEC
from urllib.parse import quote, urlsplit

import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.config import Secret, TargetSettings
from exporter.outcome import Operation, Outcome, Reason
from exporter.probe import Probe
from exporter.s3.address import Address
from exporter.s3.client import Client, tls_context
from exporter.s3.connections import Connections
from exporter.s3.credentials import ChainCredentials, CredentialsError, StaticCredentials
from exporter.storage import Reply
from exporter.targets import TlsContexts, make_probe, proxy_for, proxy_passwords
from tests.stores import (
    ALL,
    LOOPBACK,
    Bucket,
    Seen,
    environment,
    front,
    moto,
    moto_that_checks_signatures,
    target,
    watched,
)

PASSWORD = "p@ss:w/rd"
Strict = tuple[str, dict[str, tuple[str, str]]]


@pytest.fixture(scope="module", autouse=True)
def _no_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    nowhere = str(tmp_path_factory.mktemp("aws") / "none")
    with environment(
        AWS_CONFIG_FILE=nowhere, AWS_SHARED_CREDENTIALS_FILE=nowhere, AWS_EC2_METADATA_DISABLED="true"
    ):
        yield


@pytest.fixture(scope="module")
def store(_no_surroundings: None) -> Iterator[str]:
    with moto() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def strict(_no_surroundings: None) -> Iterator[Strict]:
    """A store that computes each signature itself; from now on its keys must be right."""
    with moto_that_checks_signatures() as (endpoint, keys):
        yield endpoint, keys


@pytest.fixture(scope="module")
def strict_bucket(strict: Strict) -> Bucket:
    endpoint, keys = strict
    return Bucket(endpoint, keys["allowed"])


@dataclass
class Report:
    outcomes: list[Outcome] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    def record(self, outcome: Outcome, reply: Reply) -> None:
        self.outcomes.append(outcome)
        self.replies.append(reply)

    @property
    def reasons(self) -> set[Reason | None]:
        return {outcome.failure.reason if outcome.failure else None for outcome in self.outcomes}

    @property
    def codes(self) -> set[str]:
        return {outcome.failure.s3_code if outcome.failure else "" for outcome in self.outcomes}


async def probed(
    settings: TargetSettings, *, chain: ChainCredentials | None = None, operations: tuple[Operation, ...] = ()
) -> Report:
    """What one run says of a probe that is made as the exporter makes it."""
    tls = await asyncio.to_thread(TlsContexts().get, settings.ca_file)
    report = Report()
    async with closing(
        make_probe(settings, tls, chain or ChainCredentials(), Connections(), instance="here")
    ) as probe:
        await probe.run(report.record, operations)
    return report


@asynccontextmanager
async def closing(probe: Probe) -> AsyncIterator[Probe]:
    try:
        yield probe
    finally:
        await probe.close(20.0)


def with_key(settings: TargetSettings, key: tuple[str, str]) -> TargetSettings:
    return settings.model_copy(update={"access_key_id": Secret(key[0]), "secret_access_key": Secret(key[1])})


def without_key(settings: TargetSettings) -> TargetSettings:
    return settings.model_copy(update={"access_key_id": None, "secret_access_key": None})


class Everywhere(AbstractResolver):
    """Every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        assert family in (AF_UNSPEC, AF_INET)
        return [ResolveResult(hostname=host, host=LOOPBACK, port=port, family=AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


# Signatures, checked by somebody else


async def test_right_keys_are_taken_for_every_operation(strict: Strict, strict_bucket: Bucket) -> None:
    endpoint, keys = strict
    report = await probed(with_key(target(endpoint, strict_bucket.name), keys["allowed"]))
    assert [outcome.operation for outcome in report.outcomes] == list(ALL)
    assert report.reasons == {None}
    assert strict_bucket.keys() == []


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda keys: (keys["allowed"][0], "not the secret"), "SignatureDoesNotMatch"),
        (lambda keys: ("AKIANOBODYKNOWSTHIS0", keys["allowed"][1]), "InvalidAccessKeyId"),
        (lambda keys: keys["powerless"], "AccessDenied"),
    ],
    ids=["wrong secret", "unknown id", "no permission"],
)
async def test_wrong_keys_are_told_apart(
    strict: Strict,
    strict_bucket: Bucket,
    wrong: Callable[[dict[str, tuple[str, str]]], tuple[str, str]],
    code: str,
) -> None:
    endpoint, keys = strict
    operations = (Operation.PUT, Operation.GET, Operation.LIST, Operation.DELETE)  # HEAD's 403 has no body
    report = await probed(with_key(target(endpoint, strict_bucket.name, operations=operations), wrong(keys)))
    assert report.reasons == {Reason.AUTH}
    assert report.codes == {code}
    for outcome in report.outcomes:
        assert outcome.failure
        assert outcome.failure.hint
        assert code in outcome.failure.message
        assert keys["allowed"][1] not in repr(outcome)


part = st.text("abYZ09!_.*'()-", min_size=1, max_size=20).filter(lambda text: text not in (".", ".."))
key_prefixes = st.lists(part, min_size=1, max_size=4).map(lambda parts: "/".join(parts) + "/")


@settings(max_examples=25)
@given(prefix=key_prefixes)
@example(prefix="!_.*'()-/")
@example(prefix=".../a/*/")
async def test_every_prefix_that_the_configuration_allows_is_signed_rightly(
    strict: Strict, strict_bucket: Bucket, prefix: str
) -> None:
    endpoint, keys = strict
    report = await probed(with_key(target(endpoint, strict_bucket.name, key_prefix=prefix), keys["allowed"]))
    assert report.reasons == {None}


@pytest.mark.parametrize("host", ["LOCALHOST", "LocalHost"])
async def test_a_host_in_capitals_is_signed_as_it_is_sent(
    strict: Strict, strict_bucket: Bucket, host: str
) -> None:
    endpoint, keys = strict
    settings_ = target(endpoint.replace(LOOPBACK, host), strict_bucket.name)
    async with watched(
        settings_,
        credentials=StaticCredentials(*keys["allowed"]),
        client=Client(tls=tls_context(None), connections=Connections(Everywhere())),
    ) as probe:
        outcomes = await probe.run()
    assert [outcome.failure for outcome in outcomes] == [None] * len(ALL)


# Addresses


async def test_a_virtual_host_is_signed_rightly(strict: Strict, strict_bucket: Bucket) -> None:
    endpoint, keys = strict
    settings_ = target(f"http://s3.amazonaws.com:{urlsplit(endpoint).port}", strict_bucket.name)
    async with watched(
        settings_.model_copy(update={"addressing_style": "virtual"}),
        credentials=StaticCredentials(*keys["allowed"]),
        client=Client(tls=tls_context(None), connections=Connections(Everywhere())),
    ) as probe:
        outcomes = await probe.run()
    assert [outcome.failure for outcome in outcomes] == [None] * len(ALL)
    hosts = {urlsplit(reply.request.url).hostname for reply in probe.replies}
    assert hosts == {f"{strict_bucket.name}.s3.amazonaws.com"}


@pytest.mark.parametrize(
    ("endpoint", "path", "virtual"),
    [
        ("https://s3.example.org", "https://s3.example.org/media", "https://media.s3.example.org/"),
        ("http://s3:9000", "http://s3:9000/media", "http://media.s3:9000/"),
        ("http://gw/a/b", "http://gw/a/b/media", "http://media.gw/a/b/"),
    ],
)
def test_the_two_addressing_styles(endpoint: str, path: str, virtual: str) -> None:
    assert str(Address(endpoint, "media").url()) == path
    assert str(Address(endpoint, "media", virtual_host=True).url()) == virtual
    key, query = "a'b!/(c)*", {"prefix": "d/e f", "list-type": "2"}
    encoded = "a%27b%21/%28c%29%2A?list-type=2&prefix=d%2Fe%20f"
    assert str(Address(endpoint, "media").url(key, query)) == f"{path}/{encoded}"
    assert str(Address(endpoint, "media", virtual_host=True).url(key, query)) == f"{virtual}{encoded}"


async def test_the_path_of_an_endpoint_goes_before_the_bucket(store: str) -> None:
    async with front(store, path_prefix="/gate/way") as server:
        report = await probed(target(server.url))
        assert report.reasons == {None}
        assert {request.path.partition("/media")[0] for request in server.seen} == {"/gate/way"}


# Certificate authorities


async def test_a_ca_file_replaces_the_authorities_of_the_system(store: str, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(LOOPBACK).configure_cert(serving)
    bundles = {}
    for name, ca in (("authority", authority), ("stranger", stranger)):
        bundles[name] = str(tmp_path / name)
        ca.cert_pem.write_to_path(bundles[name])
    async with front(store, tls=serving) as server:
        trusted = target(server.url).model_copy(update={"ca_file": bundles["authority"]})
        assert (await probed(trusted)).reasons == {None}
        for other in (None, bundles["stranger"]):
            refused = trusted.model_copy(update={"ca_file": other})
            assert (await probed(refused)).reasons == {Reason.TLS}


def test_contexts_are_shared_until_the_bundle_changes(tmp_path: Path) -> None:
    bundle, contexts = tmp_path / "ca.pem", TlsContexts()
    trustme.CA().cert_pem.write_to_path(str(bundle))
    first = contexts.get(str(bundle))
    assert contexts.get(str(bundle)) is first
    assert contexts.get(None) is contexts.get(None) is not first
    trustme.CA().cert_pem.write_to_path(str(bundle))
    assert contexts.get(str(bundle)) is not first
    with pytest.raises(FileNotFoundError):
        contexts.get(str(tmp_path / "missing"))


# Proxies


@pytest.mark.parametrize(
    ("url", "proxies", "expected"),
    [
        ("http://s3.example.org/media", {}, None),
        ("http://s3.example.org/media", {"http": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://s3.example.org/media", {"http": "http://proxy:3128"}, None),
        ("https://s3.example.org/media", {"https": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://s3.example.org/media", {"https": "https://proxy:3128"}, "https://proxy:3128"),
        ("https://s3.example.org/media", {"https": "proxy:3128"}, "http://proxy:3128"),
        ("https://s3.example.org/media", {"https": ""}, None),
        ("https://s3.example.org/media", {"all": "socks5://proxy:1080"}, None),
        ("https://s3.example.org/media", {"all": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://s3.example.org/media", {"all": "http://a:1", "https": "http://b:2"}, "http://b:2"),
        ("https://s3.example.org/media", {"all": "http://a:1", "no": "*"}, None),
        ("https://s3.example.org/media", {"all": "http://a:1", "no": "example.org"}, None),
        ("https://s3.example.org/media", {"all": "http://a:1", "no": ".example.org"}, None),
        ("https://s3.example.org/media", {"all": "http://a:1", "no": "other, S3.Example.Org"}, None),
        ("https://s3.example.org:9000/m", {"all": "http://a:1", "no": "s3.example.org"}, None),
        ("https://s3.example.org:9000/m", {"all": "http://a:1", "no": "s3.example.org:9000"}, None),
        ("https://s3.example.org:9000/m", {"all": "http://a:1", "no": "s3.example.org:1"}, "http://a:1"),
        ("https://s3.example.org/media", {"all": "http://a:1", "no": "ample.org"}, "http://a:1"),
        ("http://127.0.0.1:9000/media", {"http": "http://a:1", "no": "localhost,127.0.0.1"}, None),
        ("http://127.0.0.1:9000/media", {"http": "http://a:1"}, "http://a:1"),
        ("http://[::1]:9000/media", {"http": "http://a:1", "no": "::1"}, None),
        ("http://[::1]:9000/media", {"http": "http://a:1", "no": "[::1]:9000"}, None),
    ],
)
def test_which_proxy(url: str, proxies: dict[str, str], expected: str | None) -> None:
    assert proxy_for(url, proxies) == expected


@dataclass
class Proxy:
    """A forward proxy on loopback: CONNECT, and absolute-form for plain HTTP (RFC 9112, section 3.2.2)."""

    refuse: bytes = b""
    heads: list[list[str]] = field(default_factory=list)
    address: str = ""
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self.serving.add(task)
        await asyncio.wait([task])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closed(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            self.heads.append(lines)
            if self.refuse:
                writer.write(self.refuse)
            else:
                await self._relay(lines, reader, writer)

    async def _relay(
        self, lines: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, where, version = lines[0].split(" ")
        url = urlsplit(f"//{where}" if method == "CONNECT" else where)
        up_reader, up_writer = await asyncio.open_connection(url.hostname, url.port)
        with closed(up_writer):
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = url._replace(scheme="", netloc="").geturl()
                kept = [line for line in lines[1:] if not line.lower().startswith(("proxy-", "connection:"))]
                head = [f"{method} {path} {version}", *kept, "Connection: close", "", ""]
                up_writer.write("\r\n".join(head).encode())
            pouring = [pour(reader, up_writer), pour(up_reader, writer)]
            tasks = [asyncio.create_task(one) for one in pouring]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def closed(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        writer.close()


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def proxy(refuse: bytes = b"") -> AsyncIterator[Proxy]:
    running = Proxy(refuse)
    server = await asyncio.start_server(running.accept, LOOPBACK, 0)
    running.address = f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    try:
        yield running
    finally:
        server.close()
        for task in running.serving:
            task.cancel()
        await asyncio.gather(*running.serving, return_exceptions=True)


LOGIN = f"user:{quote(PASSWORD, safe='')}@"
AUTHORIZATION = "Proxy-Authorization: Basic " + b64encode(f"user:{PASSWORD}".encode()).decode()


@pytest.mark.parametrize("login", ["", LOGIN], ids=["open", "with a login"])
async def test_plain_http_goes_through_the_proxy_of_the_environment(
    store: str, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    async with proxy() as running:
        monkeypatch.setenv("HTTP_PROXY", "http://ignored-in-favour-of-lower-case.invalid")
        monkeypatch.setenv("http_proxy", f"http://{login}{running.address}")
        report = await probed(target(store))
        assert report.reasons == {None}
        assert len(running.heads) == len(ALL)
        for head in running.heads:
            assert head[0].split(" ")[1].startswith(f"{store}/media")
            assert (AUTHORIZATION in head) is bool(login)
        assert PASSWORD not in repr(report)
        assert LOGIN not in repr(report)


@pytest.mark.parametrize("login", ["", LOGIN], ids=["open", "with a login"])
async def test_https_goes_through_the_proxy_of_the_environment(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, login: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(LOOPBACK).configure_cert(serving)
    async with proxy() as running, front(store, tls=serving) as server:
        monkeypatch.setenv("https_proxy", f"http://{login}{running.address}")
        settings_ = target(server.url).model_copy(update={"ca_file": str(tmp_path / "ca.pem")})
        report = await probed(settings_)
        assert report.reasons == {None}
        [head] = running.heads
        assert head[0].startswith(f"CONNECT {urlsplit(server.url).netloc} ")
        assert (AUTHORIZATION in head) is bool(login)
        assert not any(
            "authorization" in name.lower()
            for seen in server.seen
            for name in seen.headers
            if name != "Authorization"
        )
        untrusting = await probed(settings_.model_copy(update={"ca_file": None}))
        assert untrusting.reasons == {Reason.TLS}
        assert PASSWORD not in repr([report, untrusting])
        assert LOGIN not in repr([report, untrusting])


async def test_no_proxy_wins(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy() as running:
        monkeypatch.setenv("ALL_PROXY", f"http://{running.address}")
        monkeypatch.setenv("NO_PROXY", f"example.org,{LOOPBACK}")
        assert (await probed(target(store))).reasons == {None}
        assert running.heads == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_failing_proxy_is_explained_without_its_password(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with proxy(refusal) as running:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{LOGIN}{running.address}")
        refused = await probed(target(f"{scheme}://s3.example.org"))
        assert len(running.heads) == len(ALL)
    unreachable = await probed(target(f"{scheme}://s3.example.org"))
    assert unreachable.reasons == {Reason.CONNECT}
    assert None not in refused.reasons
    for report in (refused, unreachable):
        assert PASSWORD not in repr(report)
        assert quote(PASSWORD, safe="") not in repr(report)


# Credentials


async def test_a_session_token_is_sent_and_signed_and_never_shown(store: str) -> None:
    settings_ = target(store).model_copy(update={"session_token": Secret("the-session-token")})
    async with front(store) as server:
        report = await probed(settings_.model_copy(update={"endpoint": server.url}))
        assert report.reasons == {None}
        for request in server.seen:
            assert request.headers["X-Amz-Security-Token"] == "the-session-token"
            assert "x-amz-security-token" in request.headers["Authorization"]
    assert "the-session-token" not in repr(report)
    assert all("Signature=" not in repr(reply.request) for reply in report.replies)
    assert {reply.request.headers["Authorization"] for reply in report.replies} == {"***"}


async def key_ids_sent(store: str, chain: ChainCredentials | None = None) -> set[str]:
    async with front(store) as server:
        report = await probed(without_key(target(server.url)), chain=chain)
        assert report.reasons == {None}
        return {key_id_of(request) for request in server.seen}


def key_id_of(request: Seen) -> str:
    return request.headers["Authorization"].partition("Credential=")[2].partition("/")[0]


async def test_keys_from_the_environment(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROMENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert await key_ids_sent(store) == {"FROMENVIRONMENT"}


async def test_keys_from_the_shared_file(store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shared = tmp_path / "credentials"
    shared.write_text("[ops]\naws_access_key_id = FROMFILE\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_PROFILE", "ops")
    assert await key_ids_sent(store) == {"FROMFILE"}


async def test_no_keys_at_all_are_an_auth_failure_with_a_hint() -> None:
    async with front() as server:
        report = await probed(without_key(target(server.url)))
        assert server.seen == [], "nothing is sent unsigned"
    assert report.reasons == {Reason.AUTH}
    assert report.codes == {"NoCredentials"}
    for outcome in report.outcomes:
        assert outcome.failure
        assert "AWS_ACCESS_KEY_ID" in outcome.failure.hint
        assert outcome.billed is None


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ("credential_process = /nonexistent/program", "FileNotFoundError"),
        ("credential_process = /bin/echo this is not JSON", "JSONDecodeError"),
        ("credential_process = /bin/false", "CredentialRetrievalError"),
        ("source_profile = nobody\nrole_arn = arn:aws:iam::1:role/x", "InvalidConfigError"),
    ],
)
async def test_a_chain_that_breaks_is_an_auth_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: str, error: str
) -> None:
    config_file = tmp_path / "config"
    config_file.write_text(f"[default]\n{config}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config_file))
    report = await probed(without_key(target("http://127.0.0.1:9")))
    assert report.reasons == {Reason.AUTH}
    assert report.codes == {"NoCredentials"}
    assert all(outcome.failure and error in outcome.failure.message for outcome in report.outcomes)


async def test_half_a_key_in_the_environment_is_an_auth_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ALONE")
    with pytest.raises(CredentialsError, match="PartialCredentialsError"):
        await ChainCredentials().current()


@dataclass
class Program:
    """A `credential_process` that waits for the test: the nth call ends once `allow(n)` was called."""

    folder: Path
    lifetime: int | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        script, config = self.folder / "program.py", self.folder / "config"
        script.write_text(
            "import datetime, json, os, sys, time\n"
            f"folder, lifetime = {str(self.folder)!r}, {self.lifetime!r}\n"
            "number, parent = 1, os.getppid()\n"
            "while os.path.exists(f'{folder}/call-{number}'): number += 1\n"
            "open(f'{folder}/call-{number}', 'x').close()\n"
            "allowed = f'{folder}/allow-{number}'\n"
            "while not os.path.exists(allowed) and os.getppid() == parent: time.sleep(0.005)\n"
            "answer = {'Version': 1, 'AccessKeyId': f'KEY{number}', 'SecretAccessKey': 'secret', "
            "'SessionToken': 'token'}\n"
            "if lifetime:\n"
            "    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=lifetime)\n"
            "    answer['Expiration'] = end.isoformat()\n"
            "print(json.dumps(answer))\n"
        )
        config.write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    def allow(self, call: int) -> None:
        (self.folder / f"allow-{call}").touch()

    def calls(self) -> int:
        return len(list(self.folder.glob("call-*")))


async def test_looking_up_keys_does_not_hold_up_the_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = Program(tmp_path)
    program.install(monkeypatch)
    chain = ChainCredentials()
    callers = [asyncio.create_task(chain.current()) for _ in range(5)]
    while program.calls() == 0:
        await asyncio.sleep(0)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not any(caller.done() for caller in callers)
    program.allow(1)
    assert {found.key_id for found in await asyncio.gather(*callers)} == {"KEY1"}
    assert (await chain.current()).key_id == "KEY1"
    assert program.calls() == 1


async def test_a_lookup_that_outlasts_the_deadline_fails_the_probe_and_serves_the_next(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = Program(tmp_path)
    program.install(monkeypatch)
    chain = ChainCredentials()
    report = await probed(without_key(target(store, timeout=0.05)), chain=chain)
    assert report.reasons == {Reason.AUTH}
    assert all(outcome.failure and "within 0.05s" in outcome.failure.message for outcome in report.outcomes)
    program.allow(1)
    assert await key_ids_sent(store, chain) == {"KEY1"}
    assert program.calls() == 1


async def test_keys_are_refreshed_while_those_at_hand_are_still_good(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = Program(tmp_path, lifetime=300)  # botocore refreshes 15 minutes ahead
    program.install(monkeypatch)
    chain = ChainCredentials()
    program.allow(1)
    program.allow(2)  # which botocore asks for at once, as the first keys have so little time left
    assert (await chain.current()).key_id == "KEY2"
    while program.calls() < 3:
        assert (await chain.current()).key_id == "KEY2"
        await asyncio.sleep(0.001)
    assert await key_ids_sent(store, chain) == {"KEY2"}
    program.allow(3)
    while (await chain.current()).key_id != "KEY3":
        await asyncio.sleep(0.001)
    program.allow(4)  # under way by now


async def test_expired_keys_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = Program(tmp_path, lifetime=30)
    program.install(monkeypatch)
    chain = ChainCredentials()
    for call in range(1, 5):
        program.allow(call)
    first, second = await chain.current(), await chain.current()
    assert first.key_id != second.key_id, "keys in their last minute are renewed before use"


def test_proxy_passwords_are_found_for_the_log_to_mask() -> None:
    proxies = {
        "http": "http://user:p%40ss@proxy:3128",
        "https": "proxy:3128",
        "no": "a,b",
        "all": "http://b:1",
        "ftp": "user:without%20a+scheme@proxy:3128",
        "socks": "http://user@proxy:3128",
    }
    assert proxy_passwords(proxies) == ["p@ss", "without a+scheme"]
