"""Exporters to test: inside this process, or as the command that users start; and storages for them."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import aiohttp
import yaml
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from exporter.app import App
from exporter.config import load_settings
from exporter.config.tokens import TOKEN_VARIABLE
from exporter.web.server import Server

DEADLINE = 30.0
SECRET = "wJalrXUtnFEMI/K7MDENG"
SESSION_TOKEN = "FwoGZXIvYXdzEBYaD"
LOOPBACK = (("127.0.0.1", 0),)
PROGRAM = ("-m", "exporter")
LONGEST_LINE = 64 << 20
"""Bytes of one line of a log: far more than may be, so that the test that looks for it can see it."""
HOP_BY_HOP = {"connection", "transfer-encoding", "server", "date"}


async def until(condition: Callable[[], object]) -> None:
    """Wait for `condition`; TimeoutError if it does not come true in time."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """The same for a condition that has to ask somebody."""
    async with asyncio.timeout(DEADLINE):
        while not await condition():
            await asyncio.sleep(0.05)


# --- storages ---


@contextmanager
def demo_server(scene: str = "healthy") -> Iterator[str]:
    """The demo's S3 server in its own process; its URL."""
    command = [sys.executable, "-m", "exporter.demo.server", "--scene", scene]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("")  # it serves until its standard input ends


def new_bucket(endpoint: str) -> str:
    """The name of a fresh and empty bucket."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    with urlopen(Request(f"{endpoint}/{bucket}", method="PUT")) as answer:
        assert answer.status == 200
    return bucket


def objects_in(endpoint: str, bucket: str) -> int:
    """How many objects a bucket holds."""
    signed = Request(
        f"{endpoint}/{bucket}?list-type=2",
        headers={"Authorization": "AWS4-HMAC-SHA256 Credential=demo/20200101/us-east-1/s3/aws4_request"},
    )
    with urlopen(signed) as answer:
        page: str = answer.read().decode()
    assert "<ListBucketResult" in page
    return page.count("<Key>")


@dataclass(slots=True)
class Gate:
    """A storage in front of another one: it notes the requests and holds them while it is closed."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    held: int = 0
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self) -> None:
        self.opened.clear()

    def open(self) -> None:
        self.opened.set()


@asynccontextmanager
async def gate(storage: str) -> AsyncIterator[Gate]:
    """An open gate in front of `storage`."""
    it = Gate()
    it.open()
    in_order = asyncio.Lock()
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.Response:
            body = await request.read()
            it.requests.append(f"{request.method} {request.raw_path}")
            it.held += 1
            await it.opened.wait()
            it.held -= 1
            url = URL(storage + request.raw_path, encoded=True)
            async with (
                in_order,  # a DELETE must not overtake the PUT that was held before it
                session.request(request.method, url, headers=request.headers, data=body) as answer,
            ):
                content = await answer.read()
                dropped = HOP_BY_HOP if request.method == "HEAD" else HOP_BY_HOP | {"content-length"}
                headers = {k: v for k, v in answer.headers.items() if k.lower() not in dropped}
            return web.Response(status=answer.status, body=content, headers=headers)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        it.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield it
        finally:
            it.open()
            await runner.cleanup()


# --- configuration ---


def target(name: str, endpoint: str, bucket: str, **more: object) -> dict[str, Any]:
    """A target of a configuration file; without `probe` it has no turn of its own for long."""
    settings = {
        "name": name,
        "endpoint": endpoint,
        "bucket": bucket,
        "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": SECRET,
        "probe": {"interval": "1d"},
    }
    return settings | more


def write(config: Path, *targets: Mapping[str, object], **sections: object) -> Path:
    """Write a configuration file and give its path back."""
    config.write_text(yaml.safe_dump({**sections, "targets": [dict(each) for each in targets]}))
    return config


# --- exporters ---


class Client:
    """Speaks HTTP with a running exporter."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        return await self.ask("GET", path, **headers)

    async def post(self, path: str, **headers: str) -> tuple[int, str]:
        return await self.ask("POST", path, **headers)

    async def ask(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        """Status and body of one request; underscores in header names stand for dashes."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, URL(self.url + path, encoded=True), headers=sent) as answer,
        ):
            return answer.status, await answer.text()

    async def metrics(self) -> "Samples":
        return Samples.of((await self.get("/metrics"))[1])

    async def has(self, name: str, /, **labels: str) -> bool:
        """Whether there is such a series."""
        try:
            (await self.metrics())(name, **labels)
        except KeyError:
            return False
        return True

    async def has_value(self, value: float, name: str, /, **labels: str) -> bool:
        return (await self.metrics())(name, **labels) == value

    async def has_more(self, value: float, name: str, /, **labels: str) -> bool:
        return (await self.metrics())(name, **labels) > value


class Running(Client):
    """An exporter in this process."""

    def __init__(self, app: App, server: Server) -> None:
        super().__init__(server.urls[0])
        self.app = app
        self.server = server


@asynccontextmanager
async def running(
    config: Path,
    *,
    listen: Sequence[tuple[str, int]] = LOOPBACK,
    web_config: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Running]:
    """The exporter inside this process, on a free port."""
    app = App(lambda: load_settings(config, env or {}), config.with_name("r2-exporter.db"))
    server = Server(app, listen, web_config)
    await app.start()
    try:
        await server.start()
        yield Running(app, server)
    finally:
        await app.stop()
        await server.stop()


@dataclass(slots=True)
class Spawned:
    """A command under way; `lines` grows by what it writes to standard error, as long as `log` is read."""

    process: Process
    log: asyncio.ReadTransport
    lines: list[str] = field(default_factory=list)

    def said(self, *words: str) -> list[str]:
        """The lines that hold all of `words`."""
        return [line for line in self.lines if all(word in line for word in words)]

    @property
    def url(self) -> str:
        [line] = self.said("listening")
        found = re.search(r"https?://[^\s\"]+", line)
        assert found is not None, line
        return found[0]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit status."""
        self.process.send_signal(number)
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


@asynccontextmanager
async def spawned(
    *arguments: str, env: Mapping[str, str] | None = None, program: Sequence[str] = PROGRAM
) -> AsyncIterator[Spawned]:
    """`r2-exporter` as users start it, killed at the end if it still runs.

    `program` is for those who start it in another way: what Python is given before `arguments`.
    """
    ours, its = os.pipe()
    log = asyncio.StreamReader(limit=LONGEST_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(log), os.fdopen(ours, "rb")
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *program, *arguments),
        stdout=PIPE,
        stderr=its,
        env=_surroundings() | dict(env or {}),
    )
    os.close(its)
    it = Spawned(process, transport)
    reading = asyncio.create_task(_read_lines(log, it.lines))
    try:
        yield it
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        transport.resume_reading()
        await reading


def _surroundings() -> dict[str, str]:
    """But for a token that whoever runs the tests has exported for an exporter of theirs."""
    return {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}


async def _read_lines(log: asyncio.StreamReader, lines: list[str]) -> None:
    async for line in log:
        lines.append(line.decode().rstrip("\n"))


@asynccontextmanager
async def serving_command(
    config: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = PROGRAM,
) -> AsyncIterator[Spawned]:
    """`r2-exporter serve` on a free port, once it probes."""
    listen = "--web.listen-address=127.0.0.1:0"
    files = (f"--config.file={config}", f"--storage.path={config.with_name('r2-exporter.db')}")
    async with spawned("serve", *files, listen, *arguments, env=env, program=program) as it:
        await until(lambda: it.said("probing") or it.process.returncode is not None)
        assert it.process.returncode is None, it.lines
        yield it


def command(*arguments: str) -> list[str]:
    return [sys.executable, *PROGRAM, *arguments]


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """`r2-exporter` to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=DEADLINE, check=False, **options
    )


# --- what an exporter says ---


@dataclass(frozen=True, slots=True)
class Samples:
    """A page of metrics, read by Prometheus' own Python parser."""

    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def of(cls, page: str) -> "Samples":
        families = text_string_to_metric_families(page)
        return cls(
            {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}
        )

    def __call__(self, name: str, /, **labels: str) -> float:
        """The sum of the series of this name with these labels; KeyError if there are none."""
        found = [value for (n, has), value in self.values.items() if n == name and labels.items() <= set(has)]
        if not found:
            raise KeyError((name, labels))
        return sum(found)

    def targets(self) -> set[str]:
        """Every value of the `target` label."""
        return {value for _, labels in self.values for label, value in labels if label == "target"}

    def counters(self, target: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Everything of one target that may only grow."""
        growing = ("_total", "_count", "_bucket", "_sum")
        return {
            key: value
            for key, value in self.values.items()
            if ("target", target) in key[1] and key[0].endswith(growing)
        }
