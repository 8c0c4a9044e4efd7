"""Looks at a running exporter from outside, and holds it to what is always true of it."""

import asyncio
import math
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from exporter.outcome import Operation
from exporter.schedule import stable_fraction
from tests.hostile.effort import times
from tests.running import DEADLINE, Samples, Spawned

SCRAPE_SECONDS = 1.0
"""The longest that /metrics may take, whatever else happens."""
SCRAPE_SECONDS_WHEN_BUSY = 10.0
"""The same beside other tests: less would measure them."""

CLOSED = ("closed", "disabled")
SCRAPE_EVERY = 0.1

QUIET_SECONDS = 0.25
"""Without a turn, so that a page can be told from the one before."""

_GROWS = re.compile(r"r2_.*_(total|count|bucket|sum)$")
_RAISED = re.compile(r'msg="alert raised" .*target=(\S+) type=(\S+)')
COUNTED = ("r2_probes_total", "r2_probes_skipped_total")
Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Page:
    """What /metrics said, and when: no later than `at`, on the clock that the schedule follows too."""

    at: float
    samples: Samples

    def runs(self, target: str, operation: Operation) -> float:
        """The turns of an operation that were counted: as a success, a failure or a skip."""
        return sum(self.samples(name, target=target, operation=operation) for name in COUNTED)


@dataclass
class Watch:
    """Scrapes an exporter of these targets, which all have the same interval (seconds)."""

    exporter: Spawned
    names: list[str]
    interval: float
    session: aiohttp.ClientSession
    pages: int = 0
    slowest: float = 0.0
    stopped: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the process is stopped, and nobody could expect a page."""
    _before: Mapping[Series, float] = field(default_factory=dict)

    async def scrape(self, patience: float = DEADLINE) -> Page:
        """A page: it comes, can be read, and of these targets nothing is less that may only grow."""
        began = time.monotonic()
        async with (
            asyncio.timeout(patience),
            self.session.get(f"{self.exporter.url}/metrics") as answer,
        ):
            text = await answer.text()
            assert answer.status == 200, text
        at = time.monotonic()
        self.slowest = max(self.slowest, at - began)
        samples = Samples.of(text)
        growing = {key: value for key, value in samples.values.items() if self._may_only_grow(*key)}
        fewer = {key: value for key, value in growing.items() if value < self._before.get(key, 0)}
        assert not fewer, list(fewer.items())[:3]
        gone = self._before.keys() - growing.keys()
        assert not gone, list(gone)[:3]
        self._before = growing
        self.pages += 1
        return Page(at, samples)

    @asynccontextmanager
    async def scraping(self) -> AsyncIterator[None]:
        """Meanwhile one page after another, in the middle of whatever happens."""
        async with asyncio.TaskGroup() as tasks:
            scraping = tasks.create_task(self._scrape_on())
            yield
            scraping.cancel()

    async def _scrape_on(self) -> None:
        while True:
            async with self.stopped:
                await self.scrape()
            await asyncio.sleep(SCRAPE_EVERY)

    def _may_only_grow(self, name: str, labels: frozenset[tuple[str, str]]) -> bool:
        return _GROWS.match(name) is not None and dict(labels).get("target", self.names[0]) in self.names

    async def settled(self) -> Page:
        """A page at a moment when no turn is under way, nor any due just before or after it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                await asyncio.sleep(self._until_quiet(time.monotonic()))
                began = time.monotonic()
                page = await self.scrape()
                busy = page.samples("r2_exporter_probes_in_flight")
                if not busy and not self.due(began - QUIET_SECONDS / 2, page.at):
                    return page

    def due(self, after: float, until: float) -> Counter[str]:
        """How many turns of each target are due after the one and until the other."""
        turns: Counter[str] = Counter()
        for name in self.names:
            offset = stable_fraction(name) * self.interval
            number = [math.floor((moment - offset) / self.interval) for moment in (after, until)]
            if number[1] > number[0]:
                turns[name] = number[1] - number[0]
        return turns

    def assert_each_turn_counted_once(self, first: Page, last: Page) -> int:
        """Between two settled pages; how many turns that were."""
        turns = self.due(first.at, last.at)
        for name in self.names:
            for operation in Operation:
                counted = last.runs(name, operation) - first.runs(name, operation)
                assert counted == turns[name], (name, operation, counted, turns[name])
        return turns.total()

    def _until_quiet(self, now: float) -> float:
        """Seconds to the next moment that has had no turn for a while."""
        step = self.interval / 50
        waits = (number * step for number in count())
        return next(wait for wait in waits if not self.due(now + wait - QUIET_SECONDS, now + wait + step))

    def assert_in_time(self) -> None:
        """The slowest page; in the long form one waits until the machine is quiet."""
        assert self.slowest < (SCRAPE_SECONDS_WHEN_BUSY if times(1) == 1 else SCRAPE_SECONDS)

    # --- the process ---

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.exporter.process.pid}/fd"))

    def memory(self) -> int:
        """Bytes of anonymous memory that are in use."""
        status = Path(f"/proc/{self.exporter.process.pid}/status").read_text()
        [kilobytes] = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
        return int(kilobytes) * 1024


def quiet_names(number: int, part: float = 0.4) -> list[str]:
    """Names of targets whose turns all fall into this part of the interval."""
    return [name for name in (f"t{i}" for i in range(100 * number)) if stable_fraction(name) < part][:number]


# --- what is in the history afterwards ---


def assert_history_agrees(file: Path, page: Page) -> int:
    """With the page of an exporter that has ended since and did nothing more; how many results there are.

    Of targets that the page has: those that were taken from the configuration are in the history alone.
    """
    with closing(sqlite3.connect(file)) as history:
        assert history.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        known = page.samples.targets()
        checks = [
            row
            for row in history.execute(
                "SELECT target, operation, success, count(*) FROM r2_health_checks GROUP BY 1, 2, 3"
            )
            if row[0] in known
        ]
        for target, operation, success, number in checks:
            labels = {"target": target, "operation": operation, "result": ["failure", "success"][success]}
            assert page.samples("r2_probes_total", **labels) == number, labels
        assert sum(number for *_, number in checks) == page.samples("r2_probes_total")
        _assert_breakers_agree(history, page)
        assert_alerts_agree(history, page)
    return sum(number for *_, number in checks)


def told_of_alerts(lines: Iterable[str]) -> Counter[tuple[str, str]]:
    """How often the log says of each target and type that such an alert was raised."""
    return Counter((found[1], found[2]) for line in lines if (found := _RAISED.search(line)))


def kept_of_alerts(history: sqlite3.Connection, since: int = 0) -> Counter[tuple[str, str]]:
    """How often each was raised by the exporter, of the rows after that one."""
    question = "SELECT target, type FROM service_alerts WHERE source = 'exporter' AND id > ?"
    return Counter(history.execute(question, [since]).fetchall())


def rows(history: Path, question: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(history)) as connection:
        return connection.execute(question).fetchall()


def _assert_breakers_agree(history: sqlite3.Connection, page: Page) -> None:
    """Each event begins in the state that the one before led to, and all are counted on the page."""
    states: dict[str, str] = {}
    told: Counter[tuple[str, str, str]] = Counter()
    for target, old, new in history.execute(
        "SELECT target, from_state, to_state FROM circuit_breaker_events ORDER BY id"
    ):
        assert old == states.get(target, "closed"), (target, old, new, _events_of(history, target))
        states[target] = new
        told[target, old, new] += 1
    for (name, labels), value in page.samples.values.items():
        has = dict(labels)
        if name == "r2_circuit_breaker_transitions_total":
            assert value == told[has["target"], has["from_state"], has["to_state"]], has
        if name == "r2_circuit_breaker_state" and value:
            assert has["state"] == states.get(has["target"], "closed"), has


def _events_of(history: sqlite3.Connection, target: str) -> list[tuple[Any, ...]]:
    question = "SELECT id, occurred_at, from_state, to_state, cause FROM circuit_breaker_events"
    return history.execute(f"{question} WHERE target = ?", [target]).fetchall()


def assert_alerts_agree(history: sqlite3.Connection, page: Page) -> None:
    """What is raised and not resolved is what the page shows, and nothing is so twice.

    An open breaker's alert began while the breaker was not closed, and ended once it was: at the latest
    when the history could be written again.
    """
    raised = history.execute(
        "SELECT target, type FROM service_alerts WHERE resolved_at IS NULL AND source = 'exporter'"
    ).fetchall()
    assert len(raised) == len(set(raised))
    assert active_alerts(page) == set(raised)
    known = page.samples.targets()
    for target, began, ended in history.execute(
        "SELECT target, created_at, condition_ended_at FROM service_alerts"
        " WHERE type = 'circuit_breaker_open' AND source = 'exporter'"
    ).fetchall():
        assert _breaker_at(history, target, began) not in CLOSED, (target, began, _events_of(history, target))
        if ended is not None and target in known:
            assert _closed_between(history, target, began, ended), (
                *(target, began, ended),
                _events_of(history, target),
            )


def active_alerts(page: Page) -> set[tuple[str, str]]:
    """Target and type of each."""
    return {
        (dict(labels)["target"], dict(labels)["type"])
        for (name, labels), value in page.samples.values.items()
        if name == "r2_alert_active" and value
    }


def _closed_between(history: sqlite3.Connection, target: str, after: float, until: float) -> bool:
    question = "SELECT to_state FROM circuit_breaker_events WHERE target = ? AND occurred_at BETWEEN ? AND ?"
    return any(state in CLOSED for (state,) in history.execute(question, [target, after, until]))


def _breaker_at(history: sqlite3.Connection, target: str, at: float) -> str:
    """In which state it was at that moment, or just before it."""
    question = "SELECT to_state FROM circuit_breaker_events WHERE target = ? AND occurred_at <= ?"
    found = history.execute(f"{question} ORDER BY id DESC LIMIT 1", [target, at]).fetchone()
    return "closed" if found is None else str(found[0])
