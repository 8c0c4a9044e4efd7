"""What the exporter takes at ten, a hundred, a thousand and ten thousand targets.

    python -m bench.scale [--targets 10 100 1000 10000] [--interval 30] [--seconds 60] [--profile]

Each target has five operations every `interval`. The exporter runs as users run it, with its history,
and is scraped every 15 s with gzip as Prometheus does. Start is the time from its exec to the end of the
first page that has every target. The rest is of a window after a first interval: CPU by the kernel, of
the exporter alone; operations done and those due; those that failed, and those left out because the run
before had not ended; the largest lateness of a run and delay of the event loop, of the last minute
before a scrape; memory at the end, the part of it that is no file's, and its peak; what each target
beyond the first row's takes; the longest scrape, and its page before and after gzip. `--profile` samples
the window with py-spy and prints what it was spent on, which slows the exporter down. `--json FILE`
writes the rows. bench/README.md tells how to read each column.
"""

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from urllib.request import Request, urlopen

from bench.processes import cpu_seconds, memory_bytes
from bench.profiles import Profile, profiled, show
from bench.storage import storage

OPERATIONS = 5
SCRAPE_SECONDS = 15.0
LOOK_BACK = 60.0
"""Seconds that the exporter's largest delay and lateness look back."""
PATIENCE = 120.0


@dataclass(frozen=True)
class Row:
    """One number of targets. The columns are in this order."""

    targets: int
    start_seconds: float
    cpu_cores: float
    cpu_microseconds: float
    operations_per_second: float
    due_per_second: float
    failed: int
    overrun: int
    lateness_milliseconds: float
    lag_milliseconds: float
    memory_megabytes: float
    own_megabytes: float
    peak_megabytes: float
    kilobytes_per_target: float | None
    scrape_milliseconds: float
    page_megabytes: float
    gzip_megabytes: float


COLUMNS = {
    "targets": "d",
    "start s": ".2f",
    "cores": ".3f",
    "µs/op": ".0f",
    "ops/s": ".1f",
    "due/s": ".1f",
    "failed": "d",
    "overrun": "d",
    "late ms": ".1f",
    "lag ms": ".1f",
    "RSS MB": ".1f",
    "anon MB": ".1f",
    "peak MB": ".1f",
    "KB/target": ".1f",
    "scrape ms": ".0f",
    "page MB": ".2f",
    "gzip MB": ".3f",
}


# --- the exporter, and what it says ---


@contextmanager
def exporter(
    python: str, targets: int, interval: float, url: str, cache: Path
) -> Iterator[tuple[float, str, int]]:
    """When it was begun, its address and its process. Its bytecode is ready in `cache`, as once installed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "exporter.yaml"
        config.write_text(_config(targets, interval, url))
        command = [python, "-m", "exporter", "serve", f"--config.file={config}"]
        command += [f"--storage.path={folder / 'history.db'}", "--web.listen-address=127.0.0.1:0"]
        began = time.perf_counter()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=compiled(cache)) as process:
            assert process.stderr is not None
            address = _address(process)
            draining = threading.Thread(target=process.stderr.read)
            draining.start()
            try:
                yield began, address, process.pid
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(PATIENCE)
                finally:
                    process.kill()
                    draining.join()


def compiled(cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(cache)}


def _config(targets: int, interval: float, url: str) -> str:
    head = f"probe: {{interval: {interval:g}s, operations: [put, get, head, list, delete]}}\ntargets:\n"
    return head + "".join(
        f"  - {{name: target-{number:05d}, endpoint: '{url}', bucket: bucket-{number}, "
        f"access_key_id: AKIDEXAMPLE, secret_access_key: secret}}\n"
        for number in range(targets)
    )


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"msg=listening .*url=(\S+)", line):
            return found[1]
    raise SystemExit(f"the exporter did not start:\n{''.join(said)}")


@dataclass(frozen=True)
class Scrape:
    """What one says, without its text: that of ten thousand targets is large."""

    at: float
    """When its last byte came; `cpu` is the exporter's until then."""
    cpu: float
    seconds: float
    page_bytes: int
    gzip_bytes: int
    targets: int
    done: float
    """By the history's figures: they stand at the end of a page, which may take seconds to make."""
    failed: float
    overrun: float
    lag: float
    lateness: float


def scrape(address: str, pid: int) -> Scrape:
    """Asks for the page as Prometheus does."""
    asked = Request(
        f"{address}/metrics",
        headers={"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"},
    )
    began = time.perf_counter()
    with urlopen(asked, timeout=PATIENCE) as answer:
        packed = answer.read()
    at, cpu = time.perf_counter(), cpu_seconds(pid)
    page = zlib.decompress(packed, wbits=31)
    return Scrape(
        at,
        cpu,
        at - began,
        len(page),
        len(packed),
        targets=page.count(b"\nr2_target_info{"),
        done=_sum(page, "r2_exporter_history_written_total")
        + _sum(page, "r2_exporter_history_queue_length")
        + _sum(page, "r2_exporter_history_dropped_total"),
        failed=_sum(page, "r2_probes_total", 'result="failure"'),
        overrun=_sum(page, "r2_probes_skipped_total", 'reason="overrun"'),
        lag=_sum(page, "r2_exporter_event_loop_lag_seconds"),
        lateness=_sum(page, "r2_exporter_schedule_lateness_max_seconds"),
    )


def _sum(page: bytes, family: str, label: str = "") -> float:
    """Of a family's samples, or of those with this label; NaN as long as the page has none."""
    _, found, rest = page.partition(f"\n# TYPE {family.removesuffix('_total')} ".encode())
    if not found:
        return math.nan
    samples = rest.partition(b"\n# ")[0].decode().splitlines()[1:]
    return sum(float(line.rpartition("} ")[2].removeprefix(family)) for line in samples if label in line)


def scrapes(address: str, pid: int, seconds: float) -> Iterator[Scrape]:
    """At Prometheus' pace for so long; the first comes after a pause, the last not before the end."""
    began, number = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        number += 1
        time.sleep(max(0.0, began + min(number * SCRAPE_SECONDS, seconds) - time.perf_counter()))
        yield scrape(address, pid)


# --- one number of targets ---


def measure(targets: int, url: str, options: argparse.Namespace, cache: Path) -> tuple[Row, Profile]:
    with exporter(options.python, targets, options.interval, url, cache) as (began, address, pid):
        while (first := scrape(address, pid)).targets < targets:
            if first.at - began > PATIENCE:
                raise SystemExit("the page never had every target")
        *_, before = scrapes(address, pid, options.interval)
        with profiled(pid, options.seconds if options.profile else 0.0) as profile:
            window = list(scrapes(address, pid, options.seconds))
        memory = {name: memory_bytes(pid, name) / 1e6 for name in ("VmRSS", "RssAnon", "VmHWM")}
    return _row(targets, first.at - began, options.interval, before, window, memory), profile


def _row(
    targets: int,
    start: float,
    interval: float,
    before: Scrape,
    window: Sequence[Scrape],
    memory: Mapping[str, float],
) -> Row:
    last = window[-1]
    elapsed, done = last.at - before.at, last.done - before.done
    if not done:
        raise SystemExit("no operation was done: is the window shorter than the interval?")
    # The sooner ones look back to the start as well, unless all do.
    aged = [each for each in window if each.at - before.at >= LOOK_BACK] or [last]
    return Row(
        targets=targets,
        start_seconds=start,
        cpu_cores=(last.cpu - before.cpu) / elapsed,
        cpu_microseconds=(last.cpu - before.cpu) / done * 1e6,
        operations_per_second=done / elapsed,
        due_per_second=targets * OPERATIONS / interval,
        failed=round(last.failed - before.failed),
        overrun=round(last.overrun - before.overrun),
        lateness_milliseconds=max(each.lateness for each in aged) * 1e3,
        lag_milliseconds=max(each.lag for each in aged) * 1e3,
        memory_megabytes=memory["VmRSS"],
        own_megabytes=memory["RssAnon"],
        peak_megabytes=memory["VmHWM"],
        kilobytes_per_target=None,
        scrape_milliseconds=max(each.seconds for each in window) * 1e3,
        page_megabytes=last.page_bytes / 1e6,
        gzip_megabytes=last.gzip_bytes / 1e6,
    )


# --- all of them ---


def goals(rows: Sequence[Row]) -> Iterator[tuple[str, bool]]:
    """Those that these rows can tell of, and whether they are reached."""
    for row in rows:
        if row.targets == 10:
            yield f"{row.memory_megabytes:.0f} MB at 10 targets, under 60", row.memory_megabytes < 60
        if row.targets == 1000:
            yield f"start in {row.start_seconds:.2f} s at 1000, under 1", row.start_seconds < 1
        if row.kilobytes_per_target is not None:
            each = row.kilobytes_per_target
            yield f"{each:.0f} KB for each further one at {row.targets}, under 40", each < 40
    costs = [row.cpu_microseconds for row in rows]
    shown = ", ".join(f"{cost:.0f}" for cost in costs)
    yield f"{shown} µs/op, flat or falling", all(b <= a * 1.1 for a, b in pairwise(costs))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what targets cost.")
    parser.add_argument("--targets", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--interval", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="the window, after a first interval")
    parser.add_argument("--python", default=sys.executable, help="whose packages the exporter runs with")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    print("".join(f"{head:>10}" for head in COLUMNS))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as cache:
        compiling = [options.python, "-c", "import exporter.cli, exporter.serve"]
        subprocess.run(compiling, env=compiled(Path(cache)), check=True)
        for targets in options.targets:
            with storage() as server:
                row, profile = measure(targets, server.url, options, Path(cache))
            if rows and targets > rows[0].targets:
                more = (row.memory_megabytes - rows[0].memory_megabytes) * 1e3
                row = replace(row, kilobytes_per_target=more / (targets - rows[0].targets))
            rows.append(row)
            print(_line(row), flush=True)
            if profile:
                show(profile)
    print("\ngoals")
    for goal, reached in goals(rows):
        print(f"  {'reached' if reached else 'MISSED '}  {goal}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def _line(row: Row) -> str:
    figures = [getattr(row, field.name) for field in fields(row)]
    formats = zip(figures, COLUMNS.values(), strict=True)
    return "".join(f"{'-' if each is None else format(each, spec):>10}" for each, spec in formats)


if __name__ == "__main__":
    main()
