"""Who may call, over real sockets: credentials, refusals, headers and limits."""

import base64
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import bcrypt
import pytest
import trustme
from aiohttp import web

from exporter.config import ApiToken, Secret
from exporter.web.access import BASIC, BEARER
from exporter.web.auth import AccessPolicy, protect
from exporter.web.keys import CALLER
from exporter.web.toolkit import RateLimit
from tests.conftest import server_context
from tests.serving import serving

PASSWORD = "correct horse"
TOKEN = "token-for-writes"
READ_TOKEN = "token-for-reads"


def hashed(password: str) -> Secret:
    return Secret(bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode())


TOKENS = (
    ApiToken(name="deploy", scope="write", token=Secret(TOKEN)),
    ApiToken(name="grafana", scope="read", token=Secret(READ_TOKEN)),
)
LOCAL = AccessPolicy(loopback_only=True)
PUBLIC = AccessPolicy(loopback_only=False)
WITH_TOKENS = replace(PUBLIC, tokens=TOKENS)
WITH_USERS = replace(PUBLIC, users={"alice": hashed(PASSWORD)})
WITH_BOTH = replace(WITH_USERS, tokens=TOKENS)


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

    async def caller(self, method: str, headers: Mapping[str, str]) -> str:
        """Who the handler is told has called."""
        async with self.session.request(method, self.url, headers=headers) as response:
            assert response.status == 200
            return await response.text()


@asynccontextmanager
async def running(policy: AccessPolicy) -> AsyncIterator[Server]:
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=CALLER.get())

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
READER_HEADER = {"Authorization": f"Bearer {READ_TOKEN}"}


async def test_login_guards_every_path_and_a_token_stands_for_it() -> None:
    async with running(WITH_BOTH) as server:
        for path in ("/", "/stream", "/no-such-path"):
            refused = await server.call(path=path)
            assert refused.status == 401
            assert refused.headers.getall("WWW-Authenticate") == [BASIC, BEARER]
        assert (await server.call(headers=LOGIN)).status == 200
        assert (await server.call(path="/no-such-path", headers=LOGIN)).status == 404
        assert (await server.call(headers=login("alice", "wrong"))).status == 401
        assert (await server.call("POST", headers=LOGIN)).status == 200
        assert (await server.call("POST", headers=BEARER_HEADER)).status == 200
        assert (await server.call("GET", headers=BEARER_HEADER)).status == 200
        assert (await server.call("GET", headers=READER_HEADER)).status == 200
        assert (await server.call("POST", headers=READER_HEADER)).status == 403
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
        server.policy = replace(server.policy, tokens=TOKENS)
        refused = await server.call()
        assert refused.status == 429
        assert 0 < int(refused.headers["Retry-After"]) <= 3600
        server.policy = LOCAL
        assert (await server.call()).status == 200


async def test_a_handler_is_told_who_has_called() -> None:
    async with running(WITH_BOTH) as server:
        assert await server.caller("POST", BEARER_HEADER) == "deploy"
        assert await server.caller("GET", READER_HEADER) == "grafana"
        assert await server.caller("POST", LOGIN) == "login:alice"
        server.policy = WITH_TOKENS
        assert await server.caller("GET", {}) == "anonymous"
        assert await server.caller("GET", {"Authorization": "Bearer wrong"}) == "anonymous"
        server.policy = LOCAL
        assert await server.caller("POST", {}) == "anonymous"


async def test_each_caller_has_its_own_limit_of_writes_and_none_of_reads() -> None:
    limit = RateLimit.model_construct(interval=3600.0, burst=2)
    async with running(replace(WITH_BOTH, write_limit=limit)) as server:
        assert [(await server.call("POST", headers=LOGIN)).status for _ in range(3)] == [200, 200, 429]
        # What is refused for another reason uses nothing up.
        for _ in range(3):
            assert (await server.call("POST")).status == 401
            assert (await server.call("POST", headers=READER_HEADER)).status == 403
        assert (await server.call("PUT", headers=BEARER_HEADER)).status == 200
        assert (await server.call("POST", headers=BEARER_HEADER)).status == 200
        async with server.session.post(server.url, headers=BEARER_HEADER) as refused:
            assert refused.status == 429
            assert 0 < int(refused.headers["Retry-After"]) <= 3600
            assert (await refused.json())["error"]["code"] == "too_many_requests"
        assert [(await server.call(headers=LOGIN)).status for _ in range(5)] == [200] * 5


async def test_a_verified_client_certificate_names_its_caller(authority: trustme.CA) -> None:
    server_side = server_context(authority.issue_cert("127.0.0.1"))
    server_side.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    authority.issue_cert("a.example.org", "b.example.org").configure_cert(client_side)
    policy = WITH_TOKENS
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=CALLER.get())

    app.router.add_route("*", "/", answer)
    protect(app, lambda: policy)
    connector = aiohttp.TCPConnector(ssl=client_side)
    async with serving(app, tls=server_side) as served, aiohttp.ClientSession(connector=connector) as session:
        server = Server(policy, served.url, session)
        assert await server.caller("GET", {}) == "certificate:a.example.org"
        assert await server.caller("POST", BEARER_HEADER) == "deploy"
        # It proves who it is, but not that it may write.
        assert (await server.call("POST")).status == 401
        policy = replace(WITH_TOKENS, client_sans=frozenset({"b.example.org", "c.example.org"}))
        assert await server.caller("GET", {}) == "certificate:b.example.org"
