"""botocore signs; this gives it the request and takes the headers."""

from collections.abc import Mapping

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from yarl import URL


def signed_headers(
    credentials: ReadOnlyCredentials,
    region: str,
    method: str,
    url: str,
    body: bytes = b"",
) -> Mapping[str, str]:
    """The headers that make this request valid for some minutes (AWS Signature Version 4).

    The body's SHA-256 is signed too, so the storage refuses a body that changed on its way. No
    `x-amz-checksum-*` or trailer is added: R2 answers those with NotImplemented. `Host` is among
    them, as aiohttp would write it: botocore alone would sign it in lower case.
    """
    host = URL(url, encoded=True).host_port_subcomponent or ""
    request = AWSRequest(method=method, url=url, data=body, headers={"Host": host})
    S3SigV4Auth(credentials, "s3", region).add_auth(request)
    return dict(request.headers.items())
