import asyncio
import base64
import itertools
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import bcrypt
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.values import Secret
from exporter.web.access import BASIC, BEARER, TokenBucket, host_of
from exporter.web.auth import AccessPolicy, Allow, Deny, Proof, RequestFacts, decide, is_loopback, protect
from exporter.web.passwords import Logins
from exporter.web.toolkit import RateLimit

PASSWORD = "correct horse"
TOKEN = "token-for-writes"


def hashed(password: str) -> Secret:
    return Secret(bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode())


USERS = {"alice": hashed(PASSWORD)}
LOCAL = AccessPolicy(loopback_only=True)
PUBLIC = AccessPolicy(loopback_only=False)
WITH_TOKEN = replace(PUBLIC, token=Secret(TOKEN))
WITH_USERS = replace(PUBLIC, users=USERS)
WITH_BOTH = replace(PUBLIC, token=Secret(TOKEN), users=USERS)
POST = RequestFacts("POST", host="localhost:9977")
GET = RequestFacts("GET", host="localhost:9977")


def code(verdict: Allow | Deny) -> int | str:
    return verdict.code if isinstance(verdict, Deny) else 200


# --- the decision ---


@pytest.mark.parametrize(
    ("policy", "proof", "read", "write"),
    [
        (LOCAL, Proof.ABSENT, 200, 200),
        (LOCAL, Proof.WRONG, 200, 200),
        (PUBLIC, Proof.ABSENT, 200, "writes_disabled"),
        (PUBLIC, Proof.WRONG, 200, "writes_disabled"),
        (WITH_TOKEN, Proof.ABSENT, 200, "unauthorized"),
        (WITH_TOKEN, Proof.WRONG, 200, "unauthorized"),
        (WITH_TOKEN, Proof.TOKEN, 200, 200),
        (WITH_USERS, Proof.ABSENT, "unauthorized", "unauthorized"),
        (WITH_USERS, Proof.WRONG, "unauthorized", "unauthorized"),
        (WITH_USERS, Proof.LOGIN, 200, 200),
        (WITH_BOTH, Proof.ABSENT, "unauthorized", "unauthorized"),
        (WITH_BOTH, Proof.WRONG, "unauthorized", "unauthorized"),
        (WITH_BOTH, Proof.LOGIN, 200, 200),
        (WITH_BOTH, Proof.TOKEN, "unauthorized", 200),
        (replace(WITH_TOKEN, loopback_only=True), Proof.ABSENT, 200, "unauthorized"),
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
        (WITH_BOTH, "GET", (BASIC,)),
    ],
)
def test_a_401_says_what_would_do(policy: AccessPolicy, method: str, challenges: tuple[str, ...]) -> None:
    verdict = decide(replace(POST, method=method), policy)
    assert isinstance(verdict, Deny)
    assert (verdict.status, verdict.challenges) == (401, challenges)


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
    assert code(decide(replace(request, proof=Proof.TOKEN), WITH_TOKEN)) == 200
    assert code(decide(replace(request, method="GET"), LOCAL)) == 200


def test_a_trusted_origin_may_write() -> None:
    request = replace(POST, origin="https://grafana.example.org", fetch_site="cross-site")
    trusting = replace(LOCAL, trusted_origins=frozenset({"https://grafana.example.org"}))
    assert code(decide(request, trusting)) == 200


def test_a_client_certificate_needs_an_allowed_name_before_anything_else() -> None:
    policy = replace(WITH_TOKEN, client_sans=frozenset({"a", "b"}))
    writer = replace(POST, proof=Proof.TOKEN)
    assert code(decide(replace(writer, certificate_sans=frozenset({"b", "c"})), policy)) == 200
    assert (
        code(decide(replace(writer, certificate_sans=frozenset({"c"})), policy))
        == "client_certificate_not_allowed"
    )
    assert code(decide(GET, policy)) == "client_certificate_not_allowed"


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
    for policy in (PUBLIC, WITH_TOKEN, WITH_USERS, WITH_BOTH):
        passed = isinstance(decide(request, policy), Allow)
        proven = request.proof in {Proof.LOGIN, Proof.TOKEN} and (policy.token or policy.users)
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
        AccessPolicy(loopback_only=True, token=Secret(""))


def test_a_policy_shows_no_secret() -> None:
    shown = repr(WITH_BOTH)
    assert TOKEN not in shown
    assert USERS["alice"].get_secret_value() not in shown


# --- the rate limit ---


@given(
    interval=st.integers(1, 10**10),
    burst=st.integers(1, 50),
    gaps=st.lists(st.integers(0, 10**10), min_size=1, max_size=200),
    start=st.integers(0, 2**62),
)
def test_never_more_than_burst_and_what_time_refilled(
    interval: int, burst: int, gaps: list[int], start: int
) -> None:
    bucket = TokenBucket(RateLimit.model_construct(interval=interval / 1e9, burst=burst))
    exact = round(interval / 1e9 * 1e9)
    times = [start + total for total in itertools.accumulate(gaps)]
    passed = [now for now in times if bucket.wait(now) == 0]
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            assert (last - first + 1 - burst) * exact <= passed[last] - begin
    assert passed[:burst] == times[:burst]


@given(burst=st.integers(1, 20), extra=st.integers(0, 10**9))
def test_waiting_as_told_is_enough_and_less_is_not(burst: int, extra: int) -> None:
    bucket = TokenBucket(RateLimit.model_construct(interval=0.5, burst=burst))
    assert [bucket.wait(extra) for _ in range(burst)] == [0] * burst
    wait = bucket.wait(extra)
    assert wait == 500_000_000
    assert bucket.wait(extra + wait - 1) == 1
    assert bucket.wait(extra + wait) == 0


# --- logins ---


class Counted:
    """bcrypt's check, counting calls and how many ran at once."""

    def __init__(self) -> None:
        self.calls = 0
        self.most_at_once = 0
        self.threads: set[int] = set()
        self._running = 0
        self._check = bcrypt.checkpw

    def __call__(self, password: bytes, hashed_password: bytes) -> bool:
        self.calls += 1
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        self.threads.add(threading.get_ident())
        try:
            return self._check(password, hashed_password)
        finally:
            self._running -= 1


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(bcrypt, "checkpw", counted)
    return counted


async def test_results_good_and_bad_are_remembered(checks: Counted) -> None:
    logins = Logins()
    for _ in range(3):
        assert await logins.verify("alice", PASSWORD, USERS)
        assert not await logins.verify("alice", "wrong", USERS)
        assert not await logins.verify("nobody", PASSWORD, USERS)
    assert checks.calls == 3


async def test_one_bcrypt_at_a_time_off_the_loop_and_one_per_login(checks: Counted) -> None:
    logins = Logins()
    attempts = [logins.verify("alice", f"guess {n % 10}", USERS) for n in range(40)]
    assert not any(await asyncio.gather(*attempts))
    assert checks.calls == 10
    assert checks.most_at_once == 1
    assert threading.get_ident() not in checks.threads


async def test_an_unknown_user_costs_as_much_as_the_costliest_known_one(checks: Counted) -> None:
    users = USERS | {"bob": Secret(bcrypt.hashpw(b"b", bcrypt.gensalt(5)).decode())}
    seen: list[bytes] = []
    logins = Logins()
    original = checks._check

    def spy(password: bytes, hashed_password: bytes) -> bool:
        seen.append(hashed_password)
        return original(password, hashed_password)

    checks._check = spy
    assert not await logins.verify("nobody", "b", users)
    assert seen == [users["bob"].get_secret_value().encode()]


async def test_guesses_do_not_push_a_real_login_out_and_stay_bounded(checks: Counted) -> None:
    logins = Logins(remembered=5)
    assert await logins.verify("alice", PASSWORD, USERS)
    for n in range(12):
        assert not await logins.verify("alice", f"guess {n}", USERS)
    before = checks.calls
    assert await logins.verify("alice", PASSWORD, USERS)
    assert not await logins.verify("alice", "guess 11", USERS)
    assert checks.calls == before
    assert {result: len(keys) for result, keys in logins._results.items()} == {True: 1, False: 5}


async def test_memory_holds_no_password() -> None:
    logins = Logins()
    await logins.verify("alice", PASSWORD, USERS)
    assert PASSWORD not in repr(vars(logins))
    (key,) = logins._results[True]
    (other,) = await _keys_of(Logins())
    assert key != other


async def _keys_of(logins: Logins) -> list[bytes]:
    await logins.verify("alice", PASSWORD, USERS)
    return [*logins._results[True]]


async def test_a_changed_or_removed_user_is_checked_anew() -> None:
    logins = Logins()
    assert await logins.verify("alice", PASSWORD, USERS)
    assert not await logins.verify("alice", PASSWORD, {"alice": hashed("new")})
    assert not await logins.verify("alice", PASSWORD, {"bob": USERS["alice"]})
    assert await logins.verify("bob", PASSWORD, {"bob": USERS["alice"]})


async def test_long_and_odd_passwords() -> None:
    users = {"long": hashed("x" * 80), "umlaut": hashed("pässwörd")}
    logins = Logins()
    assert await logins.verify("long", "x" * 80, users)
    assert not await logins.verify("long", "x" * 71, users)
    assert await logins.verify("umlaut", "pässwörd", users)
    assert not await logins.verify("umlaut", "\0\udc80", users)


# --- the server ---


class Server:
    """A protected app on a free port whose policy can be swapped."""

    def __init__(self, policy: AccessPolicy, url: str, session: aiohttp.ClientSession) -> None:
        self.policy = policy
        self.url = url
        self.session = session

    async def call(
        self,
        method: str = "GET",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        async with self.session.request(method, self.url + path, headers=headers) as response:
            await response.read()
            return response


@asynccontextmanager
async def running(policy: AccessPolicy) -> AsyncIterator[Server]:
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def fail(_: web.Request) -> web.Response:
        raise RuntimeError("broken")

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"hello")
        return response

    app.router.add_route("*", "/", answer)
    app.router.add_get("/fail", fail)
    app.router.add_get("/stream", stream)
    runner = web.AppRunner(app, access_log=None)
    async with aiohttp.ClientSession() as session:
        server = Server(policy, "", session)
        protect(app, lambda: server.policy)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield server
        finally:
            await runner.cleanup()


def login(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


LOGIN = login("alice", PASSWORD)
BEARER_HEADER = {"Authorization": f"Bearer {TOKEN}"}


async def test_login_guards_every_path_and_the_token_writes_alone() -> None:
    async with running(WITH_BOTH) as server:
        for path in ("/", "/stream", "/no-such-path"):
            refused = await server.call(path=path)
            assert refused.status == 401
            assert refused.headers["WWW-Authenticate"] == BASIC
        assert (await server.call(headers=LOGIN)).status == 200
        assert (await server.call(path="/no-such-path", headers=LOGIN)).status == 404
        assert (await server.call(headers=login("alice", "wrong"))).status == 401
        assert (await server.call("POST", headers=LOGIN)).status == 200
        assert (await server.call("POST", headers=BEARER_HEADER)).status == 200
        assert (await server.call("GET", headers=BEARER_HEADER)).status == 401
        refused = await server.call("POST")
        assert refused.headers.getall("WWW-Authenticate") == [BASIC, BEARER]


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Token {TOKEN}",
        TOKEN,
        "Basic",
        "Basic !",
        "Basic YWxpY2U=",
        "Basic gICAgDpi",
        "Bearer ü",
    ],
)
async def test_malformed_and_wrong_credentials_are_401(header: str) -> None:
    async with running(WITH_BOTH) as server:
        assert (await server.call("POST", headers={"Authorization": header})).status == 401


async def test_errors_have_the_json_shape_of_the_api() -> None:
    async with running(PUBLIC) as server, server.session.post(server.url) as response:
        assert response.status == 403
        body = await response.json()
    assert body["error"].keys() == {"code", "message", "details"}
    assert (body["error"]["code"], body["error"]["details"]) == ("writes_disabled", [])


async def test_loopback_without_a_token_refuses_browsers_of_other_sites() -> None:
    async with running(LOCAL) as server:
        assert (await server.call("POST")).status == 200
        assert (await server.call("POST", headers={"Origin": server.url})).status == 200
        assert (await server.call("POST", headers={"Origin": "http://evil.example.org"})).status == 403
        assert (await server.call("POST", headers={"Sec-Fetch-Site": "cross-site"})).status == 403
        assert (await server.call("POST", headers={"Host": "evil.example.org"})).status == 403


async def test_configured_headers_are_on_every_answer() -> None:
    headers = {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=60"}
    async with running(replace(WITH_USERS, headers=headers)) as server:
        answers = [await server.call()]
        answers += [
            await server.call(path=path, headers=LOGIN) for path in ("/", "/stream", "/fail", "/none")
        ]
        assert [answer.status for answer in answers] == [401, 200, 200, 500, 404]
        for answer in answers:
            assert headers.items() <= answer.headers.items()


async def test_a_swapped_policy_counts_at_the_next_request() -> None:
    async with running(WITH_USERS) as server:
        assert (await server.call(headers=LOGIN)).status == 200
        server.policy = replace(WITH_USERS, users={"alice": hashed("new")}, headers={"X-XSS-Protection": "0"})
        refused = await server.call(headers=LOGIN)
        assert (refused.status, refused.headers["X-XSS-Protection"]) == (401, "0")
        server.policy = PUBLIC
        assert (await server.call()).status == 200


async def test_rate_limit_answers_429_until_it_is_lifted() -> None:
    limit = RateLimit.model_construct(interval=3600.0, burst=3)
    async with running(replace(LOCAL, rate_limit=limit)) as server:
        assert [(await server.call()).status for _ in range(4)] == [200, 200, 200, 429]
        server.policy = replace(server.policy, token=Secret(TOKEN))
        refused = await server.call()
        assert refused.status == 429
        assert 0 < int(refused.headers["Retry-After"]) <= 3600
        server.policy = LOCAL
        assert (await server.call()).status == 200
