"""Thirty quiet days: how often each alert fires, and how often somebody is woken up for nothing.

    python -m bench.quiet [--days 30] [--seed 1] [--step 30] [--jobs 2] [--json FILE]

A target is probed every 30 s, by the exporter's own breaker and metrics on a clock of their own, and scraped
every 15 s. One operation in 1000 fails at random, durations follow a daily wave whose p99 comes up to 1.5 s,
every day the network is gone for 10 s, from the beginning of a run on, and the exporter restarts with its
counters at 0. promtool evaluates rules/ over three days at a time, begun 6 hours before for the windows that
look back so long; longer windows hold what there is. The exporter's own alert state hears of the same
outcomes: the column `local` counts what it raised. The goal is no page.
"""

import argparse
import json
import math
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from exporter.alerts import ALERT_NAMES, Kind
from exporter.config import TargetSettings
from exporter.outcome import Operation, Reason
from tests.rules.promtool import PAGES, Firing, firing
from tests.rules.simulated import RULES, SCRAPE_SECONDS, Samples, Simulated

DAY = 86_400.0
PART = 3
"""Days that promtool gets at a time: its queries may read 10,000 samples of a series."""
LEAD = 6 * 3600.0
BLIP_SECONDS = 10.0
ERROR_RATE = 0.001
PEAK_P99 = 1.5
"""Seconds, at the hour of the day when it is slowest; at night it is a fifth."""
SPREAD = 0.8
"""Sigma of the logarithm of durations."""
P99_SIGMAS = 2.326


@dataclass(frozen=True)
class Row:
    """How often an alert fired, and for how many seconds in all; `local` is the exporter's own."""

    alert: str
    severity: str
    firings: int
    pages: int
    seconds: float
    local: int


class QuietStorage:
    """A storage that works, as far as anything does: how each operation ends, and how long it takes."""

    def __init__(self, rng: random.Random, days: int) -> None:
        self._rng = rng
        self._blips = [day * DAY + rng.uniform(0, DAY - 600) for day in range(days)]
        self._gone_until = -math.inf
        self._failure: tuple[Reason, float] = (Reason.CONNECT, 0.01)

    def __call__(self, _operation: Operation, now: float) -> tuple[Reason | None, float]:
        if self._blips and now >= self._blips[0]:
            self._blips.pop(0)
            self._gone_until = now + BLIP_SECONDS
            self._failure = self._rng.choice([(Reason.CONNECT, 0.01), (Reason.TIMEOUT, 5.0)])
        if now < self._gone_until:
            return self._failure
        wave = 0.6 - 0.4 * math.cos(2 * math.pi * now / DAY)  # 0.2 at midnight, 1 at noon
        duration = PEAK_P99 * wave * math.exp(SPREAD * (self._rng.gauss(0, 1) - P99_SIGMAS))
        if duration >= 5:
            return Reason.TIMEOUT, 5.0
        return (Reason.SERVER if self._rng.random() < ERROR_RATE else None), duration


def simulated(days: int, rng: random.Random) -> Simulated:
    settings = TargetSettings.model_validate(
        {"name": "media", "endpoint": "https://s3.example.org", "bucket": "media"}
    )
    site = Simulated(settings, QuietStorage(rng, days), phase=rng.uniform(0, settings.probe.interval))
    for day in range(days):
        site.run(day * DAY + rng.uniform(0, DAY - 120))
        site.restart(rng.uniform(5, 40))
        site.run((day + 1) * DAY)
    return site


def of_part(scrapes: Sequence[Samples | None], first_day: int, step: int) -> list[Firing]:
    """What began to fire within PART days from the first one's midnight on."""
    began = max(0.0, first_day * DAY - LEAD)
    part = scrapes[int(began / SCRAPE_SECONDS) : int((first_day + PART) * DAY / SCRAPE_SECONDS)]
    folder = Path(tempfile.mkdtemp(prefix="bench-quiet-"))
    try:
        found = firing(folder, part, step, began)
    finally:
        shutil.rmtree(folder)
    return [each for each in found if each.since >= first_day * DAY]


def rows(found: Sequence[Firing], site: Simulated) -> Iterator[Row]:
    local = Counter(ALERT_NAMES[change.alert.type] for _, change in site.local if change.kind is Kind.RAISED)
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            if (name := rule.get("alert")) is None:
                continue
            severity = rule["labels"]["severity"]
            mine = [each for each in found if each.name == name]
            yield Row(
                alert=name,
                severity=severity,
                firings=len(mine),
                pages=len(mine) if severity in PAGES else 0,
                seconds=sum(each.until - each.since for each in mine),
                local=local[name],
            )


def said(found: Sequence[Firing]) -> str:
    counted = Counter(each.name for each in found)
    return ", ".join(f"{number} x {name}" for name, number in counted.items()) or "nothing"


def measure(days: int, seed: int, step: int, jobs: int, tell: Callable[[str], None]) -> list[Row]:
    began = time.monotonic()
    site = simulated(days, random.Random(seed))
    tell(f"{days} days simulated in {time.monotonic() - began:.0f} s, seed {seed}")
    found: list[Firing] = []
    with ThreadPoolExecutor(jobs) as pool:
        parts = range(0, days, PART)
        work = pool.map(lambda day: of_part(site.scrapes, day, step), parts)
        for first, one in zip(parts, work, strict=True):
            found += one
            tell(f"from day {first}, after {time.monotonic() - began:.0f} s: {said(one)}")
    return list(rows(found, site))


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate quiet days, and count what fires all the same.")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=int, default=30, help="seconds between two evaluations, 30 at least")
    parser.add_argument("--jobs", type=int, default=2, help="days that promtool works on at the same time")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    measured = measure(
        arguments.days, arguments.seed, arguments.step, arguments.jobs, lambda line: print(line, flush=True)
    )
    print(f"{'alert':<26}{'severity':<10}{'firings':>8}{'pages':>7}{'seconds':>9}{'local':>7}")
    for row in measured:
        print(
            f"{row.alert:<26}{row.severity:<10}{row.firings:>8}{row.pages:>7}{row.seconds:>9.0f}{row.local:>7}"
        )
    print(f"pages: {sum(row.pages for row in measured)} (goal 0)")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in measured], indent=2) + "\n")


if __name__ == "__main__":
    main()
