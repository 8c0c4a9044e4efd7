"""Where requests go: URLs, and a bucket's path-style and virtual-host-style addressing."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlsplit


class Url(NamedTuple):
    """An absolute URL in two parts: with whom to connect, and the path and query to ask for."""

    origin: str
    target: str

    @classmethod
    def of(cls, text: str) -> "Url":
        """`text` must be encoded as it is to be sent."""
        parts = urlsplit(text)
        query = f"?{parts.query}" if parts.query else ""
        return cls(f"{parts.scheme}://{parts.netloc}", (parts.path or "/") + query)

    def __str__(self) -> str:
        return self.origin + self.target


class Address:
    """A bucket behind an endpoint URL. `virtual_host` puts the bucket's name into the host."""

    def __init__(self, endpoint: str, bucket: str, virtual_host: bool = False) -> None:
        parts = urlsplit(endpoint)
        path = parts.path.rstrip("/")
        if virtual_host:
            self._origin = f"{parts.scheme}://{bucket}.{parts.netloc}"
            self._bucket = self._objects = f"{path}/"
        else:
            self._origin = f"{parts.scheme}://{parts.netloc}"
            self._bucket = f"{path}/{bucket}"
            self._objects = f"{self._bucket}/"

    def url(self, key: str = "", query: Mapping[str, str] | None = None) -> Url:
        """The URL of an object, or of the bucket itself, encoded as SigV4's canonical request wants it.

        https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
        """
        path = self._objects + _quoted(key) if key else self._bucket
        if not query:
            return Url(self._origin, path)
        pairs = sorted(query.items())
        encoded = "&".join(f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}" for name, value in pairs)
        return Url(self._origin, f"{path}?{encoded}")


@lru_cache(maxsize=1024)
def _quoted(key: str) -> str:
    """Remembered, for each operation of a run asks for the same key."""
    return quote(key, safe="/-._~")
