"""Every route by every caller in every set-up: what docs/security.md says of each is what it gets.

The routes are the router's own, so a new one fails here until it has a line; what to expect is read from
the tables of that page, so the page cannot say anything else.
"""

import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs
from yarl import URL

from exporter.web.access import READ_METHODS
from tests.hostile.callers import (
    ALLOWED,
    ALONE,
    CERTIFIED,
    LOGIN,
    READER,
    SECRETS,
    SETUPS,
    WRITER,
    Caller,
    Setup,
    bearer,
    exporter_of,
    session,
)

PAGE = Path(__file__).parents[2] / "docs" / "security.md"

# --- the routes, and what each answers once it is let through ---

ASSETS = (
    "status.css",
    "status.js",
    *(f"status-{s}.svg" for s in ["healthy", "degraded", "unhealthy", "unknown"]),
)
READS = {
    **dict.fromkeys(("/", *(f"/{asset}" for asset in ASSETS), "/metrics", "/sd"), 200),
    **dict.fromkeys(("/-/healthy", "/-/ready", "/api/openapi.json"), 200),
    **dict.fromkeys(("/api/health", "/api/health/history", "/api/health/metrics"), 200),
    **dict.fromkeys(("/api/health/circuit-breaker", "/api/health/alerts"), 200),
    **dict.fromkeys(("/api/health/config", "/api/health/config/changes"), 200),
    "/probe": 400,  # of no target
}
WRITES = {
    ("POST", "/-/reload"): 200,
    ("POST", "/api/health/check"): 200,
    ("POST", "/api/health/circuit-breaker/reset"): 200,
    ("POST", "/api/health/monitoring/start"): 200,
    ("POST", "/api/health/monitoring/stop"): 200,
    ("POST", "/api/health/alerts/{id}/resolve"): 404,
    ("POST", "/api/alertmanager/webhook"): 400,  # a body is missing
    ("PUT", "/api/health/config"): 200,
    ("POST", "/api/health/config/changes/{change}/revert"): 404,
}
NO_ROUTES = {
    ("GET", "/nothing"): 404,
    ("GET", "/api/nothing"): 404,
    ("GET", "/-/reload"): 405,
    ("OPTIONS", "/metrics"): 204,
    ("OPTIONS", "/api/health/config"): 204,
    ("POST", "/metrics"): 405,
    ("PUT", "/api/nothing"): 404,
    ("DELETE", "/nothing"): 404,
    ("PROPFIND", "/api/health"): 405,
}
ROUTES = {(method, path): status for path, status in READS.items() for method in ("GET", "HEAD")} | WRITES
PREFLIGHTS = {("OPTIONS", path): 204 for _, path in ROUTES if path.startswith("/api/")}


# --- the page ---


def tables() -> dict[str, dict[str, tuple[str, str]]]:
    """What a read and a write of a caller get, by set-up and caller."""
    section = PAGE.read_text().partition("\n## Who may call\n")[2].partition("\n## ")[0]
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        head, _, *rows = (
            [cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()
        )
        for caller, *cells in rows:
            for setup, cell in zip(head[1:], cells, strict=True):
                read, _, write_ = cell.partition(", ")
                found.setdefault(setup, {})[caller] = (read, write_ or read)
    return found


def expected(verdict: str, passed: int) -> int | None:
    """The status; None for no connection."""
    return int(verdict) if verdict.isdigit() else {"yes": passed, "no connection": None}[verdict]


def test_the_page_speaks_of_every_caller_and_set_up_and_of_no_other() -> None:
    said = tables()
    assert said.keys() == SETUPS.keys()
    for setup, rows in said.items():
        assert rows.keys() == (CERTIFIED if SETUPS[setup].certificates else ALONE).keys()
        assert {verdict for pair in rows.values() for verdict in pair} <= {
            "yes",
            "401",
            "403",
            "no connection",
        }


async def test_every_route_has_its_line(tmp_path: Path) -> None:
    async with exporter_of(tmp_path, Setup(host="127.0.0.1")) as exporter:
        assert isinstance(exporter.server._runner, web.AppRunner)
        routes = exporter.server._runner.app.router.routes()
        assert {(each.method, each.resource and each.resource.canonical) for each in routes} == ROUTES.keys()


@pytest.mark.parametrize("name", SETUPS)
async def test_who_gets_what(
    tmp_path: Path, name: str, unlimited_writes: None, record_property: Callable[[str, object], None]
) -> None:
    rows, said = (CERTIFIED if SETUPS[name].certificates else ALONE), tables()[name]
    wrong, asked = [], 0
    async with exporter_of(tmp_path, SETUPS[name]) as exporter, AsyncExitStack() as stack:
        shown = {caller.certificate for callers in rows.values() for caller in callers}
        sessions = {each: await stack.enter_async_context(session(each)) for each in shown}
        for row, callers in rows.items():
            for caller in callers:
                requests = (
                    PREFLIGHTS if "Access-Control-Request-Method" in caller.headers else ROUTES | NO_ROUTES
                )
                for (method, path), passed in requests.items():
                    verdict = expected(said[row][method not in READ_METHODS], passed)
                    status, text = await ask(sessions[caller.certificate], exporter.url, method, path, caller)
                    asked += 1
                    if status != verdict:
                        wrong.append((caller.name, method, path, status, verdict, text[:200]))
                    if status is not None and status >= 400 and method != "HEAD":
                        assert '{"error": {"code": ' in text
                    assert not any(secret in text for secret in SECRETS)
    assert wrong == []
    assert asked > 500
    record_property("requests", asked)


async def ask(
    client: aiohttp.ClientSession, url: str, method: str, path: str, caller: Caller
) -> tuple[int | None, str]:
    address = URL(url + re.sub(r"\{\w+\}", "999", path), encoded=True)
    try:
        async with client.request(method, address, headers=caller.headers) as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientConnectionError:
        return None, ""


async def test_any_certificate_of_the_authority_is_enough_where_no_name_is_asked_for(tmp_path: Path) -> None:
    setup = Setup(certificates="client_auth_type: RequireAndVerifyClientCert")
    async with exporter_of(tmp_path, setup) as exporter, session("any.example.org") as client:
        status, _ = await ask(client, exporter.url, "POST", "/api/health/monitoring/stop", Caller("any"))
        _, changes = await ask(client, exporter.url, "GET", "/api/health/config/changes", Caller("any"))
    assert status == 200
    assert '"by":"certificate:any.example.org"' in changes


async def test_a_certificate_that_nobody_has_to_show_proves_nothing(tmp_path: Path) -> None:
    setup = Setup(certificates="client_auth_type: VerifyClientCertIfGiven")
    async with exporter_of(tmp_path, setup) as exporter:
        for certificate in (None, "good.example.org"):
            async with session(certificate) as client:
                assert (await ask(client, exporter.url, "GET", "/metrics", Caller("any")))[0] == 200
                status, text = await ask(client, exporter.url, "POST", "/-/reload", Caller("any"))
                assert (status, "writes_disabled" in text) == (403, True)


async def test_certificates_asked_for_by_a_reload_let_nobody_write_before_tls_is_on(tmp_path: Path) -> None:
    """Turning TLS on takes a restart: until then nobody has shown a certificate."""
    async with exporter_of(tmp_path, Setup(login=True)) as exporter:
        (tmp_path / "tls").mkdir()
        async with exporter_of(tmp_path / "tls", Setup(certificates=ALLOWED.partition(",")[0])):
            pass
        for file in ("web.yml", "server.pem", "ca.pem"):
            (tmp_path / file).write_bytes((tmp_path / "tls" / file).read_bytes())
        assert (await exporter.post("/-/reload", **LOGIN.headers))[0] == 200
        status, text = await exporter.post("/-/reload")
        assert (status, "writes_disabled" in text) == (403, True)


async def test_a_caller_that_writes_too_often_has_to_wait(tmp_path: Path) -> None:
    async with exporter_of(tmp_path, Setup(tokens="deploy")) as exporter:
        answers = [await exporter.post("/nothing", **WRITER.headers) for _ in range(200)]
        assert {status for status, _ in answers[:20]} == {404}
        assert 429 in {status for status, _ in answers[20:]}
        assert (await exporter.get("/metrics", **WRITER.headers))[0] == 200


async def test_a_reload_replaces_tokens_at_once(tmp_path: Path) -> None:
    async with exporter_of(tmp_path, Setup(tokens="deploy grafana", login=True)) as exporter:
        (tmp_path / "deploy").write_text("a-new-token-for-the-deployment")
        assert (await exporter.post("/-/reload", **WRITER.headers))[0] == 200
        assert (await exporter.post("/-/reload", **WRITER.headers))[0] == 401
        assert (await exporter.post("/-/reload", **bearer("a-new-token-for-the-deployment")))[0] == 200
        (tmp_path / "grafana").write_text("short")
        assert (await exporter.post("/-/reload", **LOGIN.headers))[0] == 500
        # what was good stays in force
        assert (await exporter.get("/metrics", **READER.headers))[0] == 200


async def test_an_exporter_that_takes_no_writes_says_so_at_the_start(tmp_path: Path) -> None:
    certificates = "client_auth_type: RequireAndVerifyClientCert"
    for setup, off in (
        (Setup(host="127.0.0.1"), False),
        (Setup(), True),
        (Setup(certificates=certificates), False),
    ):
        with capture_logs() as logs:
            async with exporter_of(tmp_path, setup):
                pass
        assert any("writes are off" in entry["event"] for entry in logs) == off
