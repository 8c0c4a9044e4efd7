"""Which pages of other origins may call the API, as a browser finds out."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from exporter.config import ApiToken, Secret
from exporter.web.auth import AccessPolicy, protect
from exporter.web.errors import as_json
from tests.serving import serving

TOKEN = "a-token-for-writes"
LISTED, OTHER = "https://dashboard.example.org", "https://elsewhere.example.org"
NOBODY = AccessPolicy(loopback_only=True)
SOME = replace(NOBODY, trusted_origins=frozenset({LISTED}))
ANYBODY = replace(NOBODY, any_origin=True)
BOTH = replace(SOME, any_origin=True)
ALLOWED, CREDENTIALS = "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"


class Page:
    """Asks on behalf of a page."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def ask(
        self, method: str, path: str, origin: str | None, **headers: str
    ) -> tuple[int, Mapping[str, str]]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Origin": origin} if origin else {}
        async with self.session.request(method, self.url + path, headers=sent) as answer:
            return answer.status, dict(answer.headers)

    async def preflight(self, path: str, origin: str | None) -> tuple[int, Mapping[str, str]]:
        return await self.ask("OPTIONS", path, origin, Access_Control_Request_Method="PUT")


@asynccontextmanager
async def pages(policy: AccessPolicy) -> AsyncIterator[Page]:
    app = web.Application(middlewares=[as_json])

    async def answer(_: web.Request) -> web.Response:
        return web.Response(headers={"Vary": "Accept-Encoding"})

    app.router.add_get("/api/config", answer)
    app.router.add_put("/api/config", answer)
    app.router.add_get("/metrics", answer)
    protect(app, lambda: policy)
    async with serving(app) as served, aiohttp.ClientSession() as session:
        yield Page(served.url, session)


def cors(headers: Mapping[str, str]) -> set[str]:
    return {name for name in headers if name.startswith("Access-Control-")}


@pytest.mark.parametrize(
    ("policy", "origin", "allowed", "with_login"),
    [
        (NOBODY, LISTED, None, False),
        (SOME, LISTED, LISTED, True),
        (SOME, OTHER, None, False),
        (SOME, LISTED + ".evil.org", None, False),
        (SOME, "null", None, False),
        (SOME, None, None, False),
        (ANYBODY, OTHER, "*", False),
        (ANYBODY, "null", "*", False),
        (BOTH, LISTED, LISTED, True),
        (BOTH, OTHER, "*", False),
    ],
)
async def test_who_is_allowed_to_read_an_answer(
    policy: AccessPolicy, origin: str | None, allowed: str | None, with_login: bool
) -> None:
    async with pages(policy) as page:
        for path in ("/api/config", "/api/nothing"):
            _, headers = await page.ask("GET", path, origin)
            assert headers.get(ALLOWED) == allowed
            assert headers.get(CREDENTIALS) == ("true" if with_login else None)
            exposed = "ETag, Link, Retry-After" if allowed else None
            assert headers.get("Access-Control-Expose-Headers") == exposed
            assert ("Origin" in headers.get("Vary", "")) == (policy is not NOBODY)
        _, headers = await page.ask("GET", "/metrics", origin)
        assert not cors(headers)
        assert headers["Vary"] == "Accept-Encoding"


async def test_a_cache_is_told_all_that_an_answer_varies_by() -> None:
    async with pages(SOME) as page:
        _, headers = await page.ask("GET", "/api/config", None)
    assert headers["Vary"] == "Accept-Encoding, Origin"


async def test_a_preflight_says_what_may_be_sent_where() -> None:
    async with pages(SOME) as page:
        status, headers = await page.preflight("/api/config", LISTED)
    assert status == 204
    assert headers["Access-Control-Allow-Methods"] == headers["Allow"] == "GET, HEAD, OPTIONS, PUT"
    assert headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type, If-Match"
    assert int(headers["Access-Control-Max-Age"]) > 0
    assert (headers[ALLOWED], headers["Vary"]) == (LISTED, "Origin")


async def test_a_preflight_needs_no_login_for_it_cannot_have_one() -> None:
    token = ApiToken(name="deploy", scope="write", token=Secret(TOKEN))
    policy = replace(SOME, tokens=(token,), users={"alice": Secret("unused")})
    async with pages(policy) as page:
        assert (await page.preflight("/api/config", LISTED))[0] == 204
        assert (await page.preflight("/api/config", OTHER))[0] == 401
        status, headers = await page.ask("PUT", "/api/config", LISTED)
        # The page has to be able to read the refusal.
        assert (status, headers[ALLOWED]) == (401, LISTED)
        status, _ = await page.ask("PUT", "/api/config", LISTED, Authorization=f"Bearer {TOKEN}")
        assert status == 200


@pytest.mark.parametrize(
    ("policy", "path", "origin", "status"),
    [
        (SOME, "/api/config", OTHER, 204),
        (NOBODY, "/api/config", LISTED, 204),
        (SOME, "/metrics", LISTED, 204),
        (SOME, "/api/nothing", LISTED, 404),
    ],
)
async def test_a_preflight_that_is_not_granted_is_an_ordinary_options(
    policy: AccessPolicy, path: str, origin: str, status: int
) -> None:
    async with pages(policy) as page:
        answered, headers = await page.preflight(path, origin)
    assert answered == status
    assert "Access-Control-Allow-Methods" not in headers
    assert ("Allow" in headers) == (status == 204)


async def test_any_origin_may_read_but_its_page_cannot_write_without_a_token() -> None:
    token = ApiToken(name="deploy", scope="write", token=Secret(TOKEN))
    async with pages(ANYBODY) as page:
        assert (await page.ask("GET", "/api/config", OTHER))[0] == 200
        assert (await page.ask("PUT", "/api/config", OTHER))[0] == 403
    async with pages(replace(ANYBODY, tokens=(token,))) as page:
        assert (await page.ask("PUT", "/api/config", OTHER))[0] == 401
        assert (await page.ask("PUT", "/api/config", OTHER, Authorization=f"Bearer {TOKEN}"))[0] == 200
