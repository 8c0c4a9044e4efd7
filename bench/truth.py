"""How far what is reported is from what was: the storage knows how long it held each request.

    python -m bench.truth [--rates 50 200 1000] [--delays constant bimodal long-tailed] [--json FILE]

Operations come at a set pace, spread evenly. The exporter runs as users run it, while /metrics is
scraped each second and the API is asked twice a second. The error is the reported duration less the
time that the server held that very request, by the request id both know. `q50` and `q99` are
histogram_quantile's answers from /metrics, less the true ones. The lateness is how long after it was
due a run began.
"""

import argparse
import asyncio
import json
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench.probe import interpreter
from bench.storage import DELAYS, held_seconds, storage

SIDES = ("r2-exporter", "boto3 in threads", "aiobotocore")
OPERATIONS = 5
WARM_UP = 3.0
THREADS = 256
Pair = tuple[float, float]
"""What was reported and what was, in seconds."""


@dataclass(frozen=True)
class Row:
    """One side at one pace; milliseconds."""

    side: str
    delay: str
    rate: int
    operations: int
    p50_error: float
    p99_error: float
    q50_error: float | None = None
    q99_error: float | None = None
    p99_lateness: float | None = None


def errors(pairs: Sequence[Pair]) -> dict[str, Any]:
    cuts = statistics.quantiles([(said - was) * 1e3 for said, was in pairs], n=100, method="inclusive")
    return {"operations": len(pairs), "p50_error": cuts[49], "p99_error": cuts[98]}


# --- the exporter ---


def exporter(url: str, rate: int, seconds: float) -> dict[str, Any]:
    targets = max(1, rate // OPERATIONS)  # each is probed once a second
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, database = folder / "exporter.yaml", folder / "history.db"
        config.write_text(
            "probe: {interval: 1s, operations: [put, get, head, list, delete]}\ntargets:\n"
            + "".join(
                f"  - {{name: t{number:03d}, endpoint: '{url}', bucket: bucket, access_key_id: AKIDEXAMPLE, "
                f"secret_access_key: secret}}\n"
                for number in range(targets)
            )
        )
        command = [sys.executable, "-m", "exporter", "serve", f"--config.file={config}"]
        command += [f"--storage.path={database}", "--web.listen-address=127.0.0.1:0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            address = _address(process.stderr.readline for _ in range(20))
            draining = threading.Thread(target=process.stderr.read)
            draining.start()
            time.sleep(WARM_UP)
            began, before = time.time(), _page(address)
            stop = threading.Event()
            load = threading.Thread(target=_load, args=(address, stop))
            load.start()
            time.sleep(seconds)
            after, ended = _page(address), time.time()
            stop.set()
            load.join()
            process.send_signal(signal.SIGTERM)
            process.wait()
            draining.join()
        connection = sqlite3.connect(database)
        rows = connection.execute(
            "SELECT duration_seconds, request_id FROM r2_health_checks "
            "WHERE success = 1 AND checked_at BETWEEN ? AND ?",
            (began, ended),
        ).fetchall()
        connection.close()
    pairs = [(duration, held_seconds(request_id)) for duration, request_id in rows]
    true = statistics.quantiles([was for _, was in pairs], n=100, method="inclusive")
    found = errors(pairs)
    for name, cut in (("q50_error", 0.5), ("q99_error", 0.99)):
        said = _quantile(cut, _buckets("r2_probe_duration_seconds", before, after))
        found[name] = (said - true[round(cut * 100) - 1]) * 1e3
    lateness = _buckets("r2_exporter_schedule_lateness_seconds", before, after)
    found["p99_lateness"] = _quantile(0.99, lateness) * 1e3
    return found


def _address(lines: Any) -> str:
    for line in lines:
        text = line()
        if found := re.search(r"msg=listening .*url=(\S+)", text):
            return found[1]
    raise SystemExit("the exporter did not start")


def _page(address: str) -> str:
    with urlopen(Request(f"{address}/metrics")) as answer:
        return answer.read().decode()


def _load(address: str, stop: threading.Event) -> None:
    """A scrape a second, as Prometheus does it, and a question to the API before and after each."""
    while not stop.is_set():
        for path in ("/api/health", "/metrics", "/api/health/history?limit=100"):
            asked = Request(address + path, headers={"Accept-Encoding": "gzip"} if path == "/metrics" else {})
            with urlopen(asked) as answer:
                answer.read()
            stop.wait(1 / 3)


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


def boto3_in_threads(url: str, rate: int, seconds: float) -> dict[str, Any]:
    import boto3
    from botocore.config import Config

    config = Config(
        max_pool_connections=THREADS, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
    )
    session = boto3.Session("AKIDEXAMPLE", "secret", region_name="us-east-1")
    client = session.client("s3", endpoint_url=url, config=config)
    pairs: list[Pair] = []

    def ask(number: int) -> None:
        began = time.perf_counter()
        answer = client.list_objects_v2(Bucket="bucket", Prefix=str(number), MaxKeys=2)
        said = time.perf_counter() - began
        pairs.append((said, held_seconds(answer["ResponseMetadata"]["RequestId"])))

    with ThreadPoolExecutor(THREADS) as pool:
        began = time.perf_counter()
        for number in range(round(rate * (WARM_UP + seconds))):
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
            pool.submit(ask, number)
    return errors(pairs[round(rate * WARM_UP) :])


async def aiobotocore(url: str, rate: int, seconds: float) -> dict[str, Any]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(
        max_pool_connections=THREADS, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
    )
    keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    pairs: list[Pair] = []
    async with get_session().create_client("s3", endpoint_url=url, config=config, **keys) as client:

        async def ask(number: int) -> None:
            began = time.perf_counter()
            answer = await client.list_objects_v2(Bucket="bucket", Prefix=str(number), MaxKeys=2)
            said = time.perf_counter() - began
            pairs.append((said, held_seconds(answer["ResponseMetadata"]["RequestId"])))

        async with asyncio.TaskGroup() as tasks:
            began = time.perf_counter()
            for number in range(round(rate * (WARM_UP + seconds))):
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                tasks.create_task(ask(number))
    return errors(pairs[round(rate * WARM_UP) :])


def side(name: str, url: str, rate: int, seconds: float) -> dict[str, Any]:
    measured: dict[str, Callable[[], dict[str, Any]]] = {
        SIDES[0]: lambda: exporter(url, rate, seconds),
        SIDES[1]: lambda: boto3_in_threads(url, rate, seconds),
        SIDES[2]: lambda: asyncio.run(aiobotocore(url, rate, seconds)),
    }
    return measured[name]()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how true the reported durations are.")
    parser.add_argument("--rates", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--delays", nargs="+", choices=DELAYS[1:], default=DELAYS[1:])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "URL", "RATE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        name, url, rate = options.side
        print(json.dumps(side(name, url, int(rate), options.seconds)))
        return
    heads = ("p50 err", "p99 err", "q50 err", "q99 err", "late p99")
    print(
        f"{'delay':<13}{'ops/s':>6}  {'side':<18}{'ops':>7}"
        + "".join(f"{head:>9}" for head in heads)
        + "  ms"
    )
    rows = []
    for delay in options.delays:
        for rate in options.rates:
            for name in options.sides:
                with storage(delay) as server:
                    command = [interpreter(name), "-m", "bench.truth", "--seconds", str(options.seconds)]
                    command += ["--side", name, server.url, str(rate)]
                    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                row = Row(name, delay, rate, **json.loads(done.stdout))
                rows.append(asdict(row))
                figures = (row.p50_error, row.p99_error, row.q50_error, row.q99_error, row.p99_lateness)
                shown = "".join(f"{'-' if figure is None else f'{figure:.2f}':>9}" for figure in figures)
                print(f"{delay:<13}{rate:>6}  {name:<18}{row.operations:>7}{shown}", flush=True)
    print("\ngoals: error under 0.3 ms at p50 and 2 ms at p99, lateness under 20 ms at p99")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
