"""An endpoint that holds the bucket as well, as dashboards show it to be copied."""

import re
from urllib.parse import urlsplit

from exporter.config.document import Value
from exporter.config.values import parse_url

_R2 = ".r2.cloudflarestorage.com"
# A store's own host, by what comes first in it: only then is a bucket before it surely no part of the name.
_STORE = re.compile(rf"s3[.-].+|[0-9a-f]{{32}}\.([a-z]+\.)?{re.escape(_R2[1:])}")
_TWICE = "`bucket` says it, and said twice it would put the objects outside of key_prefix"


def surplus(endpoint: Value, bucket: Value) -> str:
    """What to leave out of the endpoint and why; "" for nothing, and where it is no usable URL."""
    try:
        parts = urlsplit(parse_url(endpoint if isinstance(endpoint, str) else ""))
    except ValueError:
        return ""
    host = (parts.hostname or "").rstrip(".")
    if isinstance(bucket, str) and bucket:
        if parts.path.endswith(f"/{bucket}"):
            return f"leave the bucket's name out at its end: {_TWICE}"
        before, _, store = host.partition(f"{bucket.lower()}.")
        if not before and _STORE.fullmatch(store):
            return f"leave the bucket's name out of its host: {_TWICE}"
    if parts.path and host.endswith(_R2):
        return "leave its path out: R2's endpoints have none, and the bucket goes into `bucket`"
    return ""
