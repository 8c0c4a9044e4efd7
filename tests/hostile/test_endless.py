"""A storage whose answers have no end, or grow when they are read: cut off, in little memory."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from exporter.outcome import Operation, Reason
from exporter.s3.xml import GarbageError, parse_error, parse_listing
from exporter.storage import MAX_DOCUMENT, MAX_PAGE
from tests.faults.server import Behaviour, Call, answer, fault_server, send
from tests.rig import rig

MEMORY = 8 << 20
"""Bytes that an answer may take at most, whatever it is."""


def endless(head: bytes, piece: bytes) -> Behaviour:
    """Sends `piece` on and on, a lot of it at once."""

    async def behave(call: Call) -> None:
        call.writer.write(head)
        while True:
            call.writer.write(piece * (1 + 65536 // len(piece)))
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

UNTIL_TIMEOUT = {"interim answers", "empty lines", "chunks", "a chunk's size", "a chunk's extension"}
"""What adds nothing, or little, to what is kept of an answer; all else is cut off by a limit of its size."""


@pytest.mark.parametrize("kind", ENDLESS)
async def test_what_has_no_end_is_cut_off(kind: str) -> None:
    operations = (Operation.PUT, Operation.HEAD, Operation.LIST)
    timeout = "100ms" if kind in UNTIL_TIMEOUT else "20s"
    async with fault_server() as server, rig(server.endpoint, *operations, timeout=timeout) as r:
        server.script |= dict.fromkeys(operations, endless(*ENDLESS[kind]))
        with peak_memory() as peak:
            outcomes = await r.run()
        assert outcomes.keys() == set(operations)
        assert (failure := outcomes[Operation.LIST].failure) is not None
        assert (failure.reason is Reason.TIMEOUT) is (kind in UNTIL_TIMEOUT)
        assert peak() < MEMORY


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


async def test_bodies_are_read_up_to_the_stated_limits() -> None:
    large = answer(200, b"<ListBucketResult>" + b"x" * (2 * MAX_PAGE))
    async with fault_server() as server, rig(server.endpoint, Operation.LIST) as r:
        server.script[Operation.LIST] = send(large, hang_up=True)
        failure = (await r.run())[Operation.LIST].failure
        assert failure is not None
        assert (failure.reason, failure.message) == (
            Reason.INTEGRITY,
            "the listing is longer than any of its size can be",
        )
        swept = await r.probe.sweep()
        assert swept.failure is not None
        assert swept.failure.reason is Reason.INTEGRITY
    assert MAX_DOCUMENT == 256 << 10
    assert MAX_PAGE == 4 << 20
