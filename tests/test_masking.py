"""A secret is masked in whatever way it is written down; what only looks like one, where it says so."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.masking import MASK, mask, register_secrets
from exporter.s3.printable import printable
from tests.hostile.effort import times
from tests.spelling import SPELLINGS, forget_secrets, spellings

KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY="


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    forget_secrets()


@settings(max_examples=times(200))
@given(st.text(min_size=8).filter(lambda text: not set(text) <= set(MASK)))
@example("0000000/")
@example("'\"<>&/\\ +%=")
@example("p\u00e4ss w\u00f6rd \U0001f511 \u2028")
@example(KEY)
def test_no_spelling_of_a_secret_is_left(secret: str) -> None:
    register_secrets([secret])
    for name, spelled in spellings(secret).items():
        masked = mask(f"said {spelled} twice: {spelled}")
        assert spelled not in masked, (name, masked)
        # What stands before it in the same Base64 stays.
        assert len(masked.partition(MASK)[0]) <= len("said ") + ("Base64 of" in name) * 6, (name, masked)


@given(st.lists(st.text("aA0/+", min_size=4, max_size=9), min_size=1, max_size=30))
def test_none_of_many_that_begin_alike_is_left(secrets: list[str]) -> None:
    register_secrets(secrets)
    for secret in secrets:
        assert mask(f"<{secret}>") == "<***>"


@given(st.text())
def test_where_there_is_no_secret_nothing_is_masked(text: str) -> None:
    register_secrets([KEY])
    assert mask(text) == text or re.search("(?i)authoriz|signature|token|credential|cookie", text)


def test_short_words_are_no_secrets() -> None:
    register_secrets(["key", "", "open"])
    assert mask("the key is open") == "the key is ***"


def test_a_retired_secret_is_masked_until_the_next_change() -> None:
    """An operation under way may still be answered with it."""
    for secrets in (["oldest-secret"], ["old-secret"], ["new-secret"], ["new-secret"]):
        register_secrets(secrets)
    assert mask("oldest-secret old-secret new-secret") == "oldest-secret *** ***"


def test_the_secrets_of_one_stay_when_those_of_another_change() -> None:
    register_secrets(["found-secret"], "another")
    for secrets in (["old-secret"], ["new-secret"], ["newer-secret"]):
        register_secrets(secrets)
    assert mask("found-secret newer-secret") == "*** ***"


@pytest.mark.parametrize(
    ("said", "masked"),
    [
        ("Authorization: Bearer v", "Authorization: Bearer ***"),
        ("proxy-authorization: Basic dg==", "proxy-authorization: Basic ***"),
        ("{'Authorization': 'v'}", "{'Authorization': '***'}"),
        (
            r'{"said": "{\"authorization\": \"Bearer v\"}"}',
            r'{"said": "{\"authorization\": \"Bearer ***\"}"}',
        ),
        (
            "Authorization: AWS4-HMAC-SHA256 Credential=v/auto/s3/aws4_request, SignedHeaders=a, Signature=v",
            "Authorization: AWS4-HMAC-SHA256 ***, SignedHeaders=a, Signature=***",
        ),
        ("/key?X-Amz-Signature=v&x=1", "/key?X-Amz-Signature=***&x=1"),
        ("/key?X-Amz-Security-Token=v&x=1", "/key?X-Amz-Security-Token=***&x=1"),
        ("X-Amz-Security-Token: v Host: a", "X-Amz-Security-Token: *** Host: a"),
        ('{"x-amz-security-token": "v"}', '{"x-amz-security-token": "***"}'),
        ("Cookie: a=v; b=v; c=v Host: a", "Cookie: *** Host: a"),
        ("set-cookie: a=v; Path=/", "set-cookie: ***"),
        ("x-amz-signature: v", "x-amz-signature: ***"),
    ],
)
def test_what_looks_like_a_credential_is_masked(said: str, masked: str) -> None:
    assert mask(said) == masked


@pytest.mark.parametrize(
    "said",
    [
        "HTTP 403 SignatureDoesNotMatch: The request signature we calculated does not match",
        "HTTP 400 InvalidToken: The provided token is malformed or otherwise invalid.",
        "HTTP 400 AuthorizationHeaderMalformed: The authorization header is malformed; the region is",
        "HTTP 403 InvalidAccessKeyId: The AWS Access Key Id you provided does not exist: AKIAEXAMPLE",
        "boto3's credential chain failed with ProfileNotFound",
    ],
)
def test_what_a_storage_says_of_credentials_can_be_read(said: str) -> None:
    assert mask(said) == said


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_a_secret_is_masked_before_a_message_is_cut(spelled: str) -> None:
    """Half a secret is none that could be told any more, and half a session token is long."""
    token = KEY * 30
    register_secrets([token])
    said = SPELLINGS[spelled](token)
    for before in ("", "x" * 250 + " "):
        assert re.match(rf"{before}.{{0,6}}\*\*\*", printable(f"{before}{said} is not valid", 300))
