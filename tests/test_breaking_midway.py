"""The circuit breaker in a running exporter, when something else happens in the middle of a run."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from exporter import app as wiring
from exporter.outcome import Operation
from tests.running import (
    Running,
    demo_server,
    eventually,
    new_bucket,
    objects_in,
    running,
    target,
    until,
    write,
)
from tests.stores import Front, Seen, front, s3_error

PUT, GET, HEAD, LIST, DELETE = Operation
RUN = ["put", "get", "list", "delete"]


@dataclass
class Scene:
    """An exporter, and before its storage a front that fails what is in `failing` and holds `held`."""

    exporter: Running
    server: Front
    config: Path
    media: dict[str, Any]
    failing: set[Operation] = field(default_factory=set)
    held: set[Operation] = field(default_factory=set)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, seen: Seen) -> web.Response | None:
        failing = seen.operation in self.failing
        if seen.operation in self.held:
            await self.let_go.wait()
        return s3_error(500, "InternalError") if failing else None

    async def probe(self, operations: str = "", **headers: str) -> str:
        path = f"/probe?target=media&debug=true&operations={operations}"
        status, report = await self.exporter.get(path, **headers)
        assert status == 200, report
        return report

    async def reload(self, *targets: dict[str, Any]) -> None:
        write(self.config, *targets)
        status, text = await self.exporter.post("/-/reload")
        assert status == 200, text

    async def opened_by(self, operation: Operation) -> None:
        """One run in which `operation` fails; from then on it works again."""
        self.failing = {operation}
        await self.probe()
        await eventually(lambda: self.exporter.has_more(0, "r2_probe_cleanups_total"))
        assert await self.shows("open")
        self.failing = set()
        self.server.seen.clear()

    async def shows(self, state: str) -> bool:
        return await self.exporter.has_value(1, "r2_circuit_breaker_state", state=state)

    async def trial_is_due(self) -> None:
        breaker = self.exporter.app.targets["media"].breaker
        await until(lambda: breaker.status(time.monotonic()).retry_after == 0)


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with demo_server() as endpoint:
        yield endpoint


@asynccontextmanager
async def scene(folder: Path, storage: str, **breaker: object) -> AsyncIterator[Scene]:
    """Opens at the first failure and tries again after a second, unless `breaker` says something else."""
    config = folder / "exporter.yaml"
    settings = {"failure_threshold": 1, "recovery_timeout": "1s"} | breaker
    async with front(storage) as server:
        probe = {"interval": "1d", "operations": RUN}
        media = target("media", server.url, new_bucket(storage), probe=probe, breaker=settings)
        async with running(write(config, media)) as exporter:
            it = Scene(exporter, server, config, media)
            server.before = it.answer
            yield it
            it.let_go.set()


async def test_sweeps_go_on_while_it_is_open(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "SWEEP_INTERVAL", 0.2)
    async with scene(tmp_path, storage, recovery_timeout="1d") as it:
        it.failing = {PUT}
        await it.probe()
        assert await it.shows("open")
        it.server.seen.clear()
        await until(lambda: it.server.operations().count(LIST) >= 2)
        assert "circuit_open" in await it.probe()
        assert await it.shows("open")


async def test_what_the_run_that_opened_it_wrote_is_removed_all_the_same(
    tmp_path: Path, storage: str
) -> None:
    async with scene(tmp_path, storage, recovery_timeout="1d") as it:
        it.failing = {GET}
        assert "delete: skipped, circuit_open" in await it.probe()
        await eventually(lambda: it.exporter.has_value(1, "r2_probe_cleanups_total", result="success"))
        assert it.server.operations() == [PUT, GET, DELETE]
        assert objects_in(storage, it.media["bucket"]) == 0


async def test_a_scrape_with_no_time_left_leaves_the_trial_to_the_next(tmp_path: Path, storage: str) -> None:
    async with scene(tmp_path, storage) as it:
        await it.opened_by(LIST)
        await it.trial_is_due()
        report = await it.probe(X_Prometheus_Scrape_Timeout_Seconds="0.01")
        assert report.count("skipped, overrun") == len(RUN)
        assert it.server.seen == []
        assert await it.shows("open")
        assert (await it.exporter.metrics())("r2_target_up") == 0
        assert (await it.probe()).count("success") == len(RUN)
        assert await it.shows("closed")


async def test_the_gauges_show_a_trial_while_it_is_under_way(tmp_path: Path, storage: str) -> None:
    async with scene(tmp_path, storage) as it:
        await it.opened_by(LIST)
        await it.trial_is_due()
        it.held = {LIST}
        trial = asyncio.create_task(it.probe())
        await until(lambda: it.server.seen)
        # A transition is shown once it is on the disk.
        await eventually(partial(it.exporter.has_value, 1, "r2_circuit_breaker_state", state="half_open"))
        assert await it.exporter.has_value(0, "r2_circuit_breaker_state", state="open")
        it.let_go.set()
        await trial


async def test_a_trial_that_a_reload_overtakes_sends_nothing_after_it(tmp_path: Path, storage: str) -> None:
    async with scene(tmp_path, storage) as it:
        await it.opened_by(LIST)
        await it.trial_is_due()
        it.held, it.failing = {LIST}, {LIST}
        trial = asyncio.create_task(it.probe())
        await until(lambda: it.server.seen)
        await it.reload(it.media | {"labels": {"team": "web"}})
        it.let_go.set()
        assert "list: FAILURE server" in await trial
        assert it.server.operations() == [LIST]


async def test_a_trial_that_a_reload_overtakes_counts(tmp_path: Path, storage: str) -> None:
    async with scene(tmp_path, storage) as it:
        await it.opened_by(LIST)
        await it.trial_is_due()
        it.held = {LIST}
        trial = asyncio.create_task(it.probe())
        await until(lambda: it.server.seen)
        await it.reload(it.media | {"labels": {"team": "web"}})
        it.let_go.set()
        assert "list: success" in await trial
        assert it.server.operations() == [LIST, PUT, GET, DELETE]
        assert await it.shows("closed")
        it.server.seen.clear()
        await it.probe()
        assert it.server.operations() == [PUT, GET, LIST, DELETE]


async def test_the_place_before_a_reload_says_nothing_of_the_one_after_it(
    tmp_path: Path, storage: str
) -> None:
    async with scene(tmp_path, storage, recovery_timeout="1d") as it:
        it.held, it.failing = {GET}, {GET}
        late = asyncio.create_task(it.probe())
        await until(lambda: GET in it.server.operations())
        it.failing = set()
        await it.reload(it.media | {"bucket": new_bucket(storage)})
        it.let_go.set()
        assert "get: FAILURE server" in await late
        assert (await it.probe()).count("success") == len(RUN)
        samples = await it.exporter.metrics()
    assert samples("r2_circuit_breaker_state", state="closed") == 1
    assert samples("r2_circuit_breaker_transitions_total") == 0


async def test_a_target_that_comes_back_begins_closed(tmp_path: Path, storage: str) -> None:
    async with scene(tmp_path, storage, recovery_timeout="1d") as it:
        other = target("other", storage, new_bucket(storage))
        await it.opened_by(LIST)
        await it.reload(other)
        assert not await it.exporter.has("r2_circuit_breaker_state", target="media")
        await it.reload(it.media, other)
        assert (await it.probe()).count("success") == len(RUN)
        assert (await it.exporter.metrics())("r2_circuit_breaker_transitions_total", target="media") == 0


async def test_with_the_breaker_disabled_from_the_start_every_probe_is_sent(
    tmp_path: Path, storage: str
) -> None:
    async with scene(tmp_path, storage, enabled=False) as it:
        it.failing = {GET, LIST}
        for _ in range(3):
            await it.probe("get,list")
        assert it.server.operations() == [GET, LIST] * 3
        samples = await it.exporter.metrics()
    assert samples("r2_circuit_breaker_state") == samples("r2_circuit_breaker_transitions_total") == 0
    assert samples("r2_probes_skipped_total", reason="circuit_open") == 0
    assert samples("r2_circuit_breaker_failure_ratio") == 1


async def test_a_trial_that_ends_in_a_defect_of_ours_is_made_again(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def defect(*_: object) -> None:
        raise ZeroDivisionError

    async with scene(tmp_path, storage) as it:
        await it.opened_by(LIST)
        await it.trial_is_due()
        storing = it.exporter.app.targets["media"].probe._storage
        with monkeypatch.context() as patch:
            patch.setattr(storing, "perform", lambda *_, **__: defect())
            status, _ = await it.exporter.get("/probe?target=media")
        assert status == 500
        assert it.exporter.app.targets["media"].breaker.status(time.monotonic()).state == "half_open"
        assert (await it.probe()).count("success") == len(RUN)
        assert await it.shows("closed")


async def test_new_authorities_in_the_same_file_close_it(tmp_path: Path, storage: str) -> None:
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    async with scene(tmp_path, storage, recovery_timeout="1d") as it:
        trusting = it.media | {"ca_file": str(bundle)}
        await it.reload(trusting)
        await it.opened_by(LIST)
        await it.reload(trusting)
        assert await it.shows("open")
        trustme.CA().cert_pem.write_to_path(str(bundle))
        await it.reload(trusting)
        assert await it.shows("closed")
