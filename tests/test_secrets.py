"""Known secrets, planted wherever one can stand, are in nothing that the exporter says or keeps."""

import base64
import json
import os
from pathlib import Path
from urllib.parse import quote

import aiohttp
import bcrypt

from exporter.outcome import Operation
from exporter.web.api import endpoints
from tests.faults.server import Call, answer, fault_server, s3_error
from tests.running import Spawned, serving_command, target, write

KEY_ID = "AKIAPLANTEDKEYID"
SECRET_KEY = "planted/secret+key=of-the-storage"
SESSION = "planted-session-token-of-the-storage"
API_TOKEN = "planted-token-of-the-api"
READ_TOKEN = "planted-token-to-read"
PASSWORD = "planted-password"
PROXY_PASSWORD = "planted-proxy-password"
SECRETS = (SECRET_KEY, SESSION, API_TOKEN, READ_TOKEN, PASSWORD, PROXY_PASSWORD)
LOGIN = base64.b64encode(f"ops:{PASSWORD}".encode()).decode()

PAGES = ("/", "/metrics", "/sd", "/-/healthy", "/-/ready", "/probe?target=media&debug=true", "/nothing")


async def echoing(call: Call) -> None:
    """A storage that repeats in its error, and in its headers, all that it was sent and what it may guess."""
    assert call.request is not None
    sent = " ".join(f"{name}: {value}" for name, value in call.request.headers.items())
    message = f"{sent} SECRET {SECRET_KEY} {quote(SECRET_KEY, safe='')}"
    call.writer.write(s3_error(403, SESSION, message, X_Amz_Request_Id=SESSION, Server=SECRET_KEY))
    await call.writer.drain()


async def echoing_listing(call: Call) -> None:
    key = f"<Contents><Key>{SESSION}</Key></Contents>"
    page = f"<ListBucketResult>{key}<IsTruncated>x{SECRET_KEY}</IsTruncated></ListBucketResult>"
    call.writer.write(answer(200, page.encode(), Content_Type=SESSION))
    await call.writer.drain()


def spellings(secret: str) -> list[bytes]:
    """The ways in which it may be written down."""
    texts = {
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        base64.b64encode(secret.encode()).decode(),
    }
    return [text.encode() for text in texts]


def planted(folder: Path, endpoint: str) -> Path:
    for name, secret in (("key", SECRET_KEY), ("session", SESSION), ("read", READ_TOKEN)):
        (folder / name).write_text(f"{secret}\n")
    media = target("media", endpoint, "media") | {
        "access_key_id": KEY_ID,
        "session_token_file": "session",
        "probe": {"operations": ["put", "get", "head", "list", "delete"], "interval": "1d"},
        "breaker": {"enabled": False},
    }
    del media["secret_access_key"]
    tokens = [{"name": "viewer", "token_file": "read", "scope": "read"}]
    (folder / "web.yaml").write_text(
        f"basic_auth_users: {{ops: {bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}}}\n"
    )
    return write(folder / "exporter.yaml", media | {"secret_access_key_file": "key"}, api={"tokens": tokens})


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
    async with aiohttp.ClientSession() as session:
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


async def test_no_planted_secret_is_said_or_kept(tmp_path: Path) -> None:
    async with fault_server() as storage:
        storage.script.update(dict.fromkeys(Operation, echoing))
        storage.script[Operation.LIST] = echoing_listing
        config = planted(tmp_path, storage.endpoint)
        env = {
            "R2_EXPORTER_API_TOKEN": API_TOKEN,
            "HTTP_PROXY": f"http://user:{PROXY_PASSWORD}@proxy.example:1",
            "NO_PROXY": "127.0.0.1",
        }
        web = f"--web.config.file={tmp_path / 'web.yaml'}"
        async with serving_command(config, web, "--log.level=debug", env=env) as exporter:
            answers = await everything_said(exporter)
            arguments = files(Path("/proc", str(exporter.process.pid)), "cmdline")
            assert await exporter.end() == 0
        assert {request.headers["x-amz-security-token"] for request in storage.requests} == {SESSION}

    said = answers | {"the log": "\n".join(exporter.lines).encode(), **arguments}
    kept = files(tmp_path, "r2-exporter.db*")
    assert kept["r2-exporter.db"]
    assert b"***" in kept["r2-exporter.db"]
    assert b"***" in said["the log"]
    assert b"operation fails" in said["the log"]
    ours = {key: text for key, text in (said | kept).items() if not _repeats_the_question(key)}
    found = [
        (place, secret)
        for place, text in ours.items()
        for secret in SECRETS
        if any(spelling in text for spelling in spellings(secret))
    ]
    assert found == []
    assert len(answers) > 100
    assert os.environ.get("R2_EXPORTER_API_TOKEN") is None


def _repeats_the_question(request: str) -> bool:
    """An unknown path, or an unknown field's name, is told to nobody but to who sent it."""
    return f"/api/{quote(API_TOKEN)} " in request or f"{{'{API_TOKEN}'" in request
