"""Where a bucket's requests go: path-style and virtual-host-style addressing."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """A bucket behind an endpoint URL. `virtual_host` puts the bucket's name into the host."""

    endpoint: str
    bucket: str
    virtual_host: bool = False

    def url(self, key: str = "", query: Mapping[str, str] | None = None) -> str:
        """The URL of an object, or of the bucket itself, encoded as SigV4's canonical request wants it.

        https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
        """
        parts = urlsplit(self.endpoint)
        host, path = parts.netloc, parts.path.rstrip("/")
        if self.virtual_host:
            host = f"{self.bucket}.{host}"
        else:
            path = f"{path}/{self.bucket}"
        path = f"{path}/{quote(key, safe='/-._~')}" if key or self.virtual_host else path
        pairs = sorted((query or {}).items())
        encoded = "&".join(f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}" for name, value in pairs)
        return f"{parts.scheme}://{host}{path}" + (f"?{encoded}" if encoded else "")
