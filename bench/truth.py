"""How far what is reported is from what was: the storage knows how long it held each request.

    python -m bench.truth [--rates 50 200 1000] [--delays constant bimodal] [--seconds 10] [--json FILE]

Put, get, head, list and delete come at a set pace: ours by its schedule, the others one after another.
The exporter runs as users run it, while /metrics is scraped each second and the API is asked twice a
second. A row is one side at one pace, and `done/s` the pace it kept. The error is the reported duration
less the time that the server held that very request, by the request id both know. `q50` and `q99` are
histogram_quantile's answers from /metrics, less the true ones. The lateness is how long after it was due
a run of ours, or a call of the others, began; our largest is of the last minute, the start included.
All of it takes some seven minutes.
"""

import argparse
import asyncio
import json
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench.probe import BODY, PEER_CONFIG, PEER_KEYS, interpreter
from bench.storage import DELAYS, held_seconds, storage

SIDES = ("r2-exporter", "boto3 in threads", "aiobotocore")
OPERATIONS = 5
WARM_UP = 3.0
THREADS = 256
KEPT = "kept"


@dataclass(frozen=True)
class Asked:
    """One request, in seconds: what was reported, what was, and how late it began."""

    said: float
    was: float
    late: float


@dataclass(frozen=True)
class Row:
    """One side at one pace; milliseconds."""

    side: str
    delay: str
    rate: int
    operations: int
    done_per_second: float
    p50_error: float
    p99_error: float
    p99_lateness: float
    max_lateness: float
    q50_error: float | None = None
    q99_error: float | None = None


def percentiles(values: Sequence[float]) -> list[float]:
    return statistics.quantiles(values, n=100, method="inclusive")


def errors(pairs: Sequence[tuple[float, float]], seconds: float) -> dict[str, Any]:
    """Of what was said and what was."""
    cuts = percentiles([(said - was) * 1e3 for said, was in pairs])
    return {
        "operations": len(pairs),
        "done_per_second": len(pairs) / seconds,
        "p50_error": cuts[49],
        "p99_error": cuts[98],
    }


# --- the exporter ---


def exporter(url: str, rate: int, seconds: float) -> dict[str, Any]:
    targets = max(1, rate // OPERATIONS)  # each is probed once a second
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "exporter.yaml").write_text(
            "probe: {interval: 1s, operations: [put, get, head, list, delete]}\ntargets:\n"
            + "".join(
                f"  - {{name: t{number:03d}, endpoint: '{url}', bucket: bucket, access_key_id: AKIDEXAMPLE, "
                f"secret_access_key: secret}}\n"
                for number in range(targets)
            )
        )
        with serving(folder) as address:
            time.sleep(WARM_UP)
            began, before = time.time(), _page(address)
            _ask_along(address, seconds)
            after, ended = _page(address), time.time()
        pairs = _pairs(folder / "history.db", began, ended)
    found = errors(pairs, ended - began)
    true = percentiles([was for _, was in pairs])
    durations = _buckets("r2_probe_duration_seconds", before, after)
    found["q50_error"] = (_quantile(0.5, durations) - true[49]) * 1e3
    found["q99_error"] = (_quantile(0.99, durations) - true[98]) * 1e3
    lateness = _buckets("r2_exporter_schedule_lateness_seconds", before, after)
    found["p99_lateness"] = _quantile(0.99, lateness) * 1e3
    largest = re.search(r"^r2_exporter_schedule_lateness_max_seconds (\S+)", after, re.MULTILINE)
    assert largest is not None
    found["max_lateness"] = float(largest[1]) * 1e3
    return found


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The exporter with the folder's configuration, until the end of the context; its address."""
    command = [sys.executable, "-m", "exporter", "serve", f"--config.file={folder / 'exporter.yaml'}"]
    command += [f"--storage.path={folder / 'history.db'}", "--web.listen-address=127.0.0.1:0"]
    log = folder / "log"
    with log.open("w") as written, subprocess.Popen(command, stderr=written) as process:
        try:
            yield _address(log)
        finally:
            process.terminate()


def _address(log: Path) -> str:
    for _ in range(200):
        if found := re.search(r"msg=listening .*url=(\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"the exporter did not start:\n{log.read_text()}")


def _page(address: str) -> str:
    with urlopen(f"{address}/metrics") as answer:
        page: str = answer.read().decode()
    return page


def _ask_along(address: str, seconds: float) -> None:
    """A scrape a second, as Prometheus does it, and a question to the API before and after each."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for path in ("/api/health", "/metrics", "/api/health/history?limit=100"):
            asked = Request(address + path, headers={"Accept-Encoding": "gzip"} if path == "/metrics" else {})
            with urlopen(asked) as answer:
                answer.read()
            time.sleep(1 / 3)


def _pairs(database: Path, began: float, ended: float) -> list[tuple[float, float]]:
    """What the history has of that time: what was reported, and what was."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT duration_seconds, request_id, success, message FROM r2_health_checks "
            "WHERE checked_at BETWEEN ? AND ?",
            (began, ended),
        ).fetchall()
    if failures := [message for _, _, success, message in rows if not success]:
        raise SystemExit(f"{len(failures)} operations failed: {failures[0]}")
    return [(duration, held_seconds(request_id)) for duration, request_id, *_ in rows]


def _buckets(name: str, before: str, after: str) -> list[tuple[float, float]]:
    """What a histogram counted between two pages, over all its labels."""
    counts: dict[float, float] = {}
    for sign, page in ((-1, before), (1, after)):
        for line in page.splitlines():
            if line.startswith(f"{name}_bucket{{"):
                edge = re.search(r'le="([^"]+)"', line)
                assert edge is not None
                counts[float(edge[1])] = counts.get(float(edge[1]), 0) + sign * float(line.rsplit(" ", 1)[1])
    return sorted(counts.items())


def _quantile(cut: float, buckets: Sequence[tuple[float, float]]) -> float:
    """As PromQL's histogram_quantile: linear within the bucket that holds it."""
    rank, low, below = cut * buckets[-1][1], 0.0, 0.0
    for edge, count in buckets:
        if count >= rank:
            if edge == float("inf"):
                return low
            return low + (edge - low) * (rank - below) / (count - below) if count > below else edge
        low, below = edge, count
    return low


# --- the peers, each in a process of its own ---


def request(number: int) -> tuple[str, dict[str, Any]]:
    """A method of a client and its arguments: the operations in turn.

    What is read was put long before: at this pace no call waits for the one before it.
    """
    match number % OPERATIONS:
        case 0:
            return "put_object", {"Key": str(number), "Body": BODY}
        case 1:
            return "get_object", {"Key": KEPT}
        case 2:
            return "head_object", {"Key": KEPT}
        case 3:
            return "list_objects_v2", {"Prefix": KEPT, "MaxKeys": 2}
    return "delete_object", {"Key": str(number - 4)}


def peer(asked: Sequence[Asked], rate: int, seconds: float) -> dict[str, Any]:
    """What came of requests begun after the warm-up; they took `seconds`."""
    counted = asked[round(rate * WARM_UP) :]
    late = [one.late * 1e3 for one in counted]
    return errors([(one.said, one.was) for one in counted], seconds) | {
        "p99_lateness": percentiles(late)[98],
        "max_lateness": max(late),
    }


def boto3_in_threads(url: str, rate: int, seconds: float) -> dict[str, Any]:
    import boto3
    from botocore.config import Config

    config = Config(max_pool_connections=THREADS, **PEER_CONFIG)
    client = boto3.Session(**PEER_KEYS).client("s3", endpoint_url=url, config=config)
    client.put_object(Bucket="bucket", Key=KEPT, Body=BODY)

    def ask(number: int, due: float) -> Asked:
        method, arguments = request(number)
        began = time.perf_counter()
        answer = getattr(client, method)(Bucket="bucket", **arguments)
        if method == "get_object":
            answer["Body"].read()
        said = time.perf_counter() - began
        return Asked(said, held_seconds(answer["ResponseMetadata"]["RequestId"]), began - due)

    with ThreadPoolExecutor(THREADS) as pool:
        began, calls = time.perf_counter(), []
        for number in range(round(rate * (WARM_UP + seconds))):
            due = began + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            calls.append(pool.submit(ask, number, due))
        asked = [call.result() for call in calls]
    return peer(asked, rate, time.perf_counter() - began - WARM_UP)


async def aiobotocore(url: str, rate: int, seconds: float) -> dict[str, Any]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(max_pool_connections=THREADS, **PEER_CONFIG)
    async with get_session().create_client("s3", endpoint_url=url, config=config, **PEER_KEYS) as client:
        await client.put_object(Bucket="bucket", Key=KEPT, Body=BODY)

        async def ask(number: int, due: float) -> Asked:
            method, arguments = request(number)
            began = time.perf_counter()
            answer = await getattr(client, method)(Bucket="bucket", **arguments)
            if method == "get_object":
                await answer["Body"].read()
            said = time.perf_counter() - began
            return Asked(said, held_seconds(answer["ResponseMetadata"]["RequestId"]), began - due)

        async with asyncio.TaskGroup() as tasks:
            began, calls = time.perf_counter(), []
            for number in range(round(rate * (WARM_UP + seconds))):
                due = began + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                calls.append(tasks.create_task(ask(number, due)))
    return peer([call.result() for call in calls], rate, time.perf_counter() - began - WARM_UP)


def side(name: str, url: str, rate: int, seconds: float) -> dict[str, Any]:
    """Measures one, in this process."""
    import uvloop

    measured: dict[str, Callable[[], dict[str, Any]]] = {
        SIDES[0]: lambda: exporter(url, rate, seconds),
        SIDES[1]: lambda: boto3_in_threads(url, rate, seconds),
        SIDES[2]: lambda: uvloop.run(aiobotocore(url, rate, seconds)),
    }
    return measured[name]()


# --- all of them ---


def measure(delay: str, rate: int, name: str, seconds: float) -> Row:
    with storage(delay) as server:
        command = [interpreter(name), "-m", "bench.truth", "--seconds", str(seconds)]
        command += ["--side", name, server.url, str(rate)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Row(name, delay, rate, **json.loads(done.stdout))


HEADS = ("done/s", "p50 err", "p99 err", "q50 err", "q99 err", "late p99", "late max")


def show(row: Row) -> None:
    figures = (
        *(row.done_per_second, row.p50_error, row.p99_error, row.q50_error, row.q99_error),
        *(row.p99_lateness, row.max_lateness),
    )
    shown = "".join(f"{'-' if figure is None else f'{figure:.2f}':>10}" for figure in figures)
    print(f"{row.delay:<13}{row.rate:>6}  {row.side:<18}{row.operations:>7}{shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how true the reported durations are.")
    parser.add_argument("--rates", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--delays", nargs="+", choices=DELAYS[1:], default=DELAYS[1:])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "URL", "RATE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        name, url, rate = options.side
        print(json.dumps(side(name, url, int(rate), options.seconds)))
        return
    print(
        f"{'delay':<13}{'ops/s':>6}  {'side':<18}{'ops':>7}"
        + "".join(f"{head:>10}" for head in HEADS)
        + "  ms"
    )
    rows = []
    for delay in options.delays:
        for rate in options.rates:
            for name in options.sides:
                rows.append(measure(delay, rate, name, options.seconds))
                show(rows[-1])
    print("\ngoals: error under 0.3 ms at p50 and 2 ms at p99, lateness under 20 ms at p99")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
