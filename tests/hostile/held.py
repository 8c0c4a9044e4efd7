"""An exporter that lasts as long as a test, whatever it is sent, and what it says in its log meanwhile."""

import asyncio
import http.client
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import structlog
from aiohttp import web

from exporter import logs
from exporter.app import App
from exporter.config import load_settings
from exporter.web.access import AccessPolicy
from exporter.web.server import Server
from exporter.web.toolkit import RateLimit, WebConfig
from tests.running import DEADLINE, LOOPBACK

LOGFMT = re.compile(r'(?:(?:^| )[\w.-]+=(?:"(?:[^"\\]|\\.)*"|[^\s"=\\]*))+')
PATIENT = RateLimit.model_validate({"interval": "1ms", "burst": 1_000_000})


class Unhurried(Server):
    """It lets a caller write as fast as it likes."""

    def _policy_of(self, config: WebConfig) -> AccessPolicy:
        return replace(super()._policy_of(config), write_limit=PATIENT)


@dataclass(frozen=True, slots=True)
class Answer:
    """Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Held:
    """An exporter in this process, on a loop that runs while somebody asks."""

    runner: asyncio.Runner
    server: Server
    log: io.StringIO
    database: Path

    @property
    def application(self) -> web.Application:
        runner = self.server._runner
        assert runner is not None
        return runner.app

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """A request as clients make it."""
        sent = b"" if body is None else json.dumps(body).encode()
        return self.send(head(method, path, {"Content-Type": "application/json"}, len(sent)) + sent)

    def send(self, sent: bytes) -> Answer:
        """The answer to these bytes, which have to ask for the connection's end."""
        received: Any = _Received(self.runner.run(self._send(sent)))
        answer = http.client.HTTPResponse(received, method=sent.partition(b" ")[0].decode(errors="replace"))
        answer.begin()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def leave(self, sent: bytes) -> None:
        """Sends these bytes, and goes once there is an answer, or none for a moment."""

        async def leave() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(sent)
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.02)
            writer.transport.abort()
            await asyncio.sleep(0.01)

        self.runner.run(leave())

    @property
    def port(self) -> int:
        return int(self.server.urls[0].rpartition(":")[2])

    async def _send(self, sent: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(sent)
            try:
                return await reader.read()
            finally:
                writer.transport.abort()

    def assert_calm(self, errors_of: str = "nobody") -> None:
        """It has said nothing of a defect, each thing on a line of its own, and it still serves."""
        said = self.log.getvalue()
        self.log.seek(0)
        self.log.truncate()
        for line in said.splitlines():
            assert_is_one_line(line, "logfmt")
            assert "unexpected" not in line
            assert "level=error" not in line or f"logger={errors_of} " in line
        assert self.ask("GET", "/-/healthy").status == 200
        assert self.ask("GET", "/").status == 200


class _Received:
    """What http.client takes for a socket."""

    def __init__(self, received: bytes) -> None:
        self._received = received

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._received)


def head(method: str, path: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """The head of a request that is the last of its connection."""
    fields = {"Host": "127.0.0.1", "Connection": "close", **headers}
    if length is not None:
        fields["Content-Length"] = str(length)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode(errors="surrogateescape")


@contextmanager
def held(config: Path) -> Iterator[Held]:
    with logging_to("logfmt", "info") as log, asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Server:
            app = App(lambda: load_settings(config, {}), config.with_name("r2-exporter.db"))
            server = Unhurried(app, LOOPBACK, None)
            await app.start()
            stack.push_async_callback(server.stop)
            stack.push_async_callback(app.stop)
            await server.start()
            return server

        try:
            yield Held(runner, runner.run(start()), log, config.with_name("r2-exporter.db"))
        finally:
            runner.run(stack.aclose())


@contextmanager
def logging_to(fmt: Literal["logfmt", "json"], level: str = "debug") -> Iterator[io.StringIO]:
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers[:], root.level
    logs.configure(level, fmt, logging.StreamHandler(stream))
    try:
        yield stream
    finally:
        root.handlers, root.level = before[0], before[1]
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()


def assert_is_one_line(line: str, fmt: str) -> None:
    """It reads back, and nothing in it moves a terminal's cursor."""
    assert line.isprintable()
    if fmt == "json":
        assert {"ts", "level", "msg", "logger"} <= json.loads(line).keys()
    else:
        assert LOGFMT.fullmatch(line), line
