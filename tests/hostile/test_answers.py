"""A storage that answers with what harms most: a probe takes it for an outcome, and nothing else happens."""

import asyncio
import json
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.journal import tell_change
from exporter.metrics import TEXT_LIMIT, Metrics
from exporter.outcome import Operation, Outcome, Phase, Reason
from exporter.series import Format
from exporter.status import Change
from tests.faults.server import Behaviour, FaultServer, answer, fault_server, listing, s3_error, send
from tests.hostile.effort import times
from tests.hostile.held import assert_is_one_line, logging_to
from tests.rig import rig
from tests.running import Client, eventually, serving_command, target, write
from tests.stores import key_at, near_misses

ALL = tuple(Operation)
KNOWN = {
    "operation": set(ALL),
    "reason": {*Reason, "circuit_open", "overrun", "stopped"},
    "phase": set(Phase),
    "result": {"success", "failure"},
}
NASTY = (
    'quote " and \\ and \\n',
    'line\nbreak\r\nr2_target_up{target="x"} 1',
    "\x1b[31mred\x1b[0m \x07\x08\x7f\x9b2J",
    "\u202e\u2028\u2029\x85\ufeff\ufffe\uffff",
    "\ud800 alone",
    "nul \x00",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "]]>&amp;%0d%0a%00 ts=1 level=error msg=forged",
    "A" * 100_000,
    "A" * (1 << 20),
)
OURS = tuple(key_at(age * 10**8) for age in range(5))
"""Keys of long ago."""

texts = st.sampled_from(NASTY[:-2]) | st.text() | st.text(st.characters(codec=None), max_size=500)


def wire(text: str) -> bytes:
    """As bytes, of which a lone surrogate makes no UTF-8."""
    return text.encode(errors="surrogatepass")


def element(name: str, text: str) -> bytes:
    return b"<%s>%s</%s>" % (name.encode(), wire(escape(text)), name.encode())


ERROR_FIELDS = ("Code", "Message", "RequestId", "Region", "Endpoint", "HostId")
errors = st.dictionaries(st.sampled_from(ERROR_FIELDS), texts).map(
    lambda fields: b"<Error>" + b"".join(element(*field) for field in fields.items()) + b"</Error>"
)
keys = (
    st.sampled_from(OURS) | st.sampled_from([quote(each, safe="") for each in OURS]) | near_misses() | texts
)
listings = st.builds(
    lambda keys, more: b"<ListBucketResult>%s%s</ListBucketResult>" % (b"".join(keys), b"".join(more)),
    st.lists(keys.map(lambda key: b"<Contents>" + element("Key", key) + b"</Contents>"), max_size=5),
    st.lists(
        st.tuples(
            st.sampled_from(["EncodingType", "NextContinuationToken", "KeyCount", "MaxKeys", "IsTruncated"]),
            st.sampled_from(["url", "-1", "9" * 400, "NaN", "1e999", "true"]) | texts,
        ).map(lambda field: element(*field)),
        max_size=3,
    ),
)
bodies = st.binary(max_size=2000) | errors | listings
ODD_LINES = (
    (
        b"Content-Length",
        [b"0", b"-1", b"+5", b"0x10", b"1e3", b"5, 6", b"9" * 30, b"0" * 4000 + b"5", b"", b"NaN"],
    ),
    (b"Transfer-Encoding", [b"chunked", b"gzip", b"chunked, chunked", b"x"]),
    (b"Content-Encoding", [b"gzip", b"br", b"x"]),
    (b"Date", [b"Mon, 01 Jan 0001 00:00:00 GMT", b"Fri, 31 Dec 9999 23:59:59 -2359", b"9" * 400, b"", b","]),
    (b"Connection", [b"close", b"keep-alive", b"upgrade", b"x"]),
)
odd_lines = st.one_of(
    *(st.tuples(st.just(name), st.sampled_from(values)) for name, values in ODD_LINES),
    st.tuples(st.binary(max_size=30), st.binary(max_size=30)),
)
said_lines = st.tuples(
    st.sampled_from(
        [b"ETag", b"x-amz-request-id", b"cf-ray", b"Location", b"Set-Cookie", b"Date", b"Server"]
    ),
    texts.map(lambda text: re.sub(rb"[\r\n\0]", b" ", wire(text))[:4000]),
)
statuses = st.sampled_from([200, 204, 206, 301, 304, 307, 400, 403, 404, 429, 500, 503]) | st.integers(
    -1, 9999
)
chunks = st.tuples(st.sampled_from([b"5", b"0", b"-1", b"f" * 18, b"5;" + b"x" * 9000, b"g"]), bodies).map(
    b"\r\n".join
)


def assembled(status: int, lines: list[tuple[bytes, bytes]], body: bytes, *, framed: bool) -> bytes:
    if framed:
        lines = [*lines, (b"Content-Length", b"%d" % len(body))]
    head = b"".join(b"%s: %s\r\n" % line for line in lines)
    return b"HTTP/1.1 %d Said\r\n%s\r\n%s" % (status, head, body)


proper = st.builds(assembled, statuses, st.lists(said_lines, max_size=4), bodies, framed=st.just(value=True))
improper = st.builds(
    assembled,
    statuses,
    st.lists(odd_lines | said_lines, max_size=4),
    bodies | st.lists(chunks, max_size=3).map(b"\r\n".join),
    framed=st.just(value=False),
)
answers = proper | improper | st.binary(max_size=300)


rounds = st.lists(st.fixed_dictionaries(dict.fromkeys(ALL, answers)), min_size=1, max_size=5)


@given(scripts=rounds)
@settings(max_examples=times(20))
@example([dict.fromkeys(ALL, b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 8000 + b"\r\n\r\n")])
@example([dict.fromkeys(ALL, b'HTTP/1.1 503 No\r\nx-amz-request-id: a"b\\\r\nContent-Length: 0\r\n\r\n')])
def test_any_answer_makes_one_outcome(scripts: list[Mapping[Operation, bytes]]) -> None:
    async def scenario() -> None:
        async with fault_server() as server, rig(server.endpoint, *ALL) as r:
            for script in scripts:
                server.script = {each: send(sent, hang_up=True) for each, sent in script.items()}
                outcomes = await r.run()
                assert outcomes.keys() == set(ALL)
                for outcome in outcomes.values():
                    assert_bounded(outcome)
                    assert_logged_on_one_line(outcome)
            assert_page_parses(r.metrics)

    asyncio.run(scenario())


sound = st.lists(st.sampled_from(OURS) | near_misses(), max_size=10).map(listing)
"""Pages that can be read: one odd character in a key makes that nothing of its page can."""


@given(
    pages=st.lists((sound | listings).map(lambda page: answer(200, page)) | answers, min_size=1, max_size=4)
)
@settings(max_examples=times(50))
def test_a_sweep_deletes_nothing_that_the_exporter_did_not_make(pages: list[bytes]) -> None:
    async def scenario() -> None:
        async with fault_server() as server, rig(server.endpoint, Operation.PUT) as r:
            for page in pages:
                server.script[Operation.LIST] = send(page, hang_up=True)
                await r.probe.sweep()
            assert deleted(server) <= set(OURS)
            server.script[Operation.LIST] = send(answer(200, listing([*OURS, f"{key_at(0)}0", *NASTY[:2]])))
            assert (await r.probe.sweep()).failure is None
            assert deleted(server) == set(OURS)

    asyncio.run(scenario())


def deleted(server: FaultServer) -> set[str]:
    return {unquote(each.key) for each in server.requests if each.operation is Operation.DELETE}


def assert_bounded(outcome: Outcome) -> None:
    """What goes on to the log, the history and the API is short, and can be printed."""
    said = {outcome.request_id: 128}
    if outcome.failure is not None:
        assert outcome.failure.reason in Reason
        said |= {outcome.failure.message: 500, outcome.failure.s3_code: 64, outcome.failure.hint: 700}
    for text, limit in said.items():
        assert len(text) <= limit
        assert text.isprintable()


def assert_page_parses(metrics: Metrics) -> None:
    for fmt, parse in ((Format.TEXT, parse_text), (Format.OPENMETRICS, parse_openmetrics)):
        page = b"".join(metrics.registry.render(fmt, None)).decode()
        samples = [sample for family in parse(page) for sample in family.samples]
        failing = [sample for sample in samples if sample.name == "r2_probe_failure_info"]
        assert len(failing) <= len(ALL)
        for sample in samples:
            for name, value in sample.labels.items():
                assert value in KNOWN.get(name, {value})
                assert len(value) <= TEXT_LIMIT


def assert_logged_on_one_line(outcome: Outcome) -> None:
    formats: tuple[Literal["logfmt", "json"], ...] = ("logfmt", "json")
    for fmt in formats:
        with logging_to(fmt) as stream:
            tell_change(Change(outcome, 0.0))
        assert_is_one_line(stream.getvalue().removesuffix("\n"), fmt)


# Elsewhere


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "169.254.169.254", "[::1]:{port}", "u@localhost:{port}"]
)
async def test_no_redirect_is_followed(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inner:
        inner.setblocking(False)
        place = host.format(port=inner.getsockname()[1])
        headers = {"Location": f"http://{place}/latest/meta-data/", "Refresh": f"0; url=http://{place}/"}
        async with fault_server() as server, rig(server.endpoint, *ALL) as r:
            for status in (300, 301, 302, 303, 305, 307, 308):
                moved = s3_error(status, "PermanentRedirect", Endpoint=place, Region="elsewhere", **headers)
                server.script |= dict.fromkeys(ALL, send(moved))
                server.script[Operation.HEAD] = send(answer(status, b"", **headers))
                outcomes = await r.run()
                reasons = [outcome.failure and outcome.failure.reason for outcome in outcomes.values()]
                assert reasons == [Reason.CLIENT] * len(ALL)
                assert (await r.probe.sweep()).failure is not None
        with pytest.raises(BlockingIOError):
            inner.accept()


# The whole exporter


def nasty_answers(text: str) -> dict[Operation, Behaviour]:
    """One text everywhere: in an error's elements, in headers and in keys."""
    header = wire(text)[:4000].replace(b"\r", b" ").replace(b"\n", b" ")
    fields = b"".join(element(name, text) for name in ERROR_FIELDS)
    body = b"<Error>%s</Error>" % fields
    head = b"HTTP/1.1 503 %s\r\nx-amz-request-id: %s\r\nServer: %s\r\nContent-Length: %d\r\n\r\n"
    behaviour = send(head % (header, header, header, len(body)) + body)
    return dict.fromkeys(ALL, behaviour) | {
        Operation.LIST: send(answer(200, b"<ListBucketResult>%s</ListBucketResult>" % element("Key", text)))
    }


@asynccontextmanager
async def exporter_of(folder: Path, endpoint: str, fmt: str) -> AsyncIterator[tuple[Client, list[str]]]:
    probe = {"operations": [str(each) for each in ALL], "interval": "1d"}
    one = target("media", endpoint, "media", probe=probe, breaker={"enabled": False})
    config = write(folder / "exporter.yaml", one)
    async with serving_command(config, f"--log.format={fmt}", "--log.level=debug") as spawned:
        yield Client(spawned.url), spawned.lines


@pytest.mark.parametrize("fmt", ["logfmt", "json"])
async def test_nothing_that_a_storage_says_breaks_out(tmp_path: Path, fmt: str) -> None:
    async with fault_server() as server, exporter_of(tmp_path, server.endpoint, fmt) as (client, lines):
        for text in NASTY[fmt == "json" :: 2]:
            server.script = nasty_answers(text)
            assert (await client.ask("POST", "/api/health/check"))[0] == 200
            status, report = await client.get("/probe?target=media&debug=true")
            assert status == 200
            assert all(line.isprintable() for line in report.split("\n"))
            page = (await client.get("/metrics"))[1]
            assert_promtool_takes(page)
            assert sum(line.startswith("r2_probe_failure_info{") for line in page.splitlines()) <= len(ALL)
            for path in ("/", "/api/health", "/api/health/history", "/api/health/alerts"):
                status, told = await client.get(path)
                assert status == 200
                assert "<script>alert" not in told if path == "/" else json.loads(told)
        server.heal()
        await client.ask("POST", "/api/health/check")
        await eventually(lambda: client.has_value(1, "r2_target_up"))
    assert any("operation fails" in line for line in lines)
    for line in lines:
        assert_is_one_line(line, fmt)


def assert_promtool_takes(page: str) -> None:
    found: Any = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
