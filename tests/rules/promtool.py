"""The rules in a real Prometheus' hands: promtool evaluates them over series, and tells what fires."""

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rules.simulated import RULES, SCRAPE_SECONDS, Samples, series

STEP = 10
"""Seconds between two evaluations: the interval of the group that matters most."""

PAGES = frozenset({"high", "critical"})
_TEST = re.compile(r'expr: "(.*)", time: (\S+),')
_LABELS = re.compile(r'(\w+)="([^"]*)"')
_UNIT = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "d": 86400.0}


@dataclass(frozen=True, order=True)
class Firing:
    """An alert from its first firing evaluation to its last (seconds); `until` is when it was over."""

    since: float
    until: float
    name: str
    severity: str

    def __str__(self) -> str:
        return f"{self.name} ({self.severity}) {self.since:g}-{self.until:g}"


def run(arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=3600, check=False)


def promtool_test(folder: Path, tests: Sequence[Mapping[str, Any]], step: int = STEP) -> str:
    """What `promtool test rules` says of these tests: nothing, or what failed."""
    file = folder / "tests.json"  # which is YAML too
    document = {"rule_files": [str(RULES)], "evaluation_interval": f"{step}s", "tests": tests}
    file.write_text(json.dumps(document))
    done = run(["promtool", "test", "rules", file])
    assert done.returncode in (0, 1)
    assert "err:" not in done.stdout + done.stderr, (done.stdout + done.stderr)[:2000]
    return "" if done.returncode == 0 else done.stdout + done.stderr


def firing(
    folder: Path, scrapes: Sequence[Samples | None], step: int = STEP, began: float = 0.0
) -> list[Firing]:
    """Every alert that fires while an exporter is scraped from `began` on, the first first."""
    times = range(0, int(len(scrapes) * SCRAPE_SECONDS), step)
    expected_nothing = [
        {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{at}s", "exp_samples": []} for at in times
    ]
    said = promtool_test(
        folder,
        [
            {
                "interval": f"{SCRAPE_SECONDS:g}s",
                "input_series": series(scrapes, began),
                "promql_expr_test": expected_nothing,
            }
        ],
        step,
    )
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _, at, samples in found(said):
        for labels in samples:
            seen[labels["alertname"], labels["severity"]].append(began + at)
    return sorted(
        Firing(part[0], part[-1] + step, name, severity)
        for (name, severity), at in seen.items()
        for part in _contiguous(at, step)
    )


def found(said: str) -> Iterable[tuple[str, float, list[dict[str, str]]]]:
    """Of each failed test its expression, its time, and the labels of the samples that were found."""
    parts = _TEST.split(said)[1:]
    for expression, at, rest in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
        got = rest.partition("got:")[2]
        samples = [dict(_LABELS.findall(braced)) for braced in re.findall(r"\{([^{}]*)\}", got)]
        yield expression, _seconds(at), [labels for labels in samples if labels]


def _seconds(text: str) -> float:
    return sum(float(number) * _UNIT[unit] for number, unit in re.findall(r"([\d.]+)(ms|[hmsd])", text))


def _contiguous(times: Sequence[float], step: int) -> Iterable[list[float]]:
    part: list[float] = []
    for at in times:
        if part and at > part[-1] + step:
            yield part
            part = []
        part.append(at)
    yield part
