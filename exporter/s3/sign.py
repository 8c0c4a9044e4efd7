"""AWS Signature Version 4 for a single S3 request, with the payload's hash signed.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

Written here because botocore's signer costs a third of a probe: it builds and takes apart request objects
made for every service. Tests hold each signature against botocore's own.
"""

import hashlib
import hmac
import time
from functools import lru_cache

from exporter.s3.address import Url
from exporter.s3.credentials import AccessKey

_ALGORITHM = "AWS4-HMAC-SHA256"
_NOTHING = hashlib.sha256(b"").hexdigest()


def signed_headers(
    key: AccessKey,
    region: str,
    method: str,
    host: str,
    url: Url,
    body: bytes,
    now: float,
) -> dict[str, str]:
    """The headers that make this request valid for some minutes around `now` (Unix seconds).

    `host` is what the Host header will say, and `url` is encoded as Address does it. The body's SHA-256 is
    signed too, so the storage refuses a body that changed on its way. No `x-amz-checksum-*` or trailer
    is added: R2 answers those with NotImplemented.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    payload = hashlib.sha256(body).hexdigest() if body else _NOTHING
    signed = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": stamp}
    if key.token:
        signed["x-amz-security-token"] = key.token
    names = ";".join(signed)
    lines = "\n".join([f"{name}:{value}" for name, value in signed.items()])
    path, _, query = url.target.partition("?")
    canonical = f"{method}\n{path}\n{query}\n{lines}\n\n{names}\n{payload}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    mac = _signing(key.secret, stamp[:8], region).copy()
    mac.update(to_sign.encode())
    return {
        "Host": host,
        "X-Amz-Content-SHA256": payload,
        "X-Amz-Date": stamp,
        **({"X-Amz-Security-Token": key.token} if key.token else {}),
        "Authorization": (
            f"{_ALGORITHM} Credential={key.key_id}/{scope}, "
            f"SignedHeaders={names}, Signature={mac.hexdigest()}"
        ),
    }


@lru_cache(maxsize=4096)
def _signing(secret: str, day: str, region: str) -> hmac.HMAC:
    """What signs for a day (UTC), for every request with this secret. To be copied."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")
