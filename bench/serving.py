"""What a scrape costs the process that serves it: ours, and a Go client with the same series.

    python -m bench.serving [--targets 1000 10000] [--rounds 10] [--json FILE]

The Go side is prometheus-pushgateway, to which our page was pushed as one group, with its checks of what
is pushed turned off; it serves by Prometheus' own client library. Ours is the exporter's handler. CPU is
that of each server process by the kernel, over all scrapes of a kind and half a second after them; both
are asked in turn, plain and with gzip. `held` is how long a scrape keeps our event loop from anything
else: the longest time from one turn of the loop to the next, at the median over as many scrapes more;
`of CPU` is the same by its thread's own clock, which stands still while the thread waits for the
interpreter or a processor. bench/scrape.py has the rest of the comparison.
"""

import argparse
import asyncio
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from aiohttp import web

from bench.processes import cpu_seconds, memory_bytes

GO = "pushgateway (Go)"
OURS = "r2-exporter"
ANSWERS = {"plain": {}, "gzip": {"Accept-Encoding": "gzip"}}
SETTLE = 0.5
"""Seconds after the last scrape, in which a garbage collector that it set off can end."""
PATIENCE = 600.0
GOAL_RATIO, GOAL_HELD = 3.0, 2.0


@dataclass(frozen=True)
class Server:
    """A process that serves the series."""

    url: str
    pid: int


@dataclass(frozen=True)
class Row:
    """One server and one kind of answer; `times_ours` is its CPU a line by ours."""

    targets: int
    side: str
    answer: str
    lines: int
    cpu_milliseconds: float
    cpu_microseconds_per_line: float
    times_ours: float
    scrape_milliseconds: float
    megabytes_sent: float
    memory_megabytes: float
    held_milliseconds: float | None
    computing_milliseconds: float | None


# --- ours ---


async def serve(targets: int) -> None:
    """Our handler with a page of this size, in this process."""
    from bench.scrape import exporter
    from exporter.app import App
    from exporter.config import Settings
    from exporter.serve import keep_the_loop_free
    from exporter.web import metrics
    from exporter.web.keys import APP, PAGES, TURNS
    from exporter.web.pages import Pages
    from exporter.web.turns import Turns

    app = App(Settings.model_construct, Path("unused.db"))  # never started, so it loads none
    app.metrics = exporter(targets, random.Random(1))
    application = web.Application()
    application[APP], application[PAGES] = app, Pages(app.metrics.registry)
    application[TURNS] = Turns()
    application.add_routes(metrics.routes)
    application.router.add_get("/held", Held().answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    keep_the_loop_free()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


class Held:
    """The longest turns of the event loop between one question, which begins to look, and the next."""

    def __init__(self) -> None:
        self._whole = self._computing = 0.0
        self._watching: asyncio.Task[None] | None = None

    async def answer(self, _request: web.Request) -> web.Response:
        longest = [self._whole, self._computing]
        if self._watching is None:
            self._whole = self._computing = 0.0
            self._watching = asyncio.create_task(self._watch())
        else:
            self._watching.cancel()
            self._watching = None
        return web.json_response(longest)

    async def _watch(self) -> None:
        while True:
            began, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0)  # one turn
            self._computing = max(self._computing, time.thread_time() - used)
            self._whole = max(self._whole, time.perf_counter() - began)


@contextmanager
def ours(targets: int) -> Iterator[Server]:
    command = [sys.executable, "-m", "bench.serving", "--serve", str(targets)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(process.stdout.readline().strip(), process.pid)
        finally:
            process.terminate()


def held(url: str, headers: Mapping[str, str], rounds: int) -> tuple[float, float]:
    """Milliseconds of the longest turns, whole and of computing: medians over the scrapes."""
    found = []
    for _ in range(rounds):
        _get(f"{url}/held", {})
        _get(f"{url}/metrics", headers)
        found.append(json.loads(_get(f"{url}/held", {})))
    whole, computing = (statistics.median(each) * 1e3 for each in zip(*found, strict=True))
    return whole, computing


# --- the Go client ---


@contextmanager
def go(page: bytes) -> Iterator[Server]:
    binary = shutil.which("prometheus-pushgateway")
    if binary is None:
        raise SystemExit("pushgateway is missing: apt-get install prometheus-pushgateway")
    with socket.create_server(("127.0.0.1", 0)) as free:  # it does not tell which it took by itself
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # An empty file name: what is pushed stays in memory alone.
    flags = [f"--web.listen-address={address}", "--push.disable-consistency-check", "--persistence.file="]
    with subprocess.Popen([binary, *flags], stderr=subprocess.DEVNULL) as process:
        try:
            _push(f"http://{address}/metrics/job/bench", page)
            yield Server(f"http://{address}", process.pid)
        finally:
            process.terminate()


def _push(url: str, page: bytes) -> None:
    for _ in range(100):
        try:
            urlopen(Request(url, data=page, method="PUT"), timeout=PATIENCE).close()
        except URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise SystemExit(f"pushgateway did not take the page: {error}") from error
            time.sleep(0.1)
        else:
            return
    raise SystemExit("pushgateway does not answer")


def series(page: bytes) -> bytes:
    """Our families alone, which both sides then have."""
    lines = page.splitlines(keepends=True)
    return b"".join(line for line in lines if line.startswith((b"r2_", b"# HELP r2_", b"# TYPE r2_")))


# --- both ---


def _get(url: str, headers: Mapping[str, str]) -> bytes:
    with urlopen(Request(url, headers=dict(headers)), timeout=PATIENCE) as answer:
        body: bytes = answer.read()
        return body


def samples(page: bytes) -> int:
    return page.count(b"\n") - page.count(b"\n#") - page.startswith(b"#")


def measure(targets: int, rounds: int) -> Iterator[Row]:
    with ours(targets) as mine:
        page = _get(f"{mine.url}/metrics", {})
        with go(series(page)) as theirs:
            for answer in ANSWERS:
                yield from _measure(targets, answer, {OURS: mine, GO: theirs}, rounds)


def _measure(targets: int, answer: str, sides: Mapping[str, Server], rounds: int) -> Iterator[Row]:
    headers, sent = ANSWERS[answer], dict.fromkeys(sides, b"")
    for side, server in sides.items():  # the first scrape finds out how large its buffers have to be
        sent[side] = _get(f"{server.url}/metrics", headers)
    before = {side: cpu_seconds(server.pid) for side, server in sides.items()}
    took: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, server in sides.items():
            began = time.perf_counter()
            sent[side] = _get(f"{server.url}/metrics", headers)
            took[side].append(time.perf_counter() - began)
    time.sleep(SETTLE)
    cpu = {side: (cpu_seconds(server.pid) - before[side]) / rounds for side, server in sides.items()}
    per_line: dict[str, float] = {}
    for side, server in sides.items():
        text = zlib.decompress(sent[side], wbits=31) if answer == "gzip" else sent[side]
        per_line[side] = cpu[side] / samples(text) * 1e6
        whole, computing = held(server.url, headers, rounds) if side == OURS else (None, None)
        yield Row(
            targets=targets,
            side=side,
            answer=answer,
            lines=samples(text),
            cpu_milliseconds=cpu[side] * 1e3,
            cpu_microseconds_per_line=per_line[side],
            times_ours=per_line[side] / per_line[OURS],
            scrape_milliseconds=statistics.median(took[side]) * 1e3,
            megabytes_sent=len(sent[side]) / 1e6,
            memory_megabytes=memory_bytes(server.pid) / 1e6,
            held_milliseconds=whole,
            computing_milliseconds=computing,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what serving a scrape costs.")
    parser.add_argument("--targets", type=int, nargs="+", default=[1000])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        import uvloop

        uvloop.run(serve(options.serve))
        return
    print(
        f"{'targets':>7}  {'side':<18}{'answer':<8}{'lines':>9}{'CPU ms':>9}{'µs/line':>9}{'x ours':>8}"
        f"{'scrape ms':>11}{'MB sent':>9}{'RSS MB':>8}{'held ms':>9}{'of CPU':>8}"
    )
    rows = []
    for targets in options.targets:
        for row in measure(targets, options.rounds):
            rows.append(row)
            print(
                f"{row.targets:>7}  {row.side:<18}{row.answer:<8}{row.lines:>9}{row.cpu_milliseconds:>9.1f}"
                f"{row.cpu_microseconds_per_line:>9.3f}{row.times_ours:>8.1f}{row.scrape_milliseconds:>11.1f}"
                f"{row.megabytes_sent:>9.2f}{row.memory_megabytes:>8.0f}"
                f"{cell(row.held_milliseconds):>9}{cell(row.computing_milliseconds):>8}",
                flush=True,
            )
    print(
        f"\ngoals: the Go client takes at least {GOAL_RATIO:g} times the CPU a line, "
        f"no scrape holds our event loop for more than {GOAL_HELD:g} ms"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def cell(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


if __name__ == "__main__":
    main()
