"""A storage whose answers have no end, or grow when they are read: cut off, in little memory."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from exporter.outcome import Operation, Reason
from exporter.s3.connections import MAX_OVERHEAD
from exporter.s3.xml import GarbageError, parse_error, parse_listing
from exporter.storage import MAX_DOCUMENT, MAX_PAGE
from tests.faults.server import Behaviour, Call, answer, fault_server, send
from tests.rig import rig

MEMORY = 8 << 20
"""Bytes that an answer may take at most, whatever it is."""


IN_SOCKETS = 8 << 20
"""Bytes that a storage can get rid of though nobody reads them, at most."""


def endless(head: bytes, piece: bytes, sent: list[int]) -> Behaviour:
    """Sends `piece` on and on, a lot of it at once, and notes how much that was."""

    async def behave(call: Call) -> None:
        call.writer.write(head)
        sent.append(0)
        while True:
            call.writer.write(lot := piece * (1 + 65536 // len(piece)))
            sent[-1] += len(lot)
            await call.writer.drain()

    return behave


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "headers": (OK, b"X-A: b\r\n"),
    "long headers": (OK, b"X-A: " + b"b" * 8000 + b"\r\n"),
    "a header's name": (OK, b"X"),
    "a header's value": (OK + b"X: ", b"x"),
    "a header folded": (OK + b"X: a\r\n", b" b\r\n"),
    "the reason": (b"HTTP/1.1 200 ", b"O"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "empty lines": (b"", b"\r\n"),
    "empty answers": (b"", OK + b"Content-Length: 0\r\n\r\n"),
    "a body": (OK + b"\r\n", b"<"),
    "a body with a length": (OK + b"Content-Length: 999999999999999\r\n\r\n", b"<"),
    "chunks": (CHUNKED, b"1\r\n<\r\n"),
    "a chunk": (CHUNKED + b"fffffffffffffff\r\n", b"<"),
    "a chunk's size": (CHUNKED, b"0"),
    "a chunk's extension": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X-A: b\r\n"),
    "an error": (b"HTTP/1.1 500 No\r\n\r\n<Error>", b"<a>"),
    "another body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_what_has_no_end_is_cut_off_by_its_size(kind: str) -> None:
    """Of a PUT that succeeds the head has said so: what follows is of no use, and not read."""
    operations, sent = (Operation.PUT, Operation.HEAD, Operation.LIST), list[int]()
    async with fault_server() as server, rig(server.endpoint, *operations, timeout="1m") as r:
        server.script |= dict.fromkeys(operations, endless(*ENDLESS[kind], sent))
        with peak_memory() as peak:
            outcomes = await r.run()
        assert peak() < MEMORY
    reasons = {each: outcome.failure and outcome.failure.reason for each, outcome in outcomes.items()}
    assert reasons[Operation.PUT] in (None, Reason.SERVER)
    assert reasons[Operation.HEAD] in (Reason.SERVER, Reason.INTEGRITY)
    assert reasons[Operation.LIST] in (Reason.SERVER, Reason.INTEGRITY)
    assert len(sent) == len(operations)
    assert max(sent) < MAX_DOCUMENT + MAX_OVERHEAD + IN_SOCKETS


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """How many more bytes than at the beginning were in use at once."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# XML


def repeated(head: bytes, piece: bytes, tail: bytes = b"") -> Callable[[int], bytes]:
    """A document of about so many bytes."""
    return lambda size: head + piece * ((size - len(head) - len(tail)) // len(piece)) + tail


_LOL = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
BOMBS = {
    "entities": lambda _: b'<!DOCTYPE l [<!ENTITY l0 "l">%s]><Error><Code>&l9;</Code></Error>' % _LOL,
    "an external entity": lambda _: (
        b'<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><Error>&x;</Error>'
    ),
    "depth": repeated(b"<Error>", b"<a>"),
    "depth of namespaces": repeated(b"<Error>", b'<a xmlns="b">'),
    "elements": repeated(b"<ListBucketResult>", b"<a/>", b"</ListBucketResult>"),
    "keys": repeated(b"<ListBucketResult>", b"<Contents><Key/></Contents>", b"</ListBucketResult>"),
    "comments": repeated(b"<Error>", b"<!---->", b"</Error>"),
    "instructions": repeated(b"<Error>", b"<?a?>", b"</Error>"),
    "an attribute": repeated(b'<Error a="', b"x", b'"/>'),
    "text": repeated(b"<Error><Message>", b"x", b"</Message></Error>"),
    "references": repeated(b"<Error><Message>", b"&#65;", b"</Message></Error>"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_of_xml_takes_no_more_than_a_document_of_its_size(bomb: str) -> None:
    body = BOMBS[bomb](MAX_PAGE)
    with peak_memory() as peak:
        assert len(parse_error(body).message) <= 300
        with suppress(GarbageError):
            parse_listing(body)
        assert peak() < 8 * MAX_PAGE


@pytest.mark.parametrize("beyond", [0, 1])
async def test_bodies_are_read_up_to_the_stated_limits(beyond: int) -> None:
    """256 KiB of an error and of a probe's listing, 4 MiB of a sweep's."""
    error = repeated(b"<Error><Code>SlowDown</Code>", b" ", b"</Error>")((256 << 10) + beyond)
    page = repeated(b"<ListBucketResult>", b" ", b"</ListBucketResult>")
    operations = Operation.GET, Operation.LIST
    async with fault_server() as server, rig(server.endpoint, *operations) as r:
        server.script[Operation.GET] = send(answer(503, error), hang_up=True)
        server.script[Operation.LIST] = send(answer(200, page((256 << 10) + beyond)), hang_up=True)
        outcomes = await r.run()
        server.script[Operation.LIST] = send(answer(200, page((4 << 20) + beyond)), hang_up=True)
        swept = (await r.probe.sweep()).failure
    failed, listed = (outcomes[each].failure for each in operations)
    assert failed is not None
    assert failed.s3_code == ("" if beyond else "SlowDown")
    too_long = "the listing is longer than any of its size can be"
    assert (listed and listed.message) == (too_long if beyond else None)
    assert (swept is None) == (not beyond)
