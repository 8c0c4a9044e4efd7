"""botocore signs; this gives it the request and takes the headers."""

from collections.abc import Mapping

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials


def signed_headers(
    credentials: ReadOnlyCredentials,
    region: str,
    method: str,
    url: str,
    body: bytes = b"",
) -> Mapping[str, str]:
    """The headers that make this request valid for some minutes (AWS Signature Version 4).

    The body's SHA-256 is signed too, so the storage refuses a body that changed on its way. No
    `x-amz-checksum-*` or trailer is added: R2 answers those with NotImplemented.
    """
    request = AWSRequest(method=method, url=url, data=body, headers={})
    S3SigV4Auth(credentials, "s3", region).add_auth(request)
    return dict(request.headers.items())
