"""What a scrape costs the process that serves it: ours, and a Go client with the same series.

    python -m bench.serving [--targets 1000] [--rounds 10] [--json FILE]

The Go side is prometheus-pushgateway, to which the same page was pushed, with its checks of what is
pushed turned off; it serves by Prometheus' own client library. CPU is that of each server process by
the kernel, over all scrapes of a kind; both are asked in turn, plain and with gzip. bench/scrape.py has
the rest of the comparison.
"""

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from bench.processes import cpu_seconds, memory_bytes

GO = "pushgateway (Go)"
OURS = "r2-exporter"
GO_ADDRESS = "127.0.0.1:19091"
ANSWERS = {"plain": {}, "gzip": {"Accept-Encoding": "gzip"}}


@dataclass(frozen=True)
class Row:
    """One server and one kind of answer; `times_ours` is its CPU a line by ours."""

    targets: int
    side: str
    answer: str
    lines: int
    cpu_milliseconds: float
    cpu_microseconds_per_line: float
    scrape_milliseconds: float
    megabytes_sent: float
    memory_megabytes: float
    times_ours: float = 0.0


async def serve(targets: int) -> None:
    """Our handler with a page of this size, in this process."""
    import uvloop  # noqa: F401  the parent runs this on it
    from aiohttp import web

    from bench.scrape import exporter
    from exporter.app import App
    from exporter.config import Settings
    from exporter.web import metrics
    from exporter.web.keys import APP, PAGES
    from exporter.web.pages import Pages

    app = App(Settings, Path("unused.db"))
    app.metrics = exporter(targets, random.Random(1))
    application = web.Application()
    application[APP], application[PAGES] = app, Pages(app.metrics.registry)
    application.add_routes(metrics.routes)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


@contextmanager
def ours(targets: int) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "bench.serving", "--serve", str(targets)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


@contextmanager
def go(page: bytes) -> Iterator[tuple[str, int]]:
    binary = shutil.which("prometheus-pushgateway")
    if binary is None:
        raise SystemExit("pushgateway is missing: apt-get install prometheus-pushgateway")
    flags = [f"--web.listen-address={GO_ADDRESS}", "--push.disable-consistency-check", "--log.level=error"]
    url = f"http://{GO_ADDRESS}"
    with subprocess.Popen([binary, *flags], stderr=subprocess.DEVNULL) as process:
        try:
            push = Request(f"{url}/metrics/job/bench", data=page, method="PUT")
            for _ in range(100):
                try:
                    urlopen(push).close()
                    break
                except URLError:
                    time.sleep(0.1)
            else:
                raise SystemExit("pushgateway does not answer")
            yield url, process.pid
        finally:
            process.terminate()


def scrape(url: str, headers: dict[str, str]) -> tuple[bytes, float]:
    """What was sent, and the seconds until its last byte."""
    began = time.perf_counter()
    with urlopen(Request(f"{url}/metrics", headers=headers)) as answer:
        return answer.read(), time.perf_counter() - began


def series(page: bytes) -> bytes:
    """Our families alone, which both sides then have."""
    lines = page.splitlines(keepends=True)
    return b"".join(line for line in lines if line.startswith((b"r2_", b"# HELP r2_", b"# TYPE r2_")))


def measure(targets: int, rounds: int) -> list[Row]:
    with ours(targets) as mine:
        page, _ = scrape(mine[0], {})
        with go(series(page)) as theirs:
            sides = {OURS: mine, GO: theirs}
            spent: dict[tuple[str, str], list[tuple[float, float, int]]] = {
                (side, answer): [] for answer in ANSWERS for side in sides
            }
            counts = {}
            for _ in range(rounds):
                for (side, answer), figures in spent.items():
                    url, pid = sides[side]
                    before = cpu_seconds(pid)
                    sent, seconds = scrape(url, ANSWERS[answer])
                    figures.append((cpu_seconds(pid) - before, seconds, len(sent)))
                    text = zlib.decompress(sent, wbits=31) if answer == "gzip" else sent
                    counts[side] = sum(not line.startswith(b"#") for line in text.splitlines())
            return _rows(targets, spent, counts, {name: pid for name, (_, pid) in sides.items()})


def _rows(
    targets: int,
    spent: dict[tuple[str, str], list[tuple[float, float, int]]],
    counts: dict[str, int],
    pids: dict[str, int],
) -> list[Row]:
    rows = []
    for (side, answer), runs in spent.items():
        cpu, seconds = (sum(column) / len(runs) for column in list(zip(*runs, strict=True))[:2])
        per_line = cpu / counts[side] * 1e6
        rows.append(
            Row(
                targets=targets,
                side=side,
                answer=answer,
                lines=counts[side],
                cpu_milliseconds=cpu * 1e3,
                cpu_microseconds_per_line=per_line,
                scrape_milliseconds=seconds * 1e3,
                megabytes_sent=runs[-1][2] / 1e6,
                memory_megabytes=memory_bytes(pids[side]) / 1e6,
            )
        )
    mine = {row.answer: row.cpu_microseconds_per_line for row in rows if row.side == OURS}
    return [
        Row(**{**asdict(row), "times_ours": row.cpu_microseconds_per_line / mine[row.answer]}) for row in rows
    ]


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
        f"{'scrape ms':>11}{'MB sent':>9}{'RSS MB':>8}"
    )
    rows = []
    for targets in options.targets:
        for row in measure(targets, options.rounds):
            rows.append(asdict(row))
            print(
                f"{row.targets:>7}  {row.side:<18}{row.answer:<8}{row.lines:>9}{row.cpu_milliseconds:>9.1f}"
                f"{row.cpu_microseconds_per_line:>9.3f}{row.times_ours:>8.1f}{row.scrape_milliseconds:>11.1f}"
                f"{row.megabytes_sent:>9.2f}{row.memory_megabytes:>8.0f}",
                flush=True,
            )
    print("\ngoal: the Go client takes at least 3 times the CPU a line")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
