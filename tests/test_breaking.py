"""The circuit breaker of a target, in a running exporter whose storage fails and recovers."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from exporter.outcome import Operation
from tests.running import Running, Samples, eventually, running, target, until, write
from tests.stores import Bucket, Front, Seen, front, moto, s3_error

PUT, GET, HEAD, LIST, DELETE = Operation
ALL = tuple(Operation)


@dataclass
class Fragile:
    """A storage in front of moto: what is in `failing` is answered with an error, LIST waits for `open`."""

    server: Front
    bucket: str
    config: Path
    failing: dict[Operation, tuple[int, str]] = field(default_factory=dict)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, seen: Seen) -> web.Response | None:
        if seen.operation is LIST:
            await self.open.wait()
        return s3_error(*self.failing[seen.operation]) if seen.operation in self.failing else None

    def fail(self, *operations: Operation, status: int = 500, code: str = "InternalError") -> None:
        """From now on these fail and the others work."""
        self.failing = dict.fromkeys(operations, (status, code))

    def requests(self) -> list[Operation]:
        """What has arrived since the last call, but for the pages that a sweep, at its time, asks for."""
        arrived = [each.operation for each in self.server.seen if "encoding-type=url" not in each.path]
        self.server.seen.clear()
        return arrived


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with moto() as endpoint:
        yield endpoint


@pytest.fixture
async def storage(store: str, tmp_path: Path) -> AsyncIterator[Fragile]:
    async with front(store) as server:
        it = Fragile(server, Bucket(store).name, tmp_path / "exporter.yaml")
        it.open.set()
        server.before = it.answer
        yield it


def media(
    storage: Fragile, *operations: Operation, interval: str = "1d", recovery: str = "1d", threshold: int = 1
) -> dict[str, Any]:
    """A target that is probed on demand, unless `interval` gives it turns of its own."""
    probe = {"interval": interval, "operations": [operation.value for operation in operations]}
    breaker = {"failure_threshold": threshold, "recovery_timeout": recovery}
    return target("media", storage.server.url, storage.bucket, probe=probe, breaker=breaker)


async def reload(exporter: Running, storage: Fragile, changed: dict[str, Any]) -> None:
    write(storage.config, changed)
    status, text = await exporter.post("/-/reload")
    assert status == 200, text


async def probe(exporter: Running, operations: str = "") -> str:
    """One run, and the report on it."""
    status, report = await exporter.get(f"/probe?target=media&debug=true&operations={operations}")
    assert status == 200, report
    return report


async def told(exporter: Running) -> tuple[str, float | None]:
    """What the API says of the breaker: its state, and in how many milliseconds it lets a probe try."""
    _, text = await exporter.get("/api/health/circuit-breaker")
    [breaker] = json.loads(text)["items"]
    return breaker["state"], breaker["retryAfter"]


async def recovery(exporter: Running) -> None:
    """Wait until an open breaker would let a probe try."""

    async def is_due() -> bool:
        return await told(exporter) == ("open", 0.0)

    await eventually(is_due)


def counted(samples: Samples, family: str, *names: str) -> dict[str, float]:
    """What is not 0 in a family of the target, by the values of these labels."""
    rows = [(dict(labels), value) for (name, labels), value in samples.values.items() if name == family]
    return {" ".join(labels[name] for name in names): value for labels, value in rows if value}


def state(samples: Samples) -> str:
    """The state that the gauges show; empty if all are 0."""
    return " ".join(counted(samples, "r2_circuit_breaker_state", "state"))


def changes(samples: Samples) -> dict[str, float]:
    return counted(samples, "r2_circuit_breaker_transitions_total", "from_state", "to_state")


def skipped(samples: Samples) -> dict[str, float]:
    return counted(samples, "r2_probes_skipped_total", "operation", "reason")


def said(logs: list[Any]) -> list[str]:
    """What the log says of breakers: the new state, the cause and the operation that opened it."""
    lines = [line for line in logs if line["event"].startswith("circuit breaker ")]
    return [
        f"{line['event'].split()[-1]} {line['cause']} {line.get('operation', '')}".strip() for line in lines
    ]


# --- opening ---


async def test_an_outage_stops_the_probe_loop_and_recovery_restarts_it(storage: Fragile) -> None:
    storage.fail(GET, LIST)
    looping = media(storage, GET, LIST, interval="1s", threshold=3)
    async with running(write(storage.config, looping)) as exporter:
        await eventually(lambda: exporter.has_value(1, "r2_circuit_breaker_state", state="open"))
        assert storage.requests() == [GET, LIST, GET]
        # The run that opened it skipped LIST alone, the next ones skip both.
        await eventually(lambda: exporter.has_more(4, "r2_probes_skipped_total", reason="circuit_open"))
        after = await exporter.metrics()
        assert storage.requests() == []
        runs = skipped(after)["get circuit_open"]
        assert skipped(after)["list circuit_open"] == runs + 1 >= 3
        assert (after("r2_probes_total"), after("r2_target_up")) == (3, 0)

        storage.fail()
        looping["breaker"] = {"failure_threshold": 3, "recovery_timeout": "1s"}
        await reload(exporter, storage, looping)
        await eventually(lambda: exporter.has_value(1, "r2_target_up"))
        closed = await exporter.metrics()
    assert state(closed) == "closed"
    assert storage.requests()[:2] == [GET, LIST]


async def test_a_run_ends_with_the_operation_that_opens_it(storage: Fragile) -> None:
    storage.fail(*ALL, status=403, code="AccessDenied")
    async with running(write(storage.config, media(storage, *ALL, threshold=2))) as exporter:
        with capture_logs() as logs:
            report = await probe(exporter)
        samples = await exporter.metrics()
    assert storage.requests() == [PUT, GET]
    assert (report.count("FAILURE auth"), report.count("skipped, circuit_open")) == (2, 3)
    assert skipped(samples) == {"head circuit_open": 1, "list circuit_open": 1, "delete circuit_open": 1}
    assert (state(samples), changes(samples)) == ("open", {"closed open": 1})
    assert (samples("r2_target_up"), samples("r2_circuit_breaker_failure_ratio")) == (0, 1)
    assert said(logs) == ["open failure_threshold get"]
    [line] = [line for line in logs if line["event"] == "circuit breaker open"]
    assert (line["log_level"], line["target"], line["from_state"]) == ("warning", "media", "closed")
    assert (line["calls"], line["failures"], line["slow_calls"]) == (2, 2, 0)


async def test_an_open_breaker_answers_probes_on_demand_without_the_storage(storage: Fragile) -> None:
    storage.fail(LIST)
    async with running(write(storage.config, media(storage, GET))) as exporter:
        assert "get: success" in await probe(exporter)
        await probe(exporter, "list")
        assert storage.requests() == [GET, LIST]
        report = await probe(exporter, "get,list")
        assert report.endswith("\nlist: skipped, circuit_open\n\nget: skipped, circuit_open\n")
        status, page = await exporter.get("/probe?target=media")
    samples = Samples.of(page)
    assert (status, storage.requests()) == (200, [])
    assert skipped(samples) == {"get circuit_open": 2, "list circuit_open": 1}
    assert counted(samples, "r2_probes_total", "operation", "result") == {"get success": 1, "list failure": 1}
    # Down, though all that it is configured to probe has worked.
    assert (state(samples), samples("r2_target_up")) == ("open", 0)


async def test_reasons_that_are_left_out_do_not_open_it(storage: Fragile) -> None:
    choosy = media(storage, GET)
    choosy["breaker"]["failure_reasons"] = ["server", "timeout"]
    async with running(write(storage.config, choosy)) as exporter:
        storage.fail(GET, status=403, code="AccessDenied")
        for _ in range(3):
            assert "FAILURE auth" in await probe(exporter)
        samples = await exporter.metrics()
        assert (state(samples), samples("r2_target_up")) == ("closed", 0)
        assert samples("r2_circuit_breaker_failure_ratio") == 0
        storage.fail(GET)
        assert "FAILURE server" in await probe(exporter)
        assert "circuit_open" in await probe(exporter)
    assert storage.requests() == [GET] * 4


# --- the way back ---


@pytest.mark.parametrize(
    ("opener", "first", "again"),
    [
        (PUT, [PUT, DELETE], [PUT, GET, HEAD, LIST, DELETE]),  # an error 500 may have stored the object
        (GET, [PUT, GET, DELETE], [PUT, GET, HEAD, LIST, DELETE]),
        (HEAD, [PUT, GET, HEAD, DELETE], [PUT, HEAD, GET, LIST, DELETE]),
        (LIST, [PUT, GET, HEAD, LIST, DELETE], [LIST, PUT, GET, HEAD, DELETE]),
        (DELETE, [PUT, GET, HEAD, LIST, DELETE, DELETE], [DELETE, PUT, GET, HEAD, LIST]),
    ],
)
async def test_the_operation_that_opened_it_is_sent_first_and_closes_it(
    storage: Fragile, opener: Operation, first: list[Operation], again: list[Operation]
) -> None:
    storage.fail(opener)
    async with running(write(storage.config, media(storage, *ALL, recovery="1s"))) as exporter:
        with capture_logs() as logs:
            await probe(exporter)
            await eventually(lambda: exporter.has_more(0, "r2_probe_cleanups_total"))
            assert storage.requests() == first  # the last of them is the cleanup
            storage.fail()
            await recovery(exporter)
            report = await probe(exporter)
            samples = await exporter.metrics()
        assert (await told(exporter))[0] == "closed"
    assert storage.requests()[: len(ALL)] == again
    assert report.count("success") == len(ALL)
    assert (state(samples), samples("r2_target_up")) == ("closed", 1)
    assert changes(samples) == {"closed open": 1, "open half_open": 1, "half_open closed": 1}
    assert samples("r2_circuit_breaker_failure_ratio") == samples("r2_circuit_breaker_slow_call_ratio") == 0
    assert 0 < samples("r2_circuit_breaker_response_time_ewma_seconds") < 1
    opening = f"open failure_threshold {opener}"
    assert said(logs) == [opening, "half_open recovery_timeout", "closed trials_succeeded"]


async def test_a_failed_trial_opens_it_again_and_ends_the_run(storage: Fragile) -> None:
    storage.fail(GET, LIST)
    async with running(write(storage.config, media(storage, GET, HEAD, LIST, recovery="1s"))) as exporter:
        await probe(exporter, "list")
        await recovery(exporter)
        storage.requests()
        before = await exporter.metrics()
        with capture_logs() as logs:
            report = await probe(exporter)
        after = await exporter.metrics()
        assert (await told(exporter))[0] == "open"
    assert storage.requests() == [LIST]
    assert "list: FAILURE server" in report
    assert (skipped(before), skipped(after)) == ({}, {"get circuit_open": 1, "head circuit_open": 1})
    assert changes(after) == {"closed open": 1, "open half_open": 1, "half_open open": 1}
    assert (state(after), after("r2_target_up")) == ("open", 0)
    assert said(logs) == ["half_open recovery_timeout", "open trial_failed list"]


async def test_everybody_waits_for_the_one_trial_and_can_see_it(storage: Fragile) -> None:
    storage.fail(LIST)
    async with running(write(storage.config, media(storage, LIST, GET, recovery="1s"))) as exporter:
        assert (await told(exporter))[0] == "closed"
        await probe(exporter, "list")
        assert (await told(exporter))[0] == "open"
        await recovery(exporter)
        storage.requests()
        storage.fail()
        storage.open.clear()
        trial = asyncio.create_task(probe(exporter))
        await until(lambda: storage.server.seen)
        other = asyncio.create_task(probe(exporter, "get"))
        assert (await told(exporter))[0] == "half_open"
        samples = await exporter.metrics()
        storage.open.set()
        assert (await trial).count("success") == 2
        assert "get: success" in await other
    assert (state(samples), samples("r2_target_up"), storage.requests()) == ("half_open", 0, [LIST, GET, GET])


# --- reload ---


@pytest.mark.parametrize(
    "change",
    [
        {"probe": {"interval": "1d", "operations": ["get"], "timeout": "1s"}},
        {"breaker": {"failure_threshold": 7, "recovery_timeout": "1d"}},
        {"alerts": {"on_recovery": False}},
        {"labels": {"team": "web"}},
    ],
    ids=str,
)
async def test_a_reload_that_points_at_the_same_place_keeps_it_open(
    storage: Fragile, change: dict[str, Any]
) -> None:
    storage.fail(GET)
    settings = media(storage, GET)
    async with running(write(storage.config, settings)) as exporter:
        await probe(exporter)
        await reload(exporter, storage, settings | change)
        assert "circuit_open" in await probe(exporter)
        now_in, retry_after = await told(exporter)
        assert (now_in, round((retry_after or 0) / 1e8)) == ("open", 1)  # 86,400 seconds: a day
        samples = await exporter.metrics()
    assert storage.requests() == [GET]
    assert (state(samples), changes(samples), samples("r2_target_up")) == ("open", {"closed open": 1}, 0)


@pytest.mark.parametrize("changed", ["endpoint", "bucket", "region", "access_key_id", "secret_access_key"])
async def test_a_reload_to_another_place_or_with_another_key_closes_it(
    store: str, storage: Fragile, changed: str
) -> None:
    storage.fail(GET)
    settings = media(storage, GET)
    other = {"endpoint": store, "bucket": Bucket(store).name, "region": "eu-west-1"}
    async with running(write(storage.config, settings)) as exporter:
        await probe(exporter)
        storage.fail()
        with capture_logs() as logs:
            await reload(exporter, storage, settings | {changed: other.get(changed, "another")})
        before = await exporter.metrics()
        report = await probe(exporter)
        after = await exporter.metrics()
    assert said(logs) == ["closed by_hand"]
    assert (state(before), before("r2_target_up")) == ("closed", 0)  # nothing has worked so far
    assert "get: success" in report
    assert (state(after), after("r2_target_up")) == ("closed", 1)
    assert changes(after) == {"closed open": 1, "open closed": 1}


async def test_a_disabled_breaker_lets_probes_fail_until_it_is_enabled(storage: Fragile) -> None:
    storage.fail(GET)
    settings = media(storage, GET)
    async with running(write(storage.config, settings)) as exporter:
        await probe(exporter)
        assert "circuit_open" in await probe(exporter)
        await reload(exporter, storage, settings | {"breaker": {"enabled": False, "failure_threshold": 1}})
        assert (await told(exporter))[0] == "disabled"
        for _ in range(2):
            assert "FAILURE server" in await probe(exporter)
        disabled = await exporter.metrics()
        await reload(exporter, storage, settings | {"breaker": {"failure_threshold": 2}})
        enabled = await exporter.metrics()
        reports = [await probe(exporter) for _ in range(3)]
    assert disabled("r2_circuit_breaker_state") == disabled("r2_target_up") == 0
    assert disabled("r2_probes_total", result="failure") == 3
    assert skipped(disabled) == {"get circuit_open": 1}
    assert state(enabled) == "closed"  # and its past is forgotten: it takes two more failures
    assert ["FAILURE" in report for report in reports] == [True, True, False]
    assert storage.requests() == [GET] * 5
