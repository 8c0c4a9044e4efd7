"""The two XML documents of S3 that a probe reads: an error and a listing."""

from dataclasses import dataclass
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from exporter.s3.printable import printable

MAX_MARKUP = 1 << 16
"""Tags, comments and the like in a document; a listing of 1000 keys has some 22 000. Small as they are
written, each takes a hundred times the memory, and time in which no other target gets its turn."""


@dataclass(frozen=True, slots=True)
class S3Error:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; fields it lacked are empty."""

    code: str = ""
    message: str = ""
    request_id: str = ""
    region: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""

    keys: list[str]
    next_token: str | None


class GarbageError(Exception):
    """The body is not the XML document that S3 promises here."""


def parse_error(body: bytes) -> S3Error:
    """The error in `body`; an empty one where the body holds none (a HEAD, a proxy's HTML page)."""
    try:
        root = _parse(body)
    except (ElementTree.ParseError, ValueError):
        return S3Error()
    if _local(root.tag) != "Error":
        return S3Error()
    texts = {_local(child.tag): (child.text or "").strip() for child in root}
    return S3Error(
        code=printable(texts.get("Code", ""), 64),
        message=printable(texts.get("Message", ""), 300),
        request_id=printable(texts.get("RequestId", ""), 128),
        region=printable(texts.get("Region", ""), 64),
        endpoint=printable(texts.get("Endpoint", ""), 255),
    )


def parse_listing(body: bytes) -> Listing:
    """Its keys as they are, where the storage says that it has URL-encoded them. Raises GarbageError."""
    try:
        root = _parse(body)
    except (ElementTree.ParseError, ValueError) as error:
        raise GarbageError("the listing is not well-formed XML") from error
    if _local(root.tag) != "ListBucketResult":
        got = f"<{printable(_local(root.tag), 40)}> {parse_error(body).code}".rstrip()
        raise GarbageError(f"expected a ListBucketResult, got {got}")
    keys: list[str] = []
    token, encoding = None, None
    for child in root:
        match _local(child.tag):
            case "Contents":
                keys.extend(key.text or "" for key in child if _local(key.tag) == "Key")
            case "NextContinuationToken":
                token = child.text
            case "EncodingType":
                encoding = child.text
    return Listing([unquote_plus(key) for key in keys] if encoding == "url" else keys, token)


def _parse(body: bytes) -> ElementTree.Element:
    """Raises ParseError and ValueError. S3 writes UTF-8 and no DTD, whose entities could grow for long."""
    text = body.decode()
    if "<!DOCTYPE" in text:
        raise ValueError("a document type is not part of S3")
    if text.count("<") > MAX_MARKUP:
        raise ValueError("no document of S3 has so many elements")
    return ElementTree.fromstring(text)  # noqa: S314  see above


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
