"""Real Alertmanagers, members that misbehave, and a pusher to tell them."""

import asyncio
import json
import re
import shutil
import socket
import ssl
import struct
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM, Signals
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from exporter.alertmanager import Attempt, Pace, Pushed, Pusher
from exporter.config import AlertmanagerSettings
from tests.serving import Served, serving

LISTENING = re.compile(r'msg="Listening on" address=(\S+)')
START_SECONDS = 30
FAST = Pace(interval=0.2, lifetime=60, keep_resolved=1, first_retry=0.02, longest_retry=0.1)
STARTED = 1_700_000_000.0


def alert(target: str = "media", ends_at: float | None = None, **annotations: str) -> Pushed:
    """An open breaker of `target`, with the labels that Prometheus' rule gives it."""
    labels = {
        "alertname": "R2CircuitBreakerOpen",
        "target": target,
        "type": "circuit_breaker_open",
        "severity": "critical",
    }
    return Pushed(labels, {"summary": f"{target} is down", **annotations}, STARTED, ends_at)


@asynccontextmanager
async def pushing(
    settings: AlertmanagerSettings, pace: Pace = FAST
) -> AsyncIterator[tuple[Pusher, list[Attempt]]]:
    """A pusher at work, and each request it makes."""
    attempts: list[Attempt] = []
    pusher = Pusher(attempts.append, pace)
    await pusher.configure(settings)
    try:
        yield pusher, attempts
    finally:
        await pusher.stop(10)


# --- real ones ---


@dataclass(slots=True)
class Alertmanager:
    """The HTTP API of one server, at `url`."""

    url: str
    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    async def alerts(self) -> list[dict[str, Any]]:
        """Those that are active."""
        async with self.session.get(f"{self.url}/api/v2/alerts") as answer:
            found: list[dict[str, Any]] = await answer.json()
        return found

    async def targets(self) -> list[str]:
        """The `target` of each active alert."""
        return sorted(alert["labels"]["target"] for alert in await self.alerts())

    async def post(self, alerts: list[dict[str, Any]]) -> None:
        async with self.session.post(f"{self.url}/api/v2/alerts", json=alerts) as answer:
            assert answer.status == 200, await answer.text()

    async def end(self, number: Signals = SIGTERM) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()


@asynccontextmanager
async def alertmanager(
    folder: Path,
    *,
    port: int = 0,
    webhook: str = "",
    web_config: dict[str, Any] | None = None,
    tls: ssl.SSLContext | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Alertmanager]:
    """Runs Alertmanager with its data under `folder`; it tells `webhook` of changes within a second."""
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    assert binary, "Alertmanager is not installed: `make test` installs it"
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - once, at the start
    (folder / "alertmanager.yml").write_text(_config(webhook))
    (folder / "web.yml").write_text(yaml.safe_dump(web_config or {}))
    process = await asyncio.create_subprocess_exec(
        binary,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--web.config.file={folder / 'web.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        stderr=PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (found := LISTENING.search(line := (await process.stderr.readline()).decode())):
                assert line, "Alertmanager did not start"
        drain = asyncio.create_task(process.stderr.read())
        connector = aiohttp.TCPConnector(ssl=tls or True)
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            yield Alertmanager(f"{'https' if tls else 'http'}://{found[1]}", process, session)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    await drain


def _config(webhook: str) -> str:
    route = {
        "receiver": "hook",
        "group_by": ["target"],
        "group_wait": "100ms",
        "group_interval": "1s",
        "repeat_interval": "1h",
    }
    hooks = [{"url": webhook, "send_resolved": True}] if webhook else []
    return yaml.safe_dump({"route": route, "receivers": [{"name": "hook", "webhook_configs": hooks}]})


@dataclass(slots=True)
class Notified:
    """What a receiver of webhooks got."""

    url: str = ""
    notifications: list[dict[str, Any]] = field(default_factory=list)

    def of(self, status: str) -> list[str]:
        """The `target` of each notification with this status, in order."""
        return [n["groupLabels"]["target"] for n in self.notifications if n["status"] == status]


@asynccontextmanager
async def webhook() -> AsyncIterator[Notified]:
    """A receiver for Alertmanager's notifications."""
    notified = Notified()

    async def take(request: web.Request) -> web.Response:
        notified.notifications.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    async with serving(app) as served:
        notified.url = served.url + "/"
        yield notified


# --- members that misbehave ---

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Scripted:
    """A member that does as `behave` says once it has noted what it was told."""

    behave: Behaviour
    url: str = ""
    bodies: list[list[dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def told_of(self) -> set[str]:
        """The `target` of each alert it was ever told."""
        return {alert["labels"]["target"] for body in self.bodies for alert in body}


@asynccontextmanager
async def member(
    behave: Behaviour | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Scripted]:
    """One that takes everything, unless told otherwise."""
    scripted = Scripted(behave or answering(200))

    async def take(request: web.Request) -> web.StreamResponse:
        scripted.bodies.append(json.loads(await request.read()))
        scripted.headers.append(dict(request.headers))
        return await scripted.behave(request)

    app = web.Application()
    app.router.add_post("/api/v2/alerts", take)
    app.router.add_post("/api/v2/silences", scripted.behave)
    served: Served
    async with serving(app, tls=tls) as served:
        scripted.url = served.url
        yield scripted


def answering(status: int, text: str = "") -> Behaviour:
    async def behave(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    return behave


async def echoing(request: web.Request) -> web.Response:
    """Refuses, and tells everybody what it was sent."""
    return web.Response(status=400, text="\n".join(f"{k}: {v}" for k, v in request.headers.items()))


async def hanging(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def resetting(request: web.Request) -> web.StreamResponse:
    """SO_LINGER 0 makes the connection end with a reset."""
    assert request.transport is not None
    connection: socket.socket = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()


async def garbling(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"this is not HTTP\r\n\r\n")
    request.transport.close()
    return web.Response()
