"""Every way an operation can fail, through a real socket to its reason, its message and its metric line."""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from exporter.hints import ALTERED
from exporter.outcome import Failure, Operation, Outcome, Phase, Reason
from exporter.reason import explain_error
from exporter.s3.client import LostConnectionError
from exporter.s3.trace import Trace
from tests.conftest import server_context
from tests.faults.dns import dns_server
from tests.faults.server import (
    Behaviour,
    Call,
    FaultServer,
    answer,
    drip,
    fault_server,
    flood,
    listing,
    reset_after,
    s3_error,
    send,
    send_and_linger,
)
from tests.rig import SECRET, Rig, rig

PUT, GET, HEAD, LIST, DELETE = Operation
SHORT = "200ms"
BLACK_HOLE = send_and_linger(b"")
LONG_AGO = "Wed, 01 Jan 2020 00:00:00 GMT"


async def failed_once(r: Rig, operation: Operation) -> tuple[Outcome, Failure]:
    """Run; `operation` alone must fail, and be counted once, under one reason."""
    outcomes = await r.run()
    outcome = outcomes[operation]
    assert [each for each in outcomes.values() if not each.success] == [outcome]
    assert outcome.failure is not None
    reason = outcome.failure.reason
    labels = f'operation="{operation}",reason="{reason}",target="media"'
    assert r.counted("r2_probe_errors_total") == [f"r2_probe_errors_total{{{labels}}} 1.0"]
    labels = f'operation="{operation}",result="failure",target="media"'
    assert f"r2_probes_total{{{labels}}} 1.0" in r.counted("r2_probes_total")
    assert f'r2_probe_success{{operation="{operation}",target="media"}} 0.0' in r.page()
    assert outcome.failure.hint
    return outcome, outcome.failure


def unhinted(failure: Failure) -> Failure:
    return replace(failure, hint="")


async def healed(r: Rig) -> None:
    """The next run must find nothing of the failure left."""
    outcomes = await r.run()
    assert [each.failure for each in outcomes.values() if not each.success] == []
    assert len(r.counted("r2_probe_errors_total")) == 1


@dataclass(frozen=True, slots=True)
class Case:
    """An answer of the server and what must come of it; `hint` holds words that the hint must have."""

    operation: Operation
    answer: bytes
    failure: Failure
    status: int | None
    hint: tuple[str, ...] = ()
    request_id: str = ""


def refusal(operation: Operation, status: int, code: str, reason: Reason, *hint: str, **parts: str) -> Case:
    failure = Failure(reason, f"HTTP {status} {code}: told by the test", code)
    request_id = parts.get("x_amz_request_id") or parts.get("cf_ray") or parts.get("RequestId", "")
    return Case(operation, s3_error(status, code, **parts), failure, status, hint, request_id)


def bare(operation: Operation, status: int, body: bytes, reason: Reason, *hint: str) -> Case:
    return Case(operation, answer(status, body), Failure(reason, f"HTTP {status}"), status, hint)


def wrong(operation: Operation, sent: bytes, reason: Reason, message: str, status: int | None) -> Case:
    return Case(operation, sent, Failure(reason, message), status)


CASES = {
    "key ID": refusal(
        GET, 403, "InvalidAccessKeyId", Reason.AUTH, "R2", "account_id", x_amz_request_id="4442587FB7D0A2F9"
    ),
    "secret": refusal(PUT, 403, "SignatureDoesNotMatch", Reason.AUTH, "R2", "secret", cf_ray="8f2b1c-AMS"),
    "denied": refusal(DELETE, 403, "AccessDenied", Reason.AUTH, "R2", "Read & Write", RequestId="tx0001"),
    "first of three ids": refusal(
        LIST, 403, "AccessDenied", Reason.AUTH, x_amz_request_id="first", cf_ray="second", RequestId="third"
    ),
    "bare 403": bare(HEAD, 403, b"", Reason.AUTH, "no S3 error code", "account_id"),
    "401": refusal(PUT, 401, "Unauthorized", Reason.AUTH, "R2", "token"),
    "expired token": refusal(GET, 400, "ExpiredToken", Reason.AUTH, "session token"),
    "wrong region": refusal(
        GET, 400, "AuthorizationHeaderMalformed", Reason.AUTH, "region: eu-west-1", Region="eu-west-1"
    ),
    "no bucket, get": refusal(GET, 404, "NoSuchBucket", Reason.CLIENT, "`bucket`", "R2", "jurisdiction"),
    "no bucket, put": refusal(PUT, 404, "NoSuchBucket", Reason.CLIENT, "`bucket`"),
    "no bucket, list": refusal(LIST, 404, "NoSuchBucket", Reason.CLIENT, "`bucket`"),
    "429": refusal(PUT, 429, "TooManyRequests", Reason.THROTTLED, "R2", "interval"),
    "bare 429": bare(HEAD, 429, b"", Reason.THROTTLED, "interval"),
    "slow down": refusal(GET, 503, "SlowDown", Reason.THROTTLED, "interval"),
    "unavailable": refusal(PUT, 503, "ServiceUnavailable", Reason.SERVER, "storage's own", "request id"),
    "internal": refusal(GET, 500, "InternalError", Reason.SERVER, "storage's own", "status page"),
    "gateway timeout": bare(HEAD, 504, b"", Reason.SERVER, "storage's own"),
    "listing of a key": refusal(LIST, 404, "NoSuchKey", Reason.CLIENT, "`endpoint`", "path"),
    "bare 404": bare(PUT, 404, b"Not Found", Reason.CLIENT, "`endpoint`"),
    "bare 405": bare(PUT, 405, b"", Reason.CLIENT, "`endpoint`"),
    "server's own timeout": refusal(PUT, 400, "RequestTimeout", Reason.TIMEOUT),
    "not implemented": refusal(PUT, 501, "NotImplemented", Reason.CLIENT, "R2", "checksum"),
    "teapot": bare(GET, 418, b"", Reason.CLIENT),
    "page of a proxy": bare(GET, 502, b"<html><body>Bad gateway</body></html>", Reason.SERVER),
    "garbage": bare(LIST, 500, b"\0\xff<<<", Reason.SERVER),
    "unknown encoding": bare(GET, 500, b'<?xml version="1.0" encoding="x-none"?><Error/>', Reason.SERVER),
    "billion laughs": bare(
        GET,
        500,
        b'<!DOCTYPE x [<!ENTITY a "ha">'
        + b"".join(b'<!ENTITY %c "%s">' % (c, (b"&%c;" % (c - 1)) * 50) for c in range(ord("b"), ord("k")))
        + b"]><Error><Code>&j;</Code></Error>",
        Reason.SERVER,
    ),
    "moved": refusal(
        GET,
        301,
        "PermanentRedirect",
        Reason.CLIENT,
        "region: eu-west-1",
        "endpoint: https://s3.eu-west-1.example.org",
        Region="eu-west-1",
        Endpoint="s3.eu-west-1.example.org",
        Location="/elsewhere",
    ),
    "moved for now": refusal(
        PUT, 307, "TemporaryRedirect", Reason.CLIENT, "served elsewhere", Location="/elsewhere"
    ),
    "moved, no body": Case(
        HEAD,
        answer(301, Location="/elsewhere"),
        Failure(Reason.CLIENT, "HTTP 301"),
        301,
        ("region and endpoint",),
    ),
    "listing of no XML": wrong(
        LIST, answer(200, b"It works!"), Reason.INTEGRITY, "the listing is not well-formed XML", 200
    ),
    "listing of nothing": wrong(
        LIST, answer(200), Reason.INTEGRITY, "the listing is not well-formed XML", 200
    ),
    "listing with a document type": wrong(
        LIST,
        answer(200, b"<!DOCTYPE ListBucketResult><ListBucketResult/>"),
        Reason.INTEGRITY,
        "the listing is not well-formed XML",
        200,
    ),
    "listing that is not UTF-8": wrong(
        LIST,
        answer(200, "<ListBucketResult/>".encode("utf-16")),
        Reason.INTEGRITY,
        "the listing is not well-formed XML",
        200,
    ),
    "error as a listing": wrong(
        LIST,
        s3_error(200, "InternalError"),
        Reason.INTEGRITY,
        "expected a ListBucketResult, got <Error> InternalError",
        200,
    ),
    "object nobody wrote": wrong(
        GET, answer(200, b"hm"), Reason.INTEGRITY, "an object exists under a key that nobody wrote", 200
    ),
    "not HTTP": wrong(
        GET, b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Reason.SERVER, "the answer is not valid HTTP", None
    ),
    "huge header": wrong(
        GET, answer(200, X_Huge="a" * 100_000), Reason.SERVER, "the answer is not valid HTTP", None
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_an_answer_has_one_reason_and_what_a_person_needs(case: Case) -> None:
    async with fault_server() as server, rig(server.endpoint, case.operation) as r:
        server.script[case.operation] = send(case.answer)
        outcome, failure = await failed_once(r, case.operation)
        assert (failure.reason, failure.message, failure.s3_code) == (
            case.failure.reason,
            case.failure.message,
            case.failure.s3_code,
        )
        assert all(words in failure.hint for words in case.hint), failure.hint
        assert outcome.status == case.status
        assert outcome.request_id == case.request_id
        assert server.count(case.operation) == 1, "a retry would hide failures"
        server.heal()
        await healed(r)


def test_the_three_refusals_differ_in_message_and_hint() -> None:
    codes = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"}
    refusals = [case for case in CASES.values() if case.status == 403 and case.failure.s3_code in codes]
    assert {case.failure.s3_code for case in refusals} == codes
    assert len({case.failure.message for case in refusals}) == 3


@pytest.mark.parametrize(
    ("operation", "sent", "message", "code"),
    [
        (GET, s3_error(404, "NoSuchKey"), "the object just written is not there", "NoSuchKey"),
        (HEAD, answer(404), "the object just written is not there", "NoSuchKey"),
        (GET, answer(200, b"short"), "wrote 1024 bytes, read back 5", ""),
        (GET, answer(200, b"x" * 1025), "wrote 1024 bytes, read back 1025", ""),
        (HEAD, answer(200, Content_Length="7"), "wrote 1024 bytes, HEAD says 7", ""),
        (
            HEAD,
            answer(200, Content_Length="1024", ETag='"b"'),
            "HEAD's ETag is not the one that PUT gave",
            "",
        ),
        (LIST, answer(200, listing([])), "the object just written is missing from the listing", ""),
    ],
)
async def test_what_was_written_must_be_there(
    operation: Operation, sent: bytes, message: str, code: str
) -> None:
    async with fault_server() as server, rig(server.endpoint, PUT, operation, DELETE) as r:
        server.script[operation] = send(sent)
        _, failure = await failed_once(r, operation)
        assert failure == Failure(Reason.INTEGRITY, message, code, ALTERED)
        server.heal()
        await healed(r)


async def test_wrong_bytes_of_the_right_length() -> None:
    async with fault_server() as server, rig(server.endpoint, PUT, GET, DELETE) as r:
        server.script[GET] = send(answer(200, bytes(1024)))
        _, failure = await failed_once(r, GET)
        assert failure.reason is Reason.INTEGRITY
        assert re.fullmatch(
            r"wrote 1024 bytes with SHA-256 [0-9a-f]{16}…, read back others with [0-9a-f]{16}…",
            failure.message,
        )
        server.heal()
        await healed(r)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (GET, "wrote 1024 bytes, read back more than 262144"),
        (LIST, "the listing is longer than any of its size can be"),
    ],
)
async def test_an_endless_body_is_not_read_to_its_end(operation: Operation, message: str) -> None:
    async with fault_server() as server, rig(server.endpoint, PUT, operation, DELETE) as r:
        server.script[operation] = flood(b"HTTP/1.1 200 OK\r\n\r\n")
        outcome, failure = await failed_once(r, operation)
        assert (failure.reason, failure.message) == (Reason.INTEGRITY, message)
        assert outcome.status == 200
        server.heal()
        await healed(r)


@pytest.mark.parametrize("operation", [GET, HEAD])
async def test_a_missing_key_is_good_news_without_a_put(operation: Operation) -> None:
    async with fault_server() as server, rig(server.endpoint, operation) as r:
        outcome = (await r.run())[operation]
        assert outcome.success
        assert outcome.status == 404
        assert r.counted("r2_probe_errors_total") == []


@pytest.mark.parametrize(
    ("date", "said"), [(LONG_AGO, "ahead of"), ("Fri, 01 Jan 2100 00:00:00 GMT", "behind")]
)
async def test_clock_skew_is_told_in_seconds_and_measured(date: str, said: str) -> None:
    async with fault_server() as server, rig(server.endpoint, PUT) as r:
        server.script[PUT] = send(s3_error(403, "RequestTimeTooSkewed", Date=date))
        outcome, failure = await failed_once(r, PUT)
        assert failure.reason is Reason.AUTH
        assert outcome.clock_skew is not None
        assert failure.message == (
            "HTTP 403 RequestTimeTooSkewed: told by the test "
            f"(this machine's clock is {abs(outcome.clock_skew):.0f}s {said} the storage's)"
        )
        assert "NTP" in failure.hint
        (line,) = [line for line in r.page() if line.startswith("r2_target_clock_skew_seconds{")]
        assert float(line.rpartition(" ")[2]) == outcome.clock_skew
        off = datetime.fromtimestamp(outcome.started_at - outcome.clock_skew, UTC)
        assert date.split()[3] == str((off + timedelta(minutes=1)).year)
        server.heal()
        await healed(r)


@pytest.mark.parametrize("date", ["yesterday", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
async def test_a_date_that_is_none_costs_only_the_clock_skew(date: str) -> None:
    async with fault_server() as server, rig(server.endpoint, GET) as r:
        server.script[GET] = send(s3_error(404, "NoSuchKey", Date=date))
        outcome = (await r.run())[GET]
        assert outcome.failure is None
        assert outcome.clock_skew is None


async def test_what_the_server_says_is_bounded_and_printable() -> None:
    async with fault_server() as server, rig(server.endpoint, GET) as r:
        noise = "line\nbreak\u202e\x85" + "A" * 100_000
        sent = s3_error(500, noise, noise, x_amz_request_id="i" * 5_000)
        server.script[GET] = send(sent.replace(b"iiii", b"\xff\xfei\t", 1))
        outcome, failure = await failed_once(r, GET)
        assert failure.reason is Reason.SERVER
        for said in (failure.message, failure.s3_code, outcome.request_id):
            assert 0 < len(said) < 400
            assert said.isprintable()
        server.heal()
        await healed(r)


@pytest.mark.parametrize("behaviour", [reset_after(), send(b"", hang_up=True)], ids=["reset", "hung up"])
@pytest.mark.parametrize("operation", list(Operation))
async def test_a_fresh_connection_lost_before_the_answer(operation: Operation, behaviour: Behaviour) -> None:
    async with fault_server() as server, rig(server.endpoint, operation) as r:
        server.script[operation] = behaviour
        outcome, failure = await failed_once(r, operation)
        assert failure.reason is Reason.CONNECT
        assert failure.message.startswith("connection lost before the answer: ")
        assert outcome.status is None
        assert not outcome.reconnected
        # The cleanup of a PUT that may have been stored is a DELETE, so this counts each operation alone.
        assert server.count(operation) == 1
        server.heal()
        await healed(r)


@pytest.mark.parametrize("behaviour", [reset_after(), send(b"", hang_up=True)], ids=["reset", "hung up"])
@pytest.mark.parametrize("operation", list(Operation))
async def test_a_kept_connection_lost_is_replaced_once(operation: Operation, behaviour: Behaviour) -> None:
    async with fault_server() as server, rig(server.endpoint, *Operation) as r:
        await r.run()

        async def lose_the_kept_one(call: Call) -> None:
            assert call.request is not None
            await (behaviour if call.request.connection == 1 else server.healthy)(call)

        server.script[operation] = lose_the_kept_one
        outcomes = await r.run()
        assert all(each.success for each in outcomes.values())
        assert [name for name, each in outcomes.items() if each.reconnected] == [operation]
        assert Phase.CONNECT in outcomes[operation].phases
        assert server.connections == 2
        assert server.count(operation) == 3
        lost, again = [request for request in server.requests if request.operation is operation][1:]
        assert (lost.body, lost.target) == (again.body, again.target)
        line = f'r2_probe_reconnects_total{{operation="{operation}",target="media"}} 1.0'
        assert r.counted("r2_probe_reconnects_total") == [line]


async def test_a_connection_lost_again_is_a_failure() -> None:
    async with fault_server() as server, rig(server.endpoint, GET) as r:
        await r.run()
        server.script[GET] = send(b"", hang_up=True)
        outcome, failure = await failed_once(r, GET)
        assert failure.message == "connection lost before the answer: closed by the other side"
        assert outcome.reconnected
        assert server.count(GET) == 3
        server.heal()
        await healed(r)


@pytest.mark.parametrize(
    "behaviour",
    [
        reset_after(answer(200, Content_Length="1024")),
        reset_after(answer(200, Content_Length="1024") + b"part"),
        send(answer(200, Content_Length="1024") + b"part", hang_up=True),
        send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", hang_up=True),
    ],
    ids=["reset after headers", "reset in body", "truncated body", "truncated chunks"],
)
async def test_a_connection_lost_in_the_answer(behaviour: Behaviour) -> None:
    async with fault_server() as server, rig(server.endpoint, GET) as r:
        server.script[GET] = behaviour
        outcome, failure = await failed_once(r, GET)
        assert unhinted(failure) == Failure(Reason.CONNECT, "connection lost in the middle of the answer")
        assert list(outcome.phases)[-1] is Phase.TRANSFER
        assert server.count(GET) == 1
        server.heal()
        await healed(r)


@pytest.mark.parametrize(
    ("behaviour", "phase", "waiting"),
    [
        (BLACK_HOLE, Phase.PROCESSING, "the first byte of the answer"),
        (drip(answer(200, b"body"), 0.05), Phase.PROCESSING, "the first byte of the answer"),
        (
            drip(b"x" * 100, 0.05, head=answer(200, Content_Length="100")),
            Phase.TRANSFER,
            "the rest of the answer",
        ),
        (send_and_linger(answer(200, Content_Length="9")), Phase.TRANSFER, "the rest of the answer"),
    ],
    ids=["black hole", "slow headers", "slow body", "no body"],
)
async def test_a_deadline_names_what_was_waited_for(behaviour: Behaviour, phase: Phase, waiting: str) -> None:
    async with fault_server() as server, rig(server.endpoint, GET, timeout=SHORT) as r:
        server.script[GET] = behaviour
        outcome, failure = await failed_once(r, GET)
        assert unhinted(failure) == Failure(
            Reason.TIMEOUT, f"no complete answer within 0.2s, waiting for {waiting}"
        )
        assert list(outcome.phases)[-1] is phase
        assert outcome.duration >= 0.2
        assert server.count(GET) == 1
        server.heal()
        await healed(r)


async def test_a_full_backlog_times_out_while_connecting() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # The kernel lets one or two wait for accept(), and drops who comes after them.
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        try:
            async with rig(f"http://127.0.0.1:{address[1]}", GET, timeout=SHORT) as r:
                outcome, failure = await failed_once(r, GET)
        finally:
            for each in waiting:
                each.close()
    assert unhinted(failure) == Failure(
        Reason.TIMEOUT, "no complete answer within 0.2s, waiting for the connection"
    )
    assert list(outcome.phases) == [Phase.CONNECT]
    assert outcome.duration >= 0.2


async def test_a_closed_port_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with rig(f"http://127.0.0.1:{port}", GET) as r:
        outcome, failure = await failed_once(r, GET)
        assert failure.reason is Reason.CONNECT
        assert failure.message.startswith(f"cannot connect to 127.0.0.1:{port}: ")
        assert list(outcome.phases) == [Phase.CONNECT]
        assert outcome.billed is None
        async with fault_server(port=port):
            await healed(r)
            await r.probe.close(grace=1)


async def test_a_name_that_does_not_exist() -> None:
    async with dns_server(3) as dns, fault_server(host="s3.example.test") as server:
        resolver = aiohttp.AsyncResolver(nameservers=[dns.address])
        async with rig(server.endpoint, GET, resolver=resolver) as r:
            outcome, failure = await failed_once(r, GET)
            assert failure.reason is Reason.DNS
            assert failure.message.startswith("cannot resolve s3.example.test: ")
            assert "account_id" in failure.hint
            assert dns.questions > 0
            assert list(outcome.phases) == [Phase.RESOLVE]
            assert server.connections == 0
            dns.rcode = 0
            await healed(r)
        await resolver.close()


async def test_a_dead_name_server_times_out_while_resolving() -> None:
    async with dns_server(None) as dns, fault_server(host="s3.example.test") as server:
        resolver = aiohttp.AsyncResolver(nameservers=[dns.address])
        async with rig(server.endpoint, GET, resolver=resolver, timeout=SHORT) as r:
            outcome, failure = await failed_once(r, GET)
            message = "no complete answer within 0.2s, waiting for the name to resolve"
            assert unhinted(failure) == Failure(Reason.TIMEOUT, message)
            assert dns.questions > 0
            assert list(outcome.phases) == [Phase.RESOLVE]
            assert outcome.duration >= 0.2
        await resolver.close()


def _bad_context(fault: str, authority: trustme.CA) -> ssl.SSLContext:
    match fault:
        case "expired":
            past = datetime.now(UTC) - timedelta(days=1)
            leaf = authority.issue_cert("127.0.0.1", not_after=past, not_before=past - timedelta(days=9))
        case "wrong name":
            leaf = authority.issue_cert("elsewhere.example")
        case _:
            leaf = trustme.CA().issue_cert("127.0.0.1")
    return server_context(leaf)


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("expired", "certificate has expired"),
        ("wrong name", "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        ("unknown authority", "unable to get local issuer certificate"),
    ],
)
async def test_a_certificate_that_is_not_valid(
    fault: str, detail: str, authority: trustme.CA, serving: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with (
        fault_server(_bad_context(fault, authority)) as server,
        rig(server.endpoint, GET, tls=trusting) as r,
    ):
        outcome, failure = await failed_once(r, GET)
        assert failure.reason is Reason.TLS
        assert failure.message == f"the certificate of 127.0.0.1 is not valid: {detail}"
        assert ("ca_file" in failure.hint) is (fault == "unknown authority")
        assert list(outcome.phases) == [Phase.CONNECT, Phase.TLS]
        assert server.requests == []
        server.tls = serving
        await healed(r)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (send_and_linger(b"HTTP/1.1 400 Bad Request\r\n\r\n"), r"the TLS handshake failed: [A-Z_0-9]+"),
        (send_and_linger(b"\xff" * 64), r"the TLS handshake failed: [A-Z_0-9]+"),
        (reset_after(), r"connection lost in the TLS handshake: .+"),
        (send(b"", hang_up=True), r"connection lost in the TLS handshake: .+"),
    ],
    ids=["plain HTTP", "garbage", "reset", "hung up"],
)
async def test_a_handshake_that_fails(
    behaviour: Behaviour, message: str, serving: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with fault_server() as server:
        server.on_connect = behaviour
        async with rig(f"https://127.0.0.1:{server.port}", GET, tls=trusting) as r:
            outcome, failure = await failed_once(r, GET)
            assert failure.reason is Reason.TLS
            assert re.fullmatch(message, failure.message)
            assert ("http://" in failure.hint) is ("WRONG_VERSION_NUMBER" in failure.message)
            assert list(outcome.phases) == [Phase.CONNECT, Phase.TLS]
            server.heal()
            server.tls = serving
            await healed(r)


async def test_a_handshake_without_an_answer_times_out_in_tls(trusting: ssl.SSLContext) -> None:
    async with fault_server() as server:
        server.on_connect = BLACK_HOLE
        async with rig(f"https://127.0.0.1:{server.port}", GET, tls=trusting, timeout=SHORT) as r:
            outcome, failure = await failed_once(r, GET)
            message = "no complete answer within 0.2s, waiting for the TLS handshake"
            assert unhinted(failure) == Failure(Reason.TIMEOUT, message)
            assert list(outcome.phases) == [Phase.CONNECT, Phase.TLS]
            assert outcome.duration >= 0.2


async def test_a_proxy_that_refuses_keeps_its_password_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@127.0.0.1:{port}")
    async with rig("http://s3.example.test", GET) as r:
        _, failure = await failed_once(r, GET)
        assert failure.reason is Reason.CONNECT
        assert failure.message.startswith("cannot reach the proxy: ")
        assert SECRET not in repr(failure)


async def test_a_proxy_that_wants_a_login(monkeypatch: pytest.MonkeyPatch, trusting: ssl.SSLContext) -> None:
    async with fault_server() as proxy:
        proxy.on_connect = send_and_linger(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n")
        monkeypatch.setenv("https_proxy", proxy.endpoint)
        async with rig("https://s3.example.test", GET, tls=trusting) as r:
            _, failure = await failed_once(r, GET)
            assert unhinted(failure) == Failure(Reason.CONNECT, "the proxy answered HTTP 407")


S3_CODES = (
    st.sampled_from(sorted({case.failure.s3_code for case in CASES.values()} | {"NoSuchKey"})) | st.text()
)
BODIES = st.binary(max_size=2048) | st.builds(
    lambda code, message: s3_error(500, code, message).partition(b"\r\n\r\n")[2], S3_CODES, st.text()
)


@given(
    operation=st.sampled_from(Operation),
    status=st.integers(200, 999),
    body=BODIES,
    request_id=st.text("aé\t~"),
)
@hypothesis_settings(max_examples=75)
def test_every_answer_is_a_success_or_has_one_reason(
    operation: Operation, status: int, body: bytes, request_id: str
) -> None:
    async def scenario() -> None:
        async with fault_server() as server, rig(server.endpoint, operation) as r:
            server.script[operation] = send(answer(status, body, x_amz_request_id=request_id))
            outcome = (await r.run())[operation]
            errors = r.counted("r2_probe_errors_total")
            if outcome.failure is None:
                assert status < 300 or (status == 404 and operation in {GET, HEAD})
                assert errors == []
            else:
                assert outcome.failure.reason in Reason
                assert outcome.failure.message.isprintable()
                assert [line.rpartition(" ")[2] for line in errors] == ["1.0"]
            assert outcome.request_id.isprintable()

    asyncio.run(scenario())


def _errors() -> Iterator[Exception]:
    """One of every exception that aiohttp, a socket or this program may raise."""
    key = ConnectionKey("host", 443, True, True, None, None, None)
    url = URL(f"http://user:{SECRET}@proxy.example")
    info = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict[str]()), url)
    os_error = ConnectionRefusedError(111, "refused")
    certificate = ssl.SSLCertVerificationError(1, "bad")
    attempts: list[tuple[object, ...]] = [
        (key, certificate),
        ("/socket", key, os_error),
        (key, os_error),
        (info, ()),
        (b"expected", b"got", "host", 443),
        (url,),
        (),
    ]

    def family(kind: type[Exception]) -> Iterator[type[Exception]]:
        yield kind
        for child in kind.__subclasses__():
            yield from family(child)

    for kind in family(aiohttp.ClientError):
        for arguments in attempts:
            try:
                error = kind(*arguments)
                str(error)
            except (TypeError, AttributeError):
                continue
            yield error
    # Other libraries in this process derive from OSError too.
    yield from (kind() for kind in family(OSError) if kind.__module__ in {"builtins", "ssl", "socket"})
    yield from (os_error, OSError(9, "x"), TimeoutError(), ssl.SSLError(1, "x"), certificate)
    yield from (LostConnectionError(), ValueError(SECRET), KeyError(SECRET))


def test_every_error_has_one_reason() -> None:
    kinds = set()
    for error, phase in product(_errors(), [None, *Phase]):
        trace = Trace()
        if phase is not None:
            trace.enter(phase)
        failure = explain_error(error, trace, timeout=5.0)
        assert failure.reason in Reason
        assert failure.message
        assert SECRET not in failure.message
        kinds.add(type(error))
    assert {aiohttp.ClientPayloadError, aiohttp.ClientConnectorDNSError, ConnectionResetError} <= kinds
    assert len(kinds) > 40


async def test_cancelling_a_run_leaves_no_connection() -> None:
    async with fault_server() as server, rig(server.endpoint, GET) as r:
        server.script[GET] = BLACK_HOLE
        run = asyncio.create_task(r.run())
        while not server.requests:
            await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert r.counted("r2_probe_errors_total") == []
        server.heal()
        assert (await r.run())[GET].success


def test_the_key_of_a_request_is_ours() -> None:
    async def scenario() -> FaultServer:
        async with fault_server() as server, rig(server.endpoint, *Operation) as r:
            await r.run()
        return server

    server = asyncio.run(scenario())
    keys = {urlsplit(request.target).path for request in server.requests if request.operation is not LIST}
    assert len(keys) == 1
    assert all(key.startswith("/bucket/.r2-exporter/test/") for key in keys)
