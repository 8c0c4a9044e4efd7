"""Each kind of request by each kind of caller, against exporters in every way they can be set up."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest
from structlog.testing import capture_logs

from exporter.web.access import AccessPolicy
from exporter.web.server import Server
from exporter.web.toolkit import RateLimit, WebConfig
from tests.running import Running, running, target, write

API, DEPLOY, GRAFANA = "token-of-the-api", "token-of-the-deployment", "token-of-the-dashboards"
HASHED = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()


def login(password: str) -> str:
    return "Basic " + base64.b64encode(f"alice:{password}".encode()).decode()


CALLERS = {
    "nobody": {},
    "wrong token": {"Authorization": "Bearer no-such-token"},
    "wrong login": {"Authorization": login("wrong")},
    "login": {"Authorization": login("correct horse")},
    "api": {"Authorization": f"Bearer {API}"},
    "deploy": {"Authorization": f"Bearer {DEPLOY}"},
    "grafana": {"Authorization": f"Bearer {GRAFANA}"},
    "page": {"Origin": "https://elsewhere.example.org", "Sec-Fetch-Site": "cross-site"},
    "page with login": {"Origin": "https://elsewhere.example.org", "Authorization": login("correct horse")},
    "trusted page": {"Origin": "https://dashboard.example.org", "Sec-Fetch-Site": "cross-site"},
    "trusted page with login": {
        "Origin": "https://dashboard.example.org",
        "Sec-Fetch-Site": "cross-site",
        "Authorization": login("correct horse"),
    },
}
READS = [("GET", "/metrics", 200), ("HEAD", "/metrics", 200), ("GET", "/-/ready", 200), ("GET", "/", 200)]
READS += [("OPTIONS", "/metrics", 204), ("OPTIONS", "/-/reload", 204), ("GET", "/-/reload", 405)]
READS += [("GET", "/probe", 400), ("GET", "/nothing", 404), ("GET", "/api/nothing", 404)]
WRITES = [("POST", "/-/reload", 200), ("POST", "/metrics", 405), ("PUT", "/api/nothing", 404)]
WRITES += [("DELETE", "/nothing", 404), ("POST", "/api/health/circuit-breaker/reset", 200)]
WRITES += [("POST", "/api/health/monitoring/stop", 200), ("POST", "/api/health/monitoring/start", 200)]

# What of reads and of writes: 200 stands for whatever the request gets once it is let through.
OPEN = dict.fromkeys(CALLERS, (200, 200)) | {"page": (200, 403), "page with login": (200, 403)}
READ_ONLY = dict.fromkeys(CALLERS, (200, 403))
BY_TOKEN = dict.fromkeys(CALLERS, (200, 401)) | {
    "api": (200, 200),
    "deploy": (200, 200),
    "grafana": (200, 403),
}
BY_LOGIN = dict.fromkeys(CALLERS, (401, 401)) | {
    "login": (200, 200),
    "page with login": (200, 403),
    "trusted page with login": (200, 200),
}
TABLE = {
    # whether only loopback listens, which tokens there are, whether there is a login
    ("loopback", "", ""): OPEN,
    ("anywhere", "", ""): READ_ONLY,
    ("loopback", "api deploy grafana", ""): BY_TOKEN,
    ("anywhere", "api deploy grafana", ""): BY_TOKEN,
    ("loopback", "grafana", ""): READ_ONLY,
    ("anywhere", "grafana", ""): READ_ONLY,
    ("loopback", "", "login"): BY_LOGIN,
    ("anywhere", "", "login"): BY_LOGIN,
    ("anywhere", "grafana", "login"): BY_LOGIN | {"grafana": (200, 403)},
    ("anywhere", "api deploy grafana", "login"): BY_LOGIN
    | {"api": (200, 200), "deploy": (200, 200), "grafana": (200, 403)},
}


@asynccontextmanager
async def exporter_of(folder: Path, where: str, tokens: str, users: str) -> AsyncIterator[Running]:
    named = []
    for name, token, scope in (("deploy", DEPLOY, "write"), ("grafana", GRAFANA, "read")):
        (folder / name).write_text(token)
        named += [{"name": name, "token_file": name, "scope": scope}] if name in tokens else []
    web_config = folder / "web.yml"
    web_config.write_text(f"basic_auth_users: {{alice: {HASHED}}}" if users else "{}")
    media = target("media", "http://127.0.0.1:1", "bucket")
    api = {"tokens": named, "cors_origins": ["https://dashboard.example.org"]}
    config = write(folder / "exporter.yaml", media, api=api)
    listen = [("127.0.0.1" if where == "loopback" else "0.0.0.0", 0)]
    env = {"R2_EXPORTER_API_TOKEN": API} if "api" in tokens else {}
    async with running(config, listen=listen, web_config=web_config, env=env) as exporter:
        exporter.url = exporter.url.replace("0.0.0.0", "127.0.0.1")
        yield exporter


@pytest.fixture
def unlimited_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a table has: how many may come in a second is a question of its own."""
    policy_of, limit = Server._policy_of, RateLimit.model_construct(interval=1e-9, burst=1000)

    def lenient(server: Server, config: WebConfig) -> AccessPolicy:
        return replace(policy_of(server, config), write_limit=limit)

    monkeypatch.setattr(Server, "_policy_of", lenient)


@pytest.mark.parametrize("setup", TABLE, ids=lambda setup: ", ".join(filter(None, setup)))
async def test_who_gets_what(tmp_path: Path, setup: tuple[str, str, str], unlimited_writes: None) -> None:
    async with exporter_of(tmp_path, *setup) as exporter:
        for caller, (read, write_) in TABLE[setup].items():
            for requests, verdict in ((READS, read), (WRITES, write_)):
                for method, path, passed in requests:
                    status, text = await exporter.ask(method, path, **CALLERS[caller])
                    expected = passed if verdict == 200 else verdict
                    assert status == expected, (caller, method, path, text)
                    assert status < 400 or method == "HEAD" or '{"error": {"code": ' in text
                    for secret in (API, DEPLOY, GRAFANA, HASHED):
                        assert secret not in text


async def test_a_caller_that_writes_too_often_has_to_wait(tmp_path: Path) -> None:
    async with exporter_of(tmp_path, "anywhere", "deploy", "") as exporter:
        answers = [await exporter.post("/nothing", **CALLERS["deploy"]) for _ in range(200)]
        assert {status for status, _ in answers[:20]} == {404}
        assert 429 in {status for status, _ in answers[20:]}
        assert (await exporter.get("/metrics", **CALLERS["deploy"]))[0] == 200


async def test_a_reload_replaces_tokens_at_once(tmp_path: Path) -> None:
    async with exporter_of(tmp_path, "anywhere", "deploy grafana", "login") as exporter:
        (tmp_path / "deploy").write_text("a-new-token-for-the-deployment")
        assert (await exporter.post("/-/reload", **CALLERS["deploy"]))[0] == 200
        assert (await exporter.post("/-/reload", **CALLERS["deploy"]))[0] == 401
        assert (await exporter.post("/-/reload", Authorization="Bearer a-new-token-for-the-deployment"))[
            0
        ] == 200
        (tmp_path / "grafana").write_text("short")
        assert (await exporter.post("/-/reload", **CALLERS["login"]))[0] == 500
        assert (await exporter.get("/metrics", **CALLERS["grafana"]))[
            0
        ] == 200  # what was good stays in force


async def test_an_exporter_that_takes_no_writes_says_so_at_the_start(tmp_path: Path) -> None:
    config = write(tmp_path / "exporter.yaml", target("media", "http://127.0.0.1:1", "media"))
    for listen, off in ((("127.0.0.1", 0), False), (("0.0.0.0", 0), True)):
        with capture_logs() as logs:
            async with running(config, listen=[listen]):
                pass
        assert any("writes are off" in entry["event"] for entry in logs) == off
