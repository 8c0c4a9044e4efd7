"""Who may read and write: the decision, as a pure function of the request and the rules."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import ApiToken, Secret
from exporter.web.access import BASIC, BEARER, TOO_NARROW, host_of, matching_token
from exporter.web.auth import AccessPolicy, Allow, Deny, Proof, RequestFacts, decide, is_loopback
from exporter.web.toolkit import WebConfig

TOKEN = "token-for-writes"
WRITER = ApiToken(name="deploy", scope="write", token=Secret(TOKEN))
READER = ApiToken(name="grafana", scope="read", token=Secret("token-for-reads"))
USERS = {"alice": Secret("not looked at here")}
LOCAL = AccessPolicy(loopback_only=True)
PUBLIC = AccessPolicy(loopback_only=False)
WITH_TOKEN = replace(PUBLIC, tokens=(WRITER, READER))
WITH_READER = replace(PUBLIC, tokens=(READER,))
WITH_USERS = replace(PUBLIC, users=USERS)
WITH_BOTH = replace(WITH_TOKEN, users=USERS)
WITH_READER_AND_USERS = replace(WITH_READER, users=USERS)
POST = RequestFacts("POST", host="localhost:9977")
GET = RequestFacts("GET", host="localhost:9977")


def code(verdict: Allow | Deny) -> int | str:
    return verdict.code if isinstance(verdict, Deny) else 200


@pytest.mark.parametrize(
    ("policy", "proof", "read", "write"),
    [
        (LOCAL, Proof.ABSENT, 200, 200),
        (LOCAL, Proof.WRONG, 200, 200),
        (PUBLIC, Proof.ABSENT, 200, "writes_disabled"),
        (PUBLIC, Proof.WRONG, 200, "writes_disabled"),
        (WITH_TOKEN, Proof.ABSENT, 200, "unauthorized"),
        (WITH_TOKEN, Proof.WRONG, 200, "unauthorized"),
        (WITH_TOKEN, Proof.READ_TOKEN, 200, "insufficient_scope"),
        (WITH_TOKEN, Proof.WRITE_TOKEN, 200, 200),
        (WITH_READER, Proof.ABSENT, 200, "writes_disabled"),
        (WITH_READER, Proof.WRONG, 200, "writes_disabled"),
        (WITH_READER, Proof.READ_TOKEN, 200, "insufficient_scope"),
        (WITH_USERS, Proof.ABSENT, "unauthorized", "unauthorized"),
        (WITH_USERS, Proof.WRONG, "unauthorized", "unauthorized"),
        (WITH_USERS, Proof.LOGIN, 200, 200),
        (WITH_BOTH, Proof.ABSENT, "unauthorized", "unauthorized"),
        (WITH_BOTH, Proof.WRONG, "unauthorized", "unauthorized"),
        (WITH_BOTH, Proof.LOGIN, 200, 200),
        (WITH_BOTH, Proof.READ_TOKEN, 200, "insufficient_scope"),
        (WITH_BOTH, Proof.WRITE_TOKEN, 200, 200),
        (WITH_READER_AND_USERS, Proof.ABSENT, "unauthorized", "unauthorized"),
        (WITH_READER_AND_USERS, Proof.READ_TOKEN, 200, "insufficient_scope"),
        (WITH_READER_AND_USERS, Proof.LOGIN, 200, 200),
        (replace(WITH_TOKEN, loopback_only=True), Proof.ABSENT, 200, "unauthorized"),
        (replace(WITH_READER, loopback_only=True), Proof.ABSENT, 200, "writes_disabled"),
        (replace(WITH_USERS, loopback_only=True), Proof.ABSENT, "unauthorized", "unauthorized"),
    ],
)
def test_who_may_read_and_write(
    policy: AccessPolicy, proof: Proof, read: int | str, write: int | str
) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        assert code(decide(replace(GET, method=method, proof=proof), policy)) == read
    for method in ("POST", "PUT", "PATCH", "DELETE", "PROPFIND"):
        assert code(decide(replace(POST, method=method, proof=proof), policy)) == write


@pytest.mark.parametrize(
    ("policy", "method", "challenges"),
    [
        (WITH_TOKEN, "POST", (BEARER,)),
        (WITH_USERS, "POST", (BASIC,)),
        (WITH_BOTH, "POST", (BASIC, BEARER)),
        (WITH_BOTH, "GET", (BASIC, BEARER)),
        (WITH_USERS, "GET", (BASIC,)),
    ],
)
def test_a_401_says_what_would_do(policy: AccessPolicy, method: str, challenges: tuple[str, ...]) -> None:
    verdict = decide(replace(POST, method=method), policy)
    assert isinstance(verdict, Deny)
    assert (verdict.status, verdict.challenges) == (401, challenges)


def test_a_token_with_too_narrow_a_scope_is_told_so() -> None:
    verdict = decide(replace(POST, proof=Proof.READ_TOKEN), WITH_TOKEN)
    assert isinstance(verdict, Deny)
    assert (verdict.status, verdict.challenges) == (403, (TOO_NARROW,))


def test_writes_disabled_says_how_to_enable_them() -> None:
    verdict = decide(POST, PUBLIC)
    assert isinstance(verdict, Deny)
    assert verdict.status == 403
    for way in ("R2_EXPORTER_API_TOKEN", "api.token_file", "basic_auth_users", "--web.config.file"):
        assert way in verdict.message


@pytest.mark.parametrize(
    "host", [None, "", "evil.example.org", "10.0.0.1:9977", "localhost.evil.org", "[::1"]
)
def test_a_rebound_name_cannot_write_without_a_token(host: str | None) -> None:
    assert code(decide(replace(POST, host=host), LOCAL)) == "host_not_allowed"
    assert code(decide(replace(GET, host=host), LOCAL)) == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9977", "127.8.0.1", "[::1]:9977"])
def test_loopback_names_can_write(host: str) -> None:
    assert code(decide(replace(POST, host=host), LOCAL)) == 200


BROWSER_REQUESTS: list[tuple[str | None, str | None, bool]] = [
    (None, None, True),
    ("http://localhost:9977", None, True),
    ("http://LOCALHOST:9977", "same-origin", True),
    (None, "none", True),
    ("http://localhost:9977", "same-origin", True),
    ("http://evil.example.org", None, False),
    ("http://localhost:3000", None, False),
    ("http://localhost:3000", "same-site", False),
    ("http://evil.example.org", "cross-site", False),
    (None, "cross-site", False),
    ("null", None, False),
    ("", None, False),
    ("http://[", None, False),
]


@pytest.mark.parametrize(("origin", "fetch_site", "allowed"), BROWSER_REQUESTS)
def test_pages_of_other_sites_cannot_write(origin: str | None, fetch_site: str | None, allowed: bool) -> None:
    request = replace(POST, origin=origin, fetch_site=fetch_site)
    expected = 200 if allowed else "cross_site_request"
    assert code(decide(request, LOCAL)) == expected
    assert code(decide(replace(request, proof=Proof.LOGIN), WITH_USERS)) == expected
    assert code(decide(replace(request, proof=Proof.WRITE_TOKEN), WITH_TOKEN)) == 200
    assert code(decide(replace(request, method="GET"), LOCAL)) == 200


def test_a_trusted_origin_may_write() -> None:
    request = replace(POST, origin="https://grafana.example.org", fetch_site="cross-site")
    trusting = replace(LOCAL, trusted_origins=frozenset({"https://grafana.example.org"}))
    assert code(decide(request, trusting)) == 200


def test_a_client_certificate_needs_an_allowed_name_before_anything_else() -> None:
    policy = replace(WITH_TOKEN, client_sans=frozenset({"a", "b"}))
    writer = replace(POST, proof=Proof.WRITE_TOKEN)
    assert code(decide(replace(writer, certificate_sans=frozenset({"b", "c"})), policy)) == 200
    assert (
        code(decide(replace(writer, certificate_sans=frozenset({"c"})), policy))
        == "client_certificate_not_allowed"
    )
    assert code(decide(GET, policy)) == "client_certificate_not_allowed"


def test_a_required_certificate_is_enough_to_write_unless_more_is_set() -> None:
    shown = replace(POST, host="exporter.example.org", certificate_sans=frozenset())
    for open_policy in (LOCAL, PUBLIC):
        policy = replace(open_policy, certificates_only=True)
        assert code(decide(shown, policy)) == 200
        assert code(decide(replace(shown, origin="http://evil.example.org"), policy)) == "cross_site_request"
        assert not policy.takes_no_writes
    assert code(decide(shown, PUBLIC)) == "writes_disabled"
    assert code(decide(POST, replace(PUBLIC, certificates_only=True))) == "writes_disabled"
    assert code(decide(shown, replace(WITH_TOKEN, certificates_only=True))) == "unauthorized"
    assert code(decide(shown, replace(WITH_USERS, certificates_only=True))) == "unauthorized"


def test_a_preflight_needs_no_login_and_yet_an_allowed_certificate() -> None:
    asked = RequestFacts("OPTIONS", preflight=True)
    assert code(decide(asked, WITH_USERS)) == 200
    named = replace(WITH_USERS, client_sans=frozenset({"a"}))
    assert code(decide(asked, named)) == "client_certificate_not_allowed"
    assert code(decide(replace(asked, certificate_sans=frozenset({"a"})), named)) == 200


requests = st.builds(
    RequestFacts,
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]) | st.text(),
    proof=st.sampled_from(Proof),
    host=st.none() | st.text() | st.sampled_from(["localhost", "[::1]:1"]),
    origin=st.none() | st.text(),
    fetch_site=st.none() | st.text(),
)


@given(requests)
def test_no_request_without_proof_passes_a_public_exporter_s_writes(request: RequestFacts) -> None:
    for policy in (PUBLIC, WITH_TOKEN, WITH_READER, WITH_USERS, WITH_BOTH):
        passed = isinstance(decide(request, policy), Allow)
        proven = request.proof in {Proof.LOGIN, Proof.WRITE_TOKEN} and (policy.tokens or policy.users)
        assert not passed or proven or request.method in {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.org", "127.1.evil"]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@given(st.text())
def test_any_host_header_has_a_host_or_none(header: str) -> None:
    assert isinstance(host_of(header), str)


def test_an_empty_token_is_refused_rather_than_matched() -> None:
    with pytest.raises(ValueError, match="empty"):
        AccessPolicy(loopback_only=True, tokens=(ApiToken(name="empty", scope="read", token=Secret("")),))


@given(sent=st.sampled_from(["a-token", "another", "a-token ", "A-TOKEN", ""]) | st.text())
def test_the_token_that_was_sent_is_found_and_no_other(sent: str) -> None:
    tokens = [ApiToken(name=text, scope="read", token=Secret(text)) for text in ("a-token", "another")]
    found = matching_token(sent, tokens)
    assert (found.name if found else None) == (sent if sent in {"a-token", "another"} else None)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://grafana.example.org", "https://grafana.example.org"),
        ("https://Grafana.example.org:443", "https://grafana.example.org"),
        ("http://grafana.example.org:80", "http://grafana.example.org"),
        ("http://grafana.example.org:443", "http://grafana.example.org:443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_origins_are_known_as_browsers_send_them(written: str, sent: str) -> None:
    policy = AccessPolicy.of(WebConfig(), listen_hosts=["127.0.0.1"], cors_origins=["*", written])
    assert (policy.trusted_origins, policy.any_origin) == (frozenset({sent}), True)


def test_a_policy_shows_no_secret() -> None:
    shown = repr(WITH_BOTH)
    assert TOKEN not in shown
    assert USERS["alice"].get_secret_value() not in shown
