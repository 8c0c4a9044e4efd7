"""Every kind of trouble that a storage can give with one operation, by name."""

from tests.faults.server import (
    Behaviour,
    Call,
    answer,
    drip,
    flood,
    listing,
    reset_after,
    s3_error,
    send,
    send_and_linger,
)

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
_ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_BOMB = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><Error><Code>&b;</Code></Error>'


async def hang_up(_: Call) -> None:
    """The connection is closed in the middle of the request's turn."""
    raise ConnectionAbortedError


KINDS: dict[str, Behaviour] = {
    "hangs": send_and_linger(b""),
    "hangs within the head": send_and_linger(b"HTTP/1.1 200 OK\r\nContent-"),
    "hangs within the body": send_and_linger(_HEAD + b"begun"),
    "closes": hang_up,
    "resets": reset_after(),
    "resets within the head": reset_after(b"HTTP/1.1 2"),
    "resets within the body": reset_after(_HEAD + b"begun"),
    "closes within the body": send(_HEAD + b"begun", hang_up=True),
    "answers byte by byte": drip(answer(200, b"0123456789"), 0.05),
    "body byte by byte": drip(bytes(1000), 0.01, head=_HEAD),
    "endless body": flood(_HEAD.replace(b"100000", b"100000000000000")),
    "endless head": flood(b"HTTP/1.1 200 OK\r\nX-Zeros: "),
    "endless chunk": flood(_ENDLESS + b"ffffffff\r\n"),
    "bad chunk": send(_ENDLESS + b"no number\r\n\r\n", hang_up=True),
    "internal error": send(s3_error(500, "InternalError")),
    "slow down": send(s3_error(503, "SlowDown")),
    "too many requests": send(s3_error(429, "TooManyRequests")),
    "bad gateway": send(answer(502, b"<html>Bad gateway</html>")),
    "gateway timeout": send(answer(504)),
    "access denied": send(s3_error(403, "AccessDenied")),
    "unknown key id": send(s3_error(403, "InvalidAccessKeyId")),
    "bad signature": send(s3_error(403, "SignatureDoesNotMatch")),
    "unauthorized": send(answer(401)),
    "no such bucket": send(s3_error(404, "NoSuchBucket")),
    "no such key": send(s3_error(404, "NoSuchKey")),
    "moved": send(s3_error(301, "PermanentRedirect", Location="http://127.0.0.1:1/")),
    "bad request": send(s3_error(400, "RequestTimeTooSkewed")),
    "not implemented": send(s3_error(501, "NotImplemented")),
    "no HTTP": send(b"220 mail.example.org ESMTP\r\n\r\n", hang_up=True),
    "status of no number": send(b"HTTP/1.1 abc OK\r\n\r\n", hang_up=True),
    "nothing at all": send(answer(200)),
    "another object": send(answer(200, b"what nobody wrote", ETag='"another"')),
    "an empty listing": send(answer(200, listing([]))),
    "garbage": send(answer(200, bytes(range(256)))),
    "entities": send(answer(500, _BOMB)),
    "two answers": send(answer(200) + answer(500)),
}
