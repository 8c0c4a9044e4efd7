"""One exporter after another on the same history, each ended at a moment of chance: what was told is kept."""

import asyncio
import os
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from exporter.alerts.kinds import AlertType
from exporter.keys import parse_key
from exporter.outcome import Operation
from tests.faults.kinds import KINDS
from tests.faults.server import FaultServer, fault_server
from tests.faults.watch import Page, assert_alerts_agree, kept_of_alerts, quiet_names, told_of_alerts
from tests.hostile.effort import times
from tests.running import (
    DEADLINE,
    Client,
    Samples,
    Spawned,
    eventually,
    serving_command,
    spawned,
    target,
    write,
)
from tests.stores import PREFIX

NAMES = quiet_names(6)
TIMEOUT = 0.5
STOP_SECONDS = TIMEOUT + 1
"""Within which it ends, on a machine that has the time."""
WRITTEN_WITHIN = 2.0
"""Seconds. The writer waits half a second for more to write, and a machine may be busy."""

TOLD = re.compile(r'circuit breaker (open|half_open|closed)"? .*target=(\S+)')
OPEN_STATES = ("open", "half_open")


@dataclass
class Lives:
    """What the lives so far have told, and how each ended."""

    config: Path
    storage: FaultServer
    chance: random.Random
    ends: Counter[str] = field(default_factory=Counter)
    states: dict[str, str] = field(default_factory=dict)
    events: int = 0
    alerts: int = 0
    slowest_stop: float = 0.0
    told: int = 0
    results: int = 0

    @property
    def history(self) -> Path:
        return self.config.with_name("r2-exporter.db")

    async def one(self) -> None:
        """Starts, probes a storage that fails at random for some moments, and ends somehow."""
        kinds: list[Callable[[], Awaitable[None]]] = [self.killed_at_the_start, self.killed_while_it_stops]
        kinds += [*[self.killed] * 4, *[self.stopped] * 3]
        kind = self.chance.choice(kinds)
        self.ends[kind.__name__] += 1
        await kind()

    async def killed(self) -> None:
        async with serving_command(self.config) as exporter:
            pages = await self.lives(exporter)
            await exporter.end(signal.SIGKILL)
        died = time.monotonic()
        kept = max((results_of(page) for at, page in pages if at < died - WRITTEN_WITHIN), default=0)
        self.assert_kept(exporter, at_least=kept)

    async def stopped(self) -> None:
        async with serving_command(self.config) as exporter:
            pages = await self.lives(exporter)
            began = time.monotonic()
            assert await exporter.end(self.chance.choice([signal.SIGTERM, signal.SIGINT])) == 0
            self.slowest_stop = max(self.slowest_stop, time.monotonic() - began)
        self.assert_kept(exporter, at_least=max(results_of(page) for _, page in pages))
        assert not exporter.said("Traceback"), exporter.lines

    async def killed_while_it_stops(self) -> None:
        async with serving_command(self.config) as exporter:
            await self.lives(exporter)
            exporter.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(self.chance.uniform(0, 0.2))
            if exporter.process.returncode is None:
                await exporter.end(signal.SIGKILL)
        self.assert_kept(exporter, at_least=0)

    async def killed_at_the_start(self) -> None:
        files = (f"--config.file={self.config}", f"--storage.path={self.history}")
        async with spawned("serve", *files, "--web.listen-address=127.0.0.1:0") as exporter:
            await asyncio.sleep(self.chance.uniform(0.2, 1.5))
            await exporter.end(signal.SIGKILL)
        self.assert_kept(exporter, at_least=0)

    async def lives(self, exporter: Spawned) -> list[tuple[float, Samples]]:
        """For some seconds; the pages of that time, each with a moment before which it was made."""
        pages: list[tuple[float, Samples]] = []
        client = Client(exporter.url)
        end = time.monotonic() + self.chance.uniform(0.1, 4)
        while not pages or time.monotonic() < end:
            operation = self.chance.choice(list(Operation))
            self.storage.script[operation] = self.chance.choice(
                [*KINDS.values(), *[self.storage.healthy] * 40]
            )
            pages.append((time.monotonic(), await client.metrics()))
            await asyncio.sleep(self.chance.uniform(0, 0.3))
        return pages

    def assert_kept(self, exporter: Spawned, at_least: float) -> None:
        """The file is sound, holds what was told, and each breaker goes on from where it was."""
        told = Counter((name, state) for line in exporter.lines for state, name in TOLD.findall(line))
        with closing(sqlite3.connect(self.history)) as history:
            assert history.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            results, distinct = history.execute(
                "SELECT (SELECT count(*) FROM r2_health_checks), (SELECT count(*) FROM "
                "(SELECT DISTINCT target, operation, checked_at FROM r2_health_checks))"
            ).fetchone()
            assert results == distinct
            assert results - self.results >= at_least
            [(summed,)] = history.execute(
                "SELECT sum(checks) FROM r2_operation_metrics WHERE period = 'day'"
            ).fetchall()
            assert results in (summed, 0)
            self.told += told.total()
            told -= self.follow(history)
            assert not told, told
            raised = told_of_alerts(exporter.lines) - kept_of_alerts(history, self.alerts)
            assert not raised, raised
            [(self.alerts,)] = history.execute("SELECT coalesce(max(id), 0) FROM service_alerts").fetchall()
        self.results = results

    def follow(self, history: sqlite3.Connection) -> Counter[tuple[str, str]]:
        """The events of this life. Each goes on from the one before; a new life opens what was not closed."""
        found: Counter[tuple[str, str]] = Counter()
        question = (
            "SELECT id, target, from_state, to_state FROM circuit_breaker_events WHERE id > ? ORDER BY id"
        )
        for number, name, old, new in history.execute(question, [self.events]).fetchall():
            assert old == self.states.get(name, "closed"), (number, name, old, new)
            self.states[name] = new
            found[name, new] += 1
            self.events = number
        self.states.update({name: "open" for name, state in self.states.items() if state in OPEN_STATES})
        return found


def results_of(page: Samples) -> float:
    return page("r2_probes_total")


async def test_whatever_ends_a_life_the_next_goes_on_from_what_was_told(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("R2_EXPORTER_SEED", random.randrange(1 << 32)))
    record_property("seed", seed)
    probe = {
        "interval": "1s",
        "timeout": f"{TIMEOUT * 1000:g}ms",
        "operations": [str(each) for each in Operation],
    }
    async with fault_server() as storage:
        breaker = {"recovery_timeout": "1s", "failure_threshold": 2}
        each = [target(name, storage.endpoint, "bucket", probe=probe, breaker=breaker) for name in NAMES]
        it = Lives(write(tmp_path / "exporter.yaml", *each), storage, random.Random(seed))
        for _ in range(times(8)):
            await it.one()
        storage.heal()
        async with serving_command(it.config) as exporter:
            client = Client(exporter.url)
            await eventually(lambda: client.has("r2_target_up"))
            await eventually(lambda: client.has_value(len(NAMES), "r2_target_up"))
            for trouble in set(AlertType) - {AlertType.SERVICE_RECOVERED}:
                await eventually(partial(client.has_value, 0, "r2_alert_active", type=trouble))
            await client.post("/api/health/monitoring/stop")
            await eventually(lambda: client.has_value(0, "r2_exporter_probes_in_flight"))
            last = await client.metrics()
            assert await exporter.end() == 0
        it.assert_kept(exporter, at_least=results_of(last))
        with closing(sqlite3.connect(it.history)) as history:
            assert_alerts_agree(history, Page(0, last))
        assert not any(state in OPEN_STATES for state in it.states.values())
        assert all(parse_key(PREFIX, key) for key in storage.objects)
    assert it.told > 0
    assert it.alerts > 0
    assert it.slowest_stop < (STOP_SECONDS if times(1) > 1 else DEADLINE)
    for name, value in {**it.ends, "results": it.results, "told": it.told, "alerts": it.alerts}.items():
        record_property(name, value)
    record_property("slowest stop, seconds", round(it.slowest_stop, 2))
