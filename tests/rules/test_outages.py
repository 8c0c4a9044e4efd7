"""R2's two outages of 2025, as series of a simulated exporter: who is told what, when, and how often."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter.outcome import Operation, Reason
from tests.alerting import target
from tests.rules.promtool import PAGES, STEP, Firing, firing
from tests.rules.simulated import Simulated, Storage

MINUTE = 60.0
GROUP_WAIT, GROUP_INTERVAL = 5, 240
BEGAN = 30 * MINUTE
RISE = 5 * MINUTE
AFTER = 15 * MINUTE
WRITES = (Operation.PUT, Operation.DELETE)

INHIBITED = {"R2CircuitBreakerOpen": {"R2HighErrorRate", "R2ErrorBudgetBurnFast"}}
"""What rules/alertmanager.yml does not tell while the other one fires, as far as it would page."""

Chance = Callable[[Operation, float], float]
"""How likely an operation fails, by the seconds since the outage began."""


@dataclass(frozen=True)
class Outage:
    """What failed and why; durations in seconds."""

    chance: Chance
    lasts: float
    residue: float
    reason: Reason
    failure_takes: float


def everything(_operation: Operation, since: float) -> float:
    return 1.0 if since < 59 * MINUTE else 0.008


def writes_and_some_reads(operation: Operation, since: float) -> float:
    """All writes and 35% of reads, after a rise of some minutes."""
    return min(1.0, since / RISE) * (1.0 if operation in WRITES else 0.35)


FEBRUARY = Outage(everything, 59 * MINUTE, 23 * MINUTE, Reason.SERVER, 0.2)
FEBRUARY_HANGING = Outage(everything, 59 * MINUTE, 23 * MINUTE, Reason.TIMEOUT, 5.0)
MARCH = Outage(writes_and_some_reads, 67 * MINUTE, 0, Reason.AUTH, 0.1)


def storage(outage: Outage, rng: random.Random) -> Storage:
    def perform(operation: Operation, now: float) -> tuple[Reason | None, float]:
        since = now - BEGAN
        if 0 <= since < outage.lasts + outage.residue and rng.random() < outage.chance(operation, since):
            return outage.reason, outage.failure_takes
        return None, 0.1

    return perform


def replayed(outage: Outage, seed: int, folder: Path) -> tuple[Simulated, list[Firing]]:
    rng = random.Random(seed)
    site = Simulated(target(), storage(outage, rng), phase=rng.uniform(0, 30))
    site.run(BEGAN + outage.lasts + outage.residue + AFTER)
    return site, firing(folder, site.scrapes)


def notified(found: list[Firing], until: float) -> list[tuple[float, set[str]]]:
    """When the receiver of pages hears what: the alerts that fire, or nothing, for all is over.

    As Alertmanager does it with the waits of rules/alertmanager.yml: a group is told a moment after its first
    alert, and then at each interval, if an alert has come or all of them have gone.
    """
    pages = [each for each in found if each.severity in PAGES]
    said: list[tuple[float, set[str]]] = []
    at, known = None, set[str]()
    for now in range(0, int(until), 5):
        open_for_paging = {each.name for each in pages if each.since <= now < each.until}
        for name, inhibited in INHIBITED.items():
            open_for_paging -= inhibited if name in open_for_paging else set()
        if at is None and open_for_paging:
            at = now + GROUP_WAIT
        if at is not None and now >= at:
            if open_for_paging - known or (known and not open_for_paging):
                said.append((now, open_for_paging))
            known |= open_for_paging
            at = now + GROUP_INTERVAL
            if not open_for_paging:
                at, known = None, set()
    return said


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("outage", [FEBRUARY, FEBRUARY_HANGING], ids=["refused", "hanging"])
def test_when_everything_fails_one_page_comes_soon(outage: Outage, seed: int, tmp_path: Path) -> None:
    site, found = replayed(outage, seed, tmp_path)
    assert site.first_failure is not None
    first = min(each.since for each in found) - site.first_failure
    assert first <= 60, found

    page = next(each for each in found if each.severity in PAGES)
    assert (page.name, page.severity) == ("R2CircuitBreakerOpen", "critical")
    assert page.since - site.first_failure <= 90
    _one_page_and_all_is_over(found, outage)


@pytest.mark.parametrize("seed", [1, 2])
def test_when_writes_and_some_reads_fail_one_page_comes(seed: int, tmp_path: Path) -> None:
    site, found = replayed(MARCH, seed, tmp_path)
    assert site.first_failure is not None
    page = next(each for each in found if each.severity in PAGES)
    assert (page.name, page.severity) == ("R2CircuitBreakerOpen", "critical")
    assert page.since - BEGAN <= RISE + 90
    assert min(each.since for each in found) - BEGAN <= RISE, "somebody hears of it before all writes fail"
    _one_page_and_all_is_over(found, MARCH)


def _one_page_and_all_is_over(found: list[Firing], outage: Outage) -> None:
    """Within five minutes, but for the word that it is over and what a residue adds, which is no page."""
    ended = BEGAN + outage.lasts
    (_, paged), (resolved_at, nothing) = notified(found, ended + outage.residue + AFTER)
    assert (paged, nothing) == ({"R2CircuitBreakerOpen"}, set())
    assert resolved_at - ended <= 5 * MINUTE
    late = [each for each in found if each.until > ended + 5 * MINUTE + STEP]
    allowed = {"R2ServiceRecovered"} | ({"R2ServiceDegraded"} if outage.residue else set())
    assert {each.name for each in late} <= allowed, late
    assert not [each for each in found if each.since > ended and each.severity in PAGES]
    recovered = [each for each in found if each.name == "R2ServiceRecovered"]
    assert recovered
    assert recovered[0].since - ended <= 5 * MINUTE
