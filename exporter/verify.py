"""Is this answer what was promised? Content checks of GET, HEAD and LIST after, or without, a PUT."""

import hashlib
from dataclasses import dataclass, field

from exporter.hints import ALTERED, NO_S3
from exporter.keys import ProbeKey
from exporter.outcome import Failure, Operation, Reason
from exporter.s3.client import Answer
from exporter.s3.printable import printable
from exporter.s3.xml import GarbageError, parse_listing


@dataclass(frozen=True, slots=True)
class Written:
    """What this run's PUT sent. `stored` says that the storage confirmed it; else it may exist or not."""

    body: bytes = field(repr=False)
    etag: str
    stored: bool

    @classmethod
    def from_put(cls, body: bytes, answer: Answer | None) -> "Written":
        """`answer` is that of a PUT that succeeded, or None."""
        return cls(body, answer.headers.get("etag", "") if answer else "", answer is not None)


def judge(
    operation: Operation, answer: Answer | None, key: ProbeKey, written: Written | None
) -> Failure | None:
    """The integrity failure in a reply that was otherwise good; `written` is None in a run without PUT.

    Without a confirmed PUT, GET and HEAD may find nothing: that a proper 404 is good news is
    decided before, and an object that is there all the same must still be ours.
    """
    if answer is None:
        return None
    match operation:
        case Operation.GET:
            return _judge_get(answer, written)
        case Operation.HEAD:
            return _judge_head(answer, written)
        case Operation.LIST:
            return _judge_list(answer, key, written)
        case _:
            return None


def _judge_get(answer: Answer, written: Written | None) -> Failure | None:
    if answer.status == 404:
        return _lost() if written and written.stored else None
    if written is None:
        return _failure("an object exists under a key that nobody wrote", hint=NO_S3)
    if answer.body == written.body and not answer.truncated:
        return None
    got, want = len(answer.body), len(written.body)
    if answer.truncated or got != want:
        more = "more than " if answer.truncated else ""
        return _failure(f"wrote {want} bytes, read back {more}{got}")
    digests = [hashlib.sha256(part).hexdigest()[:16] for part in (written.body, answer.body)]
    return _failure(f"wrote {want} bytes with SHA-256 {digests[0]}…, read back others with {digests[1]}…")


def _judge_head(answer: Answer, written: Written | None) -> Failure | None:
    if answer.status == 404:
        return _lost() if written and written.stored else None
    if written is None:
        return _failure("an object exists under a key that nobody wrote", hint=NO_S3)
    length = answer.headers.get("content-length", "")
    if length != str(len(written.body)):
        return _failure(f"wrote {len(written.body)} bytes, HEAD says {printable(length, 20) or 'no length'}")
    etag = answer.headers.get("etag", "")
    if written.etag and etag != written.etag:
        return _failure("HEAD's ETag is not the one that PUT gave")
    return None


def _judge_list(answer: Answer, key: ProbeKey, written: Written | None) -> Failure | None:
    if answer.truncated:
        return _failure("the listing is longer than any of its size can be", hint=NO_S3)
    try:
        listing = parse_listing(answer.body)
    except GarbageError as error:
        return _failure(str(error), hint=NO_S3)
    if written and written.stored and str(key) not in listing.keys:
        return _failure("the object just written is missing from the listing")
    return None


def _lost() -> Failure:
    return _failure("the object just written is not there", code="NoSuchKey")


def _failure(message: str, code: str = "", hint: str = ALTERED) -> Failure:
    return Failure(Reason.INTEGRITY, message, code, hint)
