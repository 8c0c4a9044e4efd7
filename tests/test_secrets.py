"""Known secrets, planted wherever one can stand, are in nothing that the exporter says or keeps."""

import asyncio
import base64
import io
import logging
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import aiohttp
import bcrypt
import pytest
import structlog
import trustme
from aiohttp import web

from exporter import logs
from exporter.outcome import Operation
from exporter.web.api import endpoints
from tests.faults.server import Call, answer, fault_server, s3_error
from tests.running import Spawned, run, running, serving_command, target, until, write
from tests.serving import serving
from tests.spelling import spellings

KEY_ID = "AKIAPLANTEDKEYID"
SECRET_KEY = "planted/secret+key=of-the-storage"
SESSION = "planted-session-token-of-the-storage"
API_TOKEN = "planted-token-of-the-api"
READ_TOKEN = "planted-token-to-read"
PASSWORD = "planted-password"
PROXY_PASSWORD = "planted-proxy-password"
CHAIN_KEY = "planted/secret+key=of-the-chain"
CHAIN_SESSION = "planted+session/token=of-the-chain"
PAGER_PASSWORD = 'planted & <password> of "Alertmanager"/'
PAGER_TOKEN = "planted/token+of=Alertmanager"
HASHED = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("127.0.0.1")
TLS_KEY = CERTIFICATE.private_key_pem.bytes().decode().splitlines()[1]
SECRETS = (
    *(SECRET_KEY, SESSION, API_TOKEN, READ_TOKEN, PASSWORD, PROXY_PASSWORD),
    *(CHAIN_KEY, CHAIN_SESSION, PAGER_PASSWORD, PAGER_TOKEN, HASHED, TLS_KEY),
)
AT_ONCE = 20
HELD = {SESSION: (SECRET_KEY, SESSION), CHAIN_SESSION: (CHAIN_KEY, CHAIN_SESSION)}
CHAIN = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDCHAIN",
    "AWS_SECRET_ACCESS_KEY": CHAIN_KEY,
    "AWS_SESSION_TOKEN": CHAIN_SESSION,
}
LOGIN = base64.b64encode(f"ops:{PASSWORD}".encode()).decode()

BASIC_AUTH = {"basic_auth": {"username": "ops", "password_file": "pager"}}
PAGES: tuple[str, ...] = ("/", "/metrics", "/sd", "/-/healthy", "/-/ready", "/nothing")
PAGES += ("/probe?target=media&debug=true", "/probe?target=chained&debug=true")


class Echo:
    """Repeats in its errors, and in their headers, what it was sent and what whoever sent it holds besides.

    Each answer has some of the spellings, so that no message is cut before them.
    """

    def __init__(self, pager: str) -> None:
        held = HELD | {SESSION: (*HELD[SESSION], pager)}
        self.guesses = {
            who: [text for secret in secrets for text in spellings(secret).values()]
            for who, secrets in held.items()
        }
        self.told = dict.fromkeys(HELD, 0)

    @property
    def has_told_all(self) -> bool:
        return all(self.told[who] >= len(guesses) for who, guesses in self.guesses.items())

    def some(self, who: str) -> str:
        first, guesses = self.told[who], self.guesses[who]
        self.told[who] += AT_ONCE
        return " ".join(guesses[(first + number) % len(guesses)] for number in range(AT_ONCE))

    async def storage(self, call: Call) -> None:
        assert call.request is not None
        sent = " ".join(f"{name}: {value}" for name, value in call.request.headers.items())
        token = call.request.headers["x-amz-security-token"]
        message = f"{self.some(token)} {'SECRET' * (self.told[token] % 7)} {sent}"
        call.writer.write(s3_error(403, token, message, X_Amz_Request_Id=token, Server=token))
        await call.writer.drain()

    async def pager(self, request: web.Request) -> web.Response:
        """An Alertmanager that refuses what it is told."""
        return web.Response(status=400, text=f"{request.headers['Authorization']} {self.some(SESSION)}")


async def echoing_listing(call: Call) -> None:
    key = f"<Contents><Key>{SESSION}</Key></Contents>"
    page = f"<ListBucketResult>{key}<IsTruncated>x{SECRET_KEY}</IsTruncated></ListBucketResult>"
    call.writer.write(answer(200, page.encode(), Content_Type=SESSION))
    await call.writer.drain()


def planted(folder: Path, endpoint: str, **sections: object) -> Path:
    secrets = {"key": SECRET_KEY, "session": SESSION, "read": READ_TOKEN}
    secrets |= {"pager": PAGER_PASSWORD, "bearer": PAGER_TOKEN}
    for name, secret in secrets.items():
        (folder / name).write_text(f"{secret}\n")
    media = target("media", endpoint, "media") | {
        "access_key_id": KEY_ID,
        "session_token_file": "session",
        "probe": {"operations": ["put", "get", "head", "list", "delete"], "interval": "1d"},
        "breaker": {"enabled": False},
    }
    del media["secret_access_key"]
    tokens = [{"name": "viewer", "token_file": "read", "scope": "read"}]
    CERTIFICATE.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    (folder / "web.yaml").write_text(
        f"basic_auth_users: {{ops: {HASHED}}}\n"
        "tls_server_config: {cert_file: server.pem, key_file: server.pem}\n"
    )
    chained = {
        key: value for key, value in media.items() if key not in ("access_key_id", "session_token_file")
    }
    return write(
        folder / "exporter.yaml",
        media | {"secret_access_key_file": "key"},
        chained | {"name": "chained"},
        api={"tokens": tokens},
        **sections,
    )


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    """What is in them, by their names."""
    return {path.name: path.read_bytes() for path in folder.glob(pattern)}


async def everything_said(exporter: Spawned) -> dict[str, bytes]:
    """The answer to each request that can be made, with a login, with tokens right and wrong, and without."""
    answers: dict[str, bytes] = {}
    logins = [f"Basic {LOGIN}", f"Bearer {API_TOKEN}", f"Bearer {READ_TOKEN}", f"Bearer {API_TOKEN}x", None]
    requests = [("GET", path) for path in PAGES]
    requests += [(each.method, each.path.format(change=1, id=1)) for each in endpoints]
    requests += [("PUT", "/api/health/config?target=media"), ("POST", f"/api/{quote(API_TOKEN)}")]
    tls = ssl.create_default_context()
    AUTHORITY.configure_trust(tls)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        for method, path in requests:
            for login in logins:
                headers = {"Authorization": login} if login else {}
                bodies = (None,) if method == "GET" else ({}, {"timeout": 700}, {API_TOKEN: PASSWORD})
                for body in bodies:
                    async with session.request(
                        method, exporter.url + path, headers=headers, json=body
                    ) as response:
                        head = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
                        key = f"{method} {path} {login} {body}"
                        answers[key] = head.encode() + await response.read()
    return answers


@asynccontextmanager
async def echoing_storage(pager: str) -> AsyncIterator[tuple[str, Echo]]:
    echo = Echo(pager)
    async with fault_server() as storage:
        storage.script.update(dict.fromkeys(Operation, echo.storage))
        storage.script[Operation.LIST] = echoing_listing
        yield storage.endpoint, echo
    tokens = {request.headers["x-amz-security-token"] for request in storage.requests}
    assert tokens == {SESSION, CHAIN_SESSION}
    assert echo.has_told_all


@asynccontextmanager
async def echoing_pager(echo: Echo) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo.pager)
    async with serving(app) as served:
        yield served.url


def found(texts: Mapping[str, bytes]) -> list[tuple[str, str, str]]:
    """Where there is a secret, in which spelling."""
    return [
        (place, secret, name)
        for secret in SECRETS
        for name, spelled in spellings(secret).items()
        for place, text in texts.items()
        if spelled.encode() in text
    ]


@pytest.mark.parametrize(
    ("form", "scheme", "secret", "login"),
    [
        ("logfmt", "Basic", PAGER_PASSWORD, BASIC_AUTH),
        ("json", "Bearer", PAGER_TOKEN, {"bearer_token_file": "bearer"}),
    ],
    ids=["logfmt", "json"],
)
async def test_no_planted_secret_is_said_or_kept(
    tmp_path: Path, form: str, scheme: str, secret: str, login: dict[str, object]
) -> None:
    async with echoing_storage(secret) as (endpoint, echo), echoing_pager(echo) as pager:
        config = planted(tmp_path, endpoint, alertmanager=login | {"urls": [pager]})
        env = CHAIN | {
            "R2_EXPORTER_API_TOKEN": API_TOKEN,
            "HTTP_PROXY": f"http://user:{PROXY_PASSWORD}@proxy.example:1",
            "NO_PROXY": "127.0.0.1",
        }
        flags = (f"--web.config.file={tmp_path / 'web.yaml'}", "--log.level=debug", f"--log.format={form}")
        async with serving_command(config, *flags, env=env) as exporter:
            answers = await everything_said(exporter)
            await until(lambda: exporter.said("Alertmanager refuses an alert"))
            arguments = files(Path("/proc", str(exporter.process.pid)), "cmdline")
            assert await exporter.end() == 0

    said = answers | {"the log": "\n".join(exporter.lines).encode(), **arguments}
    kept = files(tmp_path, "r2-exporter.db*")
    assert kept["r2-exporter.db"]
    assert b"***" in kept["r2-exporter.db"]
    assert b"***" in said["the log"]
    assert b"operation fails" in said["the log"]
    [*refusals] = exporter.said("Alertmanager refuses an alert")
    assert all(f"{scheme} ***" in refusal for refusal in refusals)
    assert [each for each in found(said | kept) if not _repeats_the_question(*each)] == []
    assert len(answers) > 100
    assert os.environ.get("R2_EXPORTER_API_TOKEN") is None


@pytest.mark.parametrize("output", ["text", "json"])
async def test_check_says_no_planted_secret(tmp_path: Path, output: str) -> None:
    async with echoing_storage(PAGER_PASSWORD) as (endpoint, echo):
        config = planted(tmp_path, endpoint, alertmanager=BASIC_AUTH | {"urls": ["http://127.0.0.1:1"]})
        said: dict[str, bytes] = {}
        while not echo.has_told_all:
            arguments = ("check", f"--config.file={config}", f"--output={output}")
            ran = await asyncio.to_thread(run, *arguments, env=os.environ | CHAIN)
            said[f"check {len(said)}"] = f"{ran.stdout}{ran.stderr}".encode()
            assert ran.returncode == 1
            assert "***" in ran.stdout
    assert found(said) == []


def test_check_config_says_no_planted_secret(tmp_path: Path) -> None:
    """Whatever is wrong beside them, or with them."""
    media = target("media", "https://s3.example.org", "media")
    written: dict[str, object] = {"secret_access_key": SECRET_KEY, "session_token": SESSION}
    pager = {
        "urls": ["http://alertmanager:9093"],
        "basic_auth": {"username": "a", "password": PAGER_PASSWORD},
    }
    wrong: tuple[dict[str, object], ...] = (
        {"secret_access_key": [SECRET_KEY]},
        {"secret_access_key": f"{SECRET_KEY} "},
        {"secret_access_key": {SECRET_KEY: 1}},
        {"session_token": f"{SESSION}\n{SESSION}"},
        {"secret_access_key_file": "key"},
        {"probe": {"timeout": "never"}},
    )
    said = {}
    for number, each in enumerate(({}, *wrong)):
        config = write(tmp_path / "exporter.yaml", media | written | each, alertmanager=pager)
        ran = run("check-config", f"--config.file={config}", "--print")
        said[f"{number}"] = f"{ran.stdout}{ran.stderr}".encode()
        assert ran.returncode == (2 if each else 0), ran
    assert found(said) == []
    assert b"***" in said["0"]


async def test_a_defect_says_no_planted_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> NoReturn:
        raise RuntimeError("refused", *spellings(SECRET_KEY).values(), {"key": SECRET_KEY})

    monkeypatch.setattr("exporter.web.probing._operations", fail)
    lines = io.StringIO()
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    media = target("media", "http://127.0.0.1:1", "media", secret_access_key=SECRET_KEY)
    try:
        logs.configure("debug", "logfmt", logging.StreamHandler(lines))
        async with running(write(tmp_path / "exporter.yaml", media)) as exporter:
            status, text = await exporter.get("/probe?target=media")
    finally:
        root.handlers = before
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
    assert status == 500
    assert "Traceback" in lines.getvalue()
    assert found({"answer": text.encode(), "log": lines.getvalue().encode()}) == []


def _repeats_the_question(request: str, secret: str, _spelling: str) -> bool:
    """An unknown path, or an unknown field's name, is told to nobody but to who sent it."""
    asked = f"/api/{quote(API_TOKEN)} " in request or f"{{'{API_TOKEN}'" in request
    return asked and secret == API_TOKEN
