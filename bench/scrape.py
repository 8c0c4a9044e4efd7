"""What a scrape costs here and with prometheus_client, on the same series in the same run.

    python -m bench.scrape [--targets 100 1000] [--rounds 7] [--alone] [--json FILE]

Times are medians over the rounds, each after every target was probed once more. The stretch is the
longest time between two chunks of a scrape, during which the event loop waits; prometheus_client has no
chunks, so there it is the whole scrape. Each target has its series at their most, with all phases of
five operations. At ten thousand targets prometheus_client takes minutes and some 5 GB to hold them:
`--alone` measures ours without it. bench/serving.py compares with a Go client, gzip and sending included.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics import Metrics
from exporter.outcome import BillingClass, Failure, Operation, Outcome, Phase, Reason
from exporter.series import Format
from exporter.serve import keep_the_loop_free

BASELINE = "prometheus_client"
OURS = "r2-exporter"
START = 1_700_000_000.0
RUNS = 40
RUNS_OF_ALL = 100_000
"""Runs of all targets together, so that many targets are not probed for minutes before the first scrape."""


@dataclass(frozen=True)
class Row:
    """One side's scrapes in one format."""

    targets: int
    format: str
    side: str
    lines: int
    milliseconds: float
    microseconds_per_line: float
    longest_stretch_milliseconds: float
    times_faster: float | None
    """None where prometheus_client was not measured."""


def outcomes(target: str, fresh: bool, chance: random.Random) -> Iterator[Outcome]:
    """One run of a target: latencies as of object storage, one failure in fifty."""
    for operation in Operation:
        phases = [Phase.PROCESSING, Phase.TRANSFER] if not fresh else list(Phase)
        seconds = {phase: chance.lognormvariate(-4, 1) for phase in phases}
        failed = chance.random() < 0.02
        yield Outcome(
            target,
            operation,
            START + chance.random(),
            sum(seconds.values()),
            seconds,
            status=200,
            request_id=f"{chance.getrandbits(64):016x}-AMS",
            failure=Failure(chance.choice(list(Reason)), "") if failed else None,
            billed=BillingClass.A,
            certificate_expiry=START + 1e7,
            clock_skew=0.0,
        )


def exporter(targets: int, chance: random.Random) -> Metrics:
    """Our series at their most, after some runs of every target, the first with all phases."""
    metrics = Metrics()
    for name in names(targets):
        metrics.set_target(
            name,
            tuple(Operation),
            labels={"team": "web"},
            bucket="media",
            endpoint="https://0123456789abcdef.r2.cloudflarestorage.com",
            region="auto",
            thresholds={"error_rate": 0.2, "slow_response_seconds": 2.0, "failure_threshold": 3.0},
        )
        metrics.target_up(name, up=True)
    for number in range(min(RUNS, RUNS_OF_ALL // targets)):
        probe_all(metrics, targets, number == 0, chance)
    return metrics


def names(targets: int) -> list[str]:
    return [f"target-{number:04d}" for number in range(targets)]


def probe_all(metrics: Metrics, targets: int, fresh: bool, chance: random.Random) -> None:
    for name in names(targets):
        for outcome in outcomes(name, fresh, chance):
            metrics.record(outcome)


def mirror(page: str) -> CollectorRegistry:
    """prometheus_client's own metrics, holding every r2_ series of our page."""
    registry = CollectorRegistry()
    for family in text_string_to_metric_families(page):
        if family.name.startswith("r2_"):
            copy_family(family, registry)
    return registry


def copy_family(family: Metric, registry: CollectorRegistry) -> None:
    labels = sorted({name for sample in family.samples for name in sample.labels} - {"le"})
    parent: Any
    if family.type == "histogram":
        edges = sorted({float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels})
        parent = prometheus_client.Histogram(family.name, "Help.", labels, buckets=edges, registry=registry)
    else:
        kind = prometheus_client.Counter if family.type == "counter" else prometheus_client.Gauge
        parent = kind(family.name, "Help.", labels, registry=registry)
    for sample in family.samples:
        series = parent.labels(*[sample.labels[name] for name in labels]) if labels else parent
        if sample.name.endswith("_count"):
            series.observe(0.04, {"request_id": "0123456789abcdef-AMS"})
        elif family.type == "counter":
            series.inc(sample.value)
        elif family.type == "gauge":
            series.set(sample.value)


def series_lines(page: bytes) -> set[str]:
    """The names and labels of a page, to see that both sides hold the same."""
    lines = page.decode().splitlines()
    return {line.rsplit(" ", 1)[0] for line in lines if line.startswith("r2_")}


def timed_chunks(chunks: Iterator[bytes]) -> tuple[float, float]:
    """Seconds it took to read all chunks, and the longest wait for one."""
    stretches = []
    chunk: bytes | None = b""
    while chunk is not None:
        started = time.perf_counter()
        chunk = next(chunks, None)
        stretches.append(time.perf_counter() - started)
    return sum(stretches), max(stretches)


def timed_page(
    encode: Callable[[CollectorRegistry], bytes], registry: CollectorRegistry
) -> tuple[float, float]:
    started = time.perf_counter()
    encode(registry)
    seconds = time.perf_counter() - started
    return seconds, seconds


def measure(targets: int, rounds: int, alone: bool) -> Iterator[Row]:
    chance = random.Random(1)
    metrics = exporter(targets, chance)
    page = b"".join(metrics.registry.render(Format.TEXT))
    theirs = None if alone else mirror(page.decode())
    if theirs and series_lines(page) != series_lines(prometheus_client.generate_latest(theirs)):
        raise SystemExit("the two sides do not hold the same series")
    lines = page.count(b"\n")
    del page
    keep_the_loop_free()  # as the exporter does once it has started; it spares both sides
    for fmt in Format:
        encode, _ = choose_encoder(fmt)
        measured: dict[str, list[tuple[float, float]]] = {BASELINE: [], OURS: []}
        for _ in range(rounds):
            if theirs:
                measured[BASELINE].append(timed_page(encode, theirs))
            probe_all(metrics, targets, False, chance)
            measured[OURS].append(timed_chunks(metrics.registry.render(fmt)))
        yield from rows(targets, fmt, lines, measured)


def rows(
    targets: int, fmt: Format, lines: int, measured: Mapping[str, Sequence[tuple[float, float]]]
) -> Iterator[Row]:
    totals = {
        side: statistics.median(total for total, _ in times) for side, times in measured.items() if times
    }
    for side, total in totals.items():
        stretch = statistics.median(longest for _, longest in measured[side])
        yield Row(
            targets=targets,
            format=fmt.name.lower(),
            side=side,
            lines=lines,
            milliseconds=total * 1e3,
            microseconds_per_line=total / lines * 1e6,
            longest_stretch_milliseconds=stretch * 1e3,
            times_faster=totals[BASELINE] / total if BASELINE in totals else None,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a scrape costs.")
    parser.add_argument("--targets", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--alone", action="store_true", help="without prometheus_client")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    without_created: Callable[[], None] = prometheus_client.disable_created_metrics  # not annotated there
    without_created()
    print(
        f"{'targets':>7}  {'format':<11}  {'side':<19}{'lines':>8}{'ms':>9}"
        f"{'µs/line':>9}{'stretch ms':>12}{'x faster':>10}"
    )
    measured = []
    for targets in arguments.targets:
        for row in measure(targets, arguments.rounds, arguments.alone):
            measured.append(asdict(row))
            faster = "-" if row.times_faster is None else f"{row.times_faster:.1f}"
            print(
                f"{row.targets:>7}  {row.format:<11}  {row.side:<19}{row.lines:>8}{row.milliseconds:>9.1f}"
                f"{row.microseconds_per_line:>9.3f}{row.longest_stretch_milliseconds:>12.2f}{faster:>10}",
                flush=True,
            )
    print("\ngoals: at least 30 times faster, no stretch over 2 ms")
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
