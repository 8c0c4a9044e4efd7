"""What the exporter takes at ten, a hundred, a thousand and ten thousand targets.

    python -m bench.scale [--targets 10 100 1000 10000] [--interval 30] [--seconds 60] [--profile]

Each target has five operations every `interval`. The exporter runs as users run it, with its history,
and is scraped every 15 s with gzip as Prometheus does. Figures are of a window after a first interval:
the start until the first whole page of metrics; CPU by the kernel, of the exporter alone, in hundredths
of a core and per operation; operations per second, those due, and turns that were skipped; the largest
lateness of a run and delay of the event loop; memory at the end and its peak, and what each target
beyond the first row's takes; the time of a scrape, and its page before gzip. `--profile` samples the
window with py-spy, and prints what it was spent on; `--json FILE` writes the rows.
"""

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from bench.processes import cpu_seconds, memory_bytes
from bench.storage import storage

OPERATIONS = 5
SCRAPE_SECONDS = 15.0


@dataclass(frozen=True)
class Row:
    """One number of targets."""

    targets: int
    start_seconds: float
    cpu_percent: float
    cpu_microseconds: float
    operations_per_second: float
    due_per_second: float
    skipped: int
    lateness_milliseconds: float
    lag_milliseconds: float
    memory_megabytes: float
    peak_megabytes: float
    scrape_milliseconds: float
    page_megabytes: float
    kilobytes_per_target: float = 0.0


def measure(targets: int, interval: float, seconds: float, url: str, profile: Path | None) -> Row:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "exporter.yaml"
        config.write_text(_config(targets, interval, url))
        command = [sys.executable, "-m", "exporter", "serve", f"--config.file={config}"]
        command += [f"--storage.path={folder / 'history.db'}", "--web.listen-address=127.0.0.1:0"]
        began = time.perf_counter()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            address = _address(process)
            draining = threading.Thread(target=process.stderr.read)
            draining.start()
            page, _ = scrape(address)
            start = time.perf_counter() - began
            if page.count("\nr2_target_info{") != targets:
                raise SystemExit("the first page does not have every target")
            time.sleep(interval)
            row = _window(process.pid, address, targets, interval, seconds, start, profile)
            process.send_signal(signal.SIGTERM)
            process.wait()
            draining.join()
    return row


def _config(targets: int, interval: float, url: str) -> str:
    head = f"probe: {{interval: {interval:g}s, operations: [put, get, head, list, delete]}}\ntargets:\n"
    return head + "".join(
        f"  - {{name: target-{number:05d}, endpoint: '{url}', bucket: bucket-{number}, "
        f"access_key_id: AKIDEXAMPLE, secret_access_key: secret}}\n"
        for number in range(targets)
    )


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"msg=listening .*url=(\S+)", line):
            return found[1]
    raise SystemExit("the exporter did not start")


def _window(
    pid: int, address: str, targets: int, interval: float, seconds: float, start: float, profile: Path | None
) -> Row:
    before, cpu, began = scrape(address)[0], cpu_seconds(pid), time.perf_counter()
    profiler = _profiler(pid, seconds, profile) if profile else None
    took, lags, latenesses = [], [], []
    while time.perf_counter() - began < seconds:
        time.sleep(SCRAPE_SECONDS)
        page, scraped = scrape(address)
        took.append(scraped)
        lags.append(_sum(page, "r2_exporter_event_loop_lag_seconds"))
        latenesses.append(_sum(page, "r2_exporter_schedule_lateness_max_seconds"))
    elapsed, used = time.perf_counter() - began, cpu_seconds(pid) - cpu
    if profiler is not None:
        profiler.wait()
    # Of what stands at a page's end: that of ten thousand targets takes seconds, and probes go on meanwhile.
    done = _results(page) - _results(before)
    return Row(
        targets=targets,
        start_seconds=start,
        cpu_percent=used / elapsed * 100,
        cpu_microseconds=used / done * 1e6,
        operations_per_second=done / elapsed,
        due_per_second=targets * OPERATIONS / interval,
        skipped=round(_sum(page, "r2_probes_skipped_total") - _sum(before, "r2_probes_skipped_total")),
        lateness_milliseconds=max(latenesses) * 1e3,
        lag_milliseconds=max(lags) * 1e3,
        memory_megabytes=memory_bytes(pid) / 1e6,
        peak_megabytes=memory_bytes(pid, "VmHWM") / 1e6,
        scrape_milliseconds=max(took) * 1e3,
        page_megabytes=len(page) / 1e6,
    )


def scrape(address: str) -> tuple[str, float]:
    """The page as Prometheus asks for it, and the seconds until its last byte."""
    asked = Request(
        f"{address}/metrics",
        headers={"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"},
    )
    began = time.perf_counter()
    for _ in range(100):
        try:
            with urlopen(asked) as answer:
                packed = answer.read()
        except URLError:
            time.sleep(0.01)
        else:
            return zlib.decompress(packed, wbits=31).decode(), time.perf_counter() - began
    raise SystemExit("nobody answers")


def _sum(page: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)", page, re.MULTILINE))


def _results(page: str) -> float:
    return _sum(page, "r2_exporter_history_written_total") + _sum(page, "r2_exporter_history_queue_length")


def _profiler(pid: int, seconds: float, output: Path) -> "subprocess.Popen[bytes]":
    binary = Path(sys.executable).with_name("py-spy")
    found = str(binary) if binary.exists() else shutil.which("py-spy")
    if found is None:
        raise SystemExit("py-spy is missing: `make bench` installs it")
    command = [found, "record", "--pid", str(pid), "--duration", str(round(seconds)), "--rate", "200"]
    return subprocess.Popen(
        [*command, "--format", "raw", "--output", output],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def costs(profile: Path) -> list[tuple[str, float]]:
    """The shares of samples by the outermost function of ours that names a job, largest first."""
    shares: Counter[str] = Counter()
    for line in profile.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        shares[_job(stack)] += int(count)
    whole = sum(shares.values())
    return [(job, count / whole) for job, count in shares.most_common()]


JOBS = {
    "signing": r"signed_headers \(",
    "sending and receiving": r"_ask \(|_exchange \(|data_received \(|Client.send \(|connect \(",
    "metrics, one result": r"Metrics\.record \(|metrics.py",
    "breaker and alerts": r"Recorder\.standing \(|alerting.py|admission.py|breaker.py",
    "history": r"exporter/history/",
    "scrapes": r"exporter/web/",
    "checking answers": r"verify.py|s3/xml.py",
    "the rest of a run": r"probe.py|storage.py|app.py|on_demand.py|runner.py|schedule.py",
}


def _job(stack: str) -> str:
    return next(
        (job for job, pattern in JOBS.items() if re.search(pattern, stack)), "event loop and the rest"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what targets cost.")
    parser.add_argument("--targets", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--interval", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    print("".join(f"{head:>10}" for head in HEADS))
    rows: list[Row] = []
    for targets in options.targets:
        with storage() as server, tempfile.TemporaryDirectory() as folder:
            profile = Path(folder) / "profile" if options.profile else None
            row = measure(targets, options.interval, options.seconds, server.url, profile)
            first = rows[0] if rows else row
            more = max(1, targets - first.targets)
            each = (row.memory_megabytes - first.memory_megabytes) * 1e3 / more
            rows.append(Row(**{**asdict(row), "kilobytes_per_target": each}))
            _print(rows[-1])
            for job, share in costs(profile) if profile else ():
                print(f"    {share:6.1%}  {job}")
    print(
        "\ngoals: start under 1 s at 1000; under 60 MB at 10, 40 KB for each further; µs/op flat or falling"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


HEADS = (
    *("targets", "start s", "CPU %", "µs/op", "ops/s", "due/s", "skipped"),
    *("late ms", "lag ms", "RSS MB", "peak MB", "KB/target", "scrape ms", "page MB"),
)


def _print(row: Row) -> None:
    figures = (
        f"{row.targets}",
        f"{row.start_seconds:.2f}",
        f"{row.cpu_percent:.1f}",
        f"{row.cpu_microseconds:.0f}",
        f"{row.operations_per_second:.1f}",
        f"{row.due_per_second:.1f}",
        f"{row.skipped}",
        f"{row.lateness_milliseconds:.1f}",
        f"{row.lag_milliseconds:.1f}",
        f"{row.memory_megabytes:.1f}",
        f"{row.peak_megabytes:.1f}",
        f"{row.kilobytes_per_target:.1f}",
        f"{row.scrape_milliseconds:.0f}",
        f"{row.page_megabytes:.2f}",
    )
    print("".join(f"{figure:>10}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
