"""What a signed operation costs here and with others, against the same storage in the same run.

    python -m bench.probe [--operations 4000] [--rounds 3] [--json FILE]

CPU is the client's alone, threads and all, by its process's clock; the storage is another process. Ours
is the whole way of a probe: sign, send, verify, breaker, metrics, alerts, and a row in the history,
which is on the disk when the clock is read. `x ours` is the median of the rounds' ratios.
blackbox_exporter sends a plain GET that nobody signs, and always over a new connection. Kept
connections: put, get, head, list and delete in turn. Fresh connections: list, each over a connection of
its own. Latency is what each side itself reports, with 16 at once, so it holds the wait for a processor
too; bench/truth.py measures it at a set pace.
"""

import argparse
import asyncio
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bench.processes import cpu_seconds
from bench.storage import storage

AT_ONCE = 16
SIDES = ("r2-exporter", "boto3 in threads", "aiobotocore", "blackbox_exporter")
BODY = b"x" * 1024
PEER_KEYS: dict[str, Any] = {
    "aws_access_key_id": "AKIDEXAMPLE",
    "aws_secret_access_key": "secret",
    "region_name": "us-east-1",
}
PEER_CONFIG: dict[str, Any] = {
    "retries": {"total_max_attempts": 1},
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
    "s3": {"addressing_style": "path"},
}
"""As cheap as the peers get: nothing is sent twice, no checksums that nobody asked for."""


@dataclass(frozen=True)
class Row:
    """One side's figures, medians over the rounds; `times_ours` is its CPU by ours of the same round."""

    connections: str
    side: str
    operations_per_second: float
    cpu_microseconds: float
    p50_milliseconds: float
    p99_milliseconds: float
    times_ours: float


def report(side: str, count: int, seconds: float, cpu: float, durations: Sequence[float]) -> dict[str, Any]:
    cuts = statistics.quantiles(durations, n=100, method="inclusive")
    return {
        "side": side,
        "operations_per_second": count / seconds,
        "cpu_microseconds": cpu / count * 1e6,
        "p50_milliseconds": cuts[49] * 1e3,
        "p99_milliseconds": cuts[98] * 1e3,
    }


# --- the sides, each in a process of its own ---


async def ours(url: str, operations: int, *, fresh: bool) -> dict[str, Any]:
    from exporter.app import App
    from exporter.config import load_settings
    from exporter.logs import configure
    from exporter.serve import keep_the_loop_free

    configure("info", "logfmt", sys.stderr)
    chosen = "[list]" if fresh else "[put, get, head, list, delete]"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "exporter.yaml"
        targets = "".join(
            f"  - {{name: t{number}, endpoint: '{url}', bucket: bucket, access_key_id: AKIDEXAMPLE, "
            f"secret_access_key: secret}}\n"
            for number in range(AT_ONCE)
        )
        probe = f"{{interval: 1d, operations: {chosen}, fresh_connection_every: {int(fresh)}}}"
        config.write_text(f"probe: {probe}\ntargets:\n{targets}")
        app = App(partial(load_settings, config, {}), Path(folder) / "history.db")
        await app.start()
        durations: list[float] = []

        async def runs(name: str, count: int) -> None:
            for _ in range(count):
                for outcome, _ in (await app.probe_now(name)).results:
                    if outcome.failure:
                        raise SystemExit(f"an operation failed: {outcome}")
                    durations.append(outcome.duration)

        async def everywhere(count: int) -> None:
            await asyncio.gather(*(runs(f"t{number}", count) for number in range(AT_ONCE)))

        async def cpu_once_written() -> float:
            await app.history.read(lambda _: None)  # sees all that was recorded before
            if (state := app.history.state()).queued or state.dropped:
                raise SystemExit(f"not every result is in the history: {state}")
            return time.process_time()

        each = 1 if fresh else 5
        await everywhere(3)
        keep_the_loop_free()
        durations.clear()
        cpu, began = await cpu_once_written(), time.perf_counter()
        await everywhere(max(1, operations // each // AT_ONCE))
        seconds, used = time.perf_counter() - began, await cpu_once_written() - cpu
        await app.stop()
    return report(SIDES[0], len(durations), seconds, used, durations)


def boto3_in_threads(url: str, operations: int, *, fresh: bool) -> dict[str, Any]:
    import boto3
    from botocore.config import Config

    config = Config(max_pool_connections=AT_ONCE, **PEER_CONFIG)
    client = boto3.Session(**PEER_KEYS).client("s3", endpoint_url=url, config=config)
    if fresh:
        client.meta.events.register("before-sign.s3", _close_after)
    durations: list[float] = []

    def timed(call: Callable[..., Any], **arguments: Any) -> Any:
        began = time.perf_counter()
        answer = call(Bucket="bucket", **arguments)
        content = answer["Body"].read() if "Body" in answer else b""
        durations.append(time.perf_counter() - began)
        return content

    def runs(number: int, count: int) -> None:
        for index in range(count):
            key = f"{number}-{index}"
            if not fresh:
                timed(client.put_object, Key=key, Body=BODY)
                if timed(client.get_object, Key=key) != BODY:
                    raise SystemExit("wrong bytes")
                timed(client.head_object, Key=key)
            timed(client.list_objects_v2, Prefix=key, MaxKeys=2)
            if not fresh:
                timed(client.delete_object, Key=key)

    def everywhere(count: int) -> None:
        list(pool.map(lambda number: runs(number, count), range(AT_ONCE)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        everywhere(3)
        durations.clear()
        began, cpu = time.perf_counter(), time.process_time()
        everywhere(max(1, operations // (1 if fresh else 5) // AT_ONCE))
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
    return report(SIDES[1], len(durations), seconds, used, durations)


def _close_after(request: Any, **_: Any) -> None:
    request.headers["Connection"] = "close"


async def aiobotocore(url: str, operations: int, *, fresh: bool) -> dict[str, Any]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(max_pool_connections=AT_ONCE, **PEER_CONFIG)
    durations: list[float] = []
    async with get_session().create_client("s3", endpoint_url=url, config=config, **PEER_KEYS) as client:
        if fresh:
            client.meta.events.register("before-sign.s3", _close_after)

        async def timed(call: Callable[..., Any], **arguments: Any) -> Any:
            began = time.perf_counter()
            answer = await call(Bucket="bucket", **arguments)
            content = await answer["Body"].read() if "Body" in answer else b""
            durations.append(time.perf_counter() - began)
            return content

        async def runs(number: int, count: int) -> None:
            for index in range(count):
                key = f"{number}-{index}"
                if not fresh:
                    await timed(client.put_object, Key=key, Body=BODY)
                    if await timed(client.get_object, Key=key) != BODY:
                        raise SystemExit("wrong bytes")
                    await timed(client.head_object, Key=key)
                await timed(client.list_objects_v2, Prefix=key, MaxKeys=2)
                if not fresh:
                    await timed(client.delete_object, Key=key)

        async def everywhere(count: int) -> None:
            await asyncio.gather(*(runs(number, count) for number in range(AT_ONCE)))

        await everywhere(3)
        durations.clear()
        began, cpu = time.perf_counter(), time.process_time()
        await everywhere(max(1, operations // (1 if fresh else 5) // AT_ONCE))
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
    return report(SIDES[2], len(durations), seconds, used, durations)


def blackbox(url: str, operations: int) -> dict[str, Any]:
    binary = shutil.which("prometheus-blackbox-exporter")
    if binary is None:
        raise SystemExit("blackbox_exporter is missing: apt-get install prometheus-blackbox-exporter")
    with socket.create_server(("127.0.0.1", 0)) as free:  # it does not tell which it took by itself
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "blackbox.yml"
        config.write_text("modules: {plain: {prober: http, http: {preferred_ip_protocol: ip4}}}\n")
        command = [binary, f"--config.file={config}", f"--web.listen-address={address}", "--log.level=error"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            probe = f"http://{address}/probe?module=plain&target={url}/bucket%3Flist-type%3D2%26prefix%3Dkey"
            try:
                return _drive_blackbox(probe, process.pid, operations)
            finally:
                process.terminate()


def _drive_blackbox(probe: str, pid: int, operations: int) -> dict[str, Any]:
    durations: list[float] = []

    def ask(_: int) -> None:
        with urlopen(probe) as answer:
            page = answer.read().decode()
        figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
        if float(figures["probe_success"]) != 1:
            raise SystemExit("a probe of blackbox_exporter failed")
        durations.append(float(figures["probe_duration_seconds"]))

    for _ in range(100):
        with suppress(OSError):
            ask(0)
            break
        time.sleep(0.1)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ask, range(AT_ONCE * 3)))
        durations.clear()
        began, cpu = time.perf_counter(), cpu_seconds(pid)
        list(pool.map(ask, range(operations)))
        return report(SIDES[3], operations, time.perf_counter() - began, cpu_seconds(pid) - cpu, durations)


def side(name: str, url: str, operations: int, *, fresh: bool) -> dict[str, Any]:
    """Measures one, in this process."""
    import uvloop

    match name:
        case "r2-exporter":
            return uvloop.run(ours(url, operations, fresh=fresh))
        case "aiobotocore":
            return uvloop.run(aiobotocore(url, operations, fresh=fresh))
        case "boto3 in threads":
            return boto3_in_threads(url, operations, fresh=fresh)
    return blackbox(url, operations)


# --- all of them ---


def interpreter(name: str) -> str:
    """aiobotocore has an environment of its own, for it wants an older botocore."""
    if name != "aiobotocore":
        return sys.executable
    python = Path(sys.executable).parents[1].with_name(".venv-peers") / "bin" / "python"
    if not python.exists():
        raise SystemExit("aiobotocore is missing: `make bench` installs it")
    return str(python)


def measure(operations: int, rounds: int, *, fresh: bool) -> list[Row]:
    sides = SIDES if fresh else SIDES[:-1]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    with storage() as server:
        for _ in range(rounds):
            for name in sides:  # side by side, so that what else this machine does meets all of them
                command = [interpreter(name), "-m", "bench.probe", "--side", name, "--url", server.url]
                command += ["--operations", str(operations), *(["--fresh"] if fresh else [])]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found[name].append(json.loads(done.stdout))
    rows = []
    for name, runs in found.items():
        figures = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "side"}
        ratios = [
            its["cpu_microseconds"] / mine["cpu_microseconds"]
            for its, mine in zip(runs, found[SIDES[0]], strict=True)
        ]
        rows.append(Row("fresh" if fresh else "kept", name, **figures, times_ours=statistics.median(ratios)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what an operation costs.")
    parser.add_argument("--operations", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--fresh", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(side(options.side, options.url, options.operations, fresh=options.fresh)))
        return
    print(
        f"{'connections':<12}{'side':<19}{'ops/s':>8}{'CPU µs/op':>11}{'x ours':>8}{'p50 ms':>9}{'p99 ms':>9}"
    )
    measured = []
    for fresh in (False, True):
        for row in measure(options.operations, options.rounds, fresh=fresh):
            measured.append(asdict(row))
            print(
                f"{row.connections:<12}{row.side:<19}{row.operations_per_second:>8.0f}{row.cpu_microseconds:>11.0f}"
                f"{row.times_ours:>8.1f}{row.p50_milliseconds:>9.2f}{row.p99_milliseconds:>9.2f}"
            )
    print("\ngoals: under 200 µs, boto3 at least 8 times ours, blackbox_exporter above ours")
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
