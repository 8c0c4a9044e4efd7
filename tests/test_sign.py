"""Our signatures against botocore's own, for the same request at the same moment."""

from datetime import UTC, datetime
from unittest.mock import patch

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from exporter.s3.address import Address
from exporter.s3.connections import host_of
from exporter.s3.credentials import AccessKey
from exporter.s3.sign import signed_headers

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
HEADER_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
ENDPOINTS = [
    "https://s3.example.org",
    "http://gw:9000/a/b",
    "http://127.0.0.1:1",
    "https://S3.Example.org:443",
]


@given(
    key_pair=st.builds(AccessKey, HEADER_TEXT, TEXT, st.none() | HEADER_TEXT),
    region=st.sampled_from(["auto", "us-east-1", "eu-central-1"]),
    method=st.sampled_from(["GET", "PUT", "DELETE", "HEAD"]),
    endpoint=st.sampled_from(ENDPOINTS),
    virtual_host=st.booleans(),
    key=st.just("") | TEXT,
    query=st.dictionaries(st.sampled_from(["list-type", "prefix", "max-keys", "a"]), TEXT | st.just("")),
    body=st.binary(max_size=50),
    now=st.integers(0, 4_000_000_000),
)
def test_every_signature_is_botocore_s(
    key_pair: AccessKey,
    region: str,
    method: str,
    endpoint: str,
    virtual_host: bool,
    key: str,
    query: dict[str, str],
    body: bytes,
    now: int,
) -> None:
    url = Address(endpoint, "media", virtual_host).url(key, query)
    host = host_of(url.origin)
    request = AWSRequest(method=method, url=str(url), data=body, headers={"Host": host})
    theirs = ReadOnlyCredentials(key_pair.key_id, key_pair.secret, key_pair.token)
    moment = datetime.fromtimestamp(now, UTC)
    with patch("botocore.auth.get_current_datetime", lambda: moment):
        S3SigV4Auth(theirs, "s3", region).add_auth(request)
    assert signed_headers(key_pair, region, method, host, url, body, now) == dict(request.headers.items())


def test_a_signing_key_is_that_of_its_day() -> None:
    """Before and after midnight (UTC), for the key is remembered for a day."""
    key_pair = AccessKey("AKIDEXAMPLE", "secret")
    url = Address("https://s3.example.org", "media").url("key")
    midnight = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    for now, day in ((midnight - 1, "20260228"), (midnight, "20260301"), (midnight - 1, "20260228")):
        headers = signed_headers(key_pair, "auto", "GET", "s3.example.org", url, b"", now)
        assert f"/{day}/auto/s3/aws4_request" in headers["Authorization"]
        assert headers["X-Amz-Date"].startswith(day)


def test_each_secret_has_its_own() -> None:
    url = Address("https://s3.example.org", "media").url("key")
    signed = {
        signed_headers(AccessKey("AKIDEXAMPLE", secret), "auto", "GET", "h", url, b"", 0)["Authorization"]
        for secret in ("one", "another", "one")
    }
    assert len(signed) == 2
