"""`python -m bench.storage [--delay constant]` prints its URL and serves until it is ended."""

import argparse
import asyncio
import hashlib
import random
import time
from email.utils import formatdate
from typing import cast
from urllib.parse import unquote

import uvloop

from bench.storage import DELAYS

LISTING = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>bucket</Name><Prefix>{key}</Prefix><KeyCount>1</KeyCount><MaxKeys>2</MaxKeys>"
    "<IsTruncated>false</IsTruncated><Contents><Key>{key}</Key>"
    "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;0&quot;</ETag><Size>1024</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
)


def delays(kind: str) -> float:
    """Seconds to wait before the next answer."""
    match kind:
        case "constant":
            return 0.02
        case "bimodal":
            return 0.005 if random.random() < 0.7 else 0.2  # not half and half: it has a median
        case "long-tailed":  # a median of 20 ms, one in a hundred above 0.2 s
            return min(random.lognormvariate(-3.9, 1.0), 2.0)
    return 0.0


class Server:
    """The objects, and the current second's Date."""

    def __init__(self, delay: str) -> None:
        self.delay = delay
        self.objects: dict[bytes, bytes] = {}
        self.served = 0
        self._second, self._date = 0, b""

    def answer(self, method: bytes, path: bytes, body: bytes) -> tuple[bytes, bytes]:
        """The status line with the headers that are the answer's own, and its body."""
        if method == b"PUT":
            self.objects[path] = body
            return b"200 OK\r\nContent-Length: 0\r\nETag: " + _etag(body), b""
        if method == b"GET" and b"list-type" in path:
            key = unquote(path.partition(b"prefix=")[2].partition(b"&")[0].decode())
            listing = LISTING.format(key=key).encode()
            return b"200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d" % len(listing), listing
        if method == b"DELETE":
            self.objects.pop(path, None)
            return b"204 No Content", b""
        content = self.objects.get(path)
        if content is None:
            return b"404 Not Found\r\nContent-Length: 0", b""
        head = b"200 OK\r\nContent-Length: %d\r\nETag: " % len(content) + _etag(content)
        return head, content if method == b"GET" else b""

    def date(self) -> bytes:
        if (now := int(time.time())) != self._second:
            self._second, self._date = now, formatdate(now, usegmt=True).encode()
        return self._date


def _etag(content: bytes) -> bytes:
    return b'"' + hashlib.md5(content, usedforsecurity=False).hexdigest().encode() + b'"'


class Connection(asyncio.Protocol):
    """HTTP/1.1, as far as clients of S3 speak it to a server that they trust."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        fields = head.lower()
        if b"expect: 100-continue" in fields and not rest:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = fields.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        if len(rest) < int(length or 0):
            return
        self._received = b""
        method, path, _ = head.split(b" ", 2)
        closes = b"\r\nconnection: close" in fields
        args = (time.perf_counter(), method, path, rest, closes)
        if seconds := delays(self._server.delay):
            asyncio.get_running_loop().call_later(seconds, self._respond, *args)
        else:
            self._respond(*args)

    def _respond(self, began: float, method: bytes, path: bytes, body: bytes, closes: bool) -> None:
        server = self._server
        head, content = server.answer(method, path, body)
        server.served += 1
        held = round((time.perf_counter() - began) * 1e6)
        self._transport.write(
            b"HTTP/1.1 %b\r\nDate: %b\r\nx-amz-request-id: %x-%d\r\n%b\r\n%b"
            % (head, server.date(), server.served, held, b"Connection: close\r\n" if closes else b"", content)
        )
        if closes:
            self._transport.close()


async def main(delay: str) -> None:
    server = Server(delay)
    listener = await asyncio.get_running_loop().create_server(lambda: Connection(server), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A storage for measurements.")
    parser.add_argument("--delay", choices=DELAYS, default="none")
    uvloop.run(main(parser.parse_args().delay))
