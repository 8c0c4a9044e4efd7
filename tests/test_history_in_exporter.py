"""What a running exporter keeps in its history, and what it knows again after a kill."""

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.running import (
    Client,
    Samples,
    demo_server,
    eventually,
    new_bucket,
    running,
    serving_command,
    spawned,
    target,
    write,
)


@pytest.fixture(scope="module")
def failing() -> Iterator[str]:
    with demo_server("failing") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with demo_server() as endpoint:
        yield endpoint


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "exporter.yaml"


def ask(config: Path, sql: str) -> list[tuple[Any, ...]]:
    """As somebody with sqlite3 would, while the exporter runs."""
    with closing(sqlite3.connect(config.with_name("r2-exporter.db"))) as connection:
        return connection.execute(sql).fetchall()


async def test_each_result_is_kept_with_all_that_is_known_of_it(config: Path, storage: str) -> None:
    write(config, target("media", storage, new_bucket(storage)))
    async with running(config) as exporter:
        await exporter.get("/probe?target=media&operations=put,get,delete")
    kept = "SELECT operation, success, reason, status, processing_seconds > 0 FROM r2_health_checks"
    answered = {"put": 200, "get": 200, "delete": 204}
    assert ask(config, kept) == [(operation, 1, None, status, 1) for operation, status in answered.items()]
    sums = ask(config, "SELECT period, operation, checks, failures FROM r2_operation_metrics")
    assert sorted(sums) == sorted((period, each, 1, 0) for period in ("day", "hour") for each in answered)


async def test_what_an_open_breaker_skips_is_kept_as_a_sum(config: Path, failing: str) -> None:
    settings = {"failure_threshold": 1, "recovery_timeout": "1d"}
    write(config, target("media", failing, "media", breaker=settings))
    async with running(config) as exporter:
        for _ in range(2):
            await exporter.get("/probe?target=media&operations=put,get,delete")
    kept = ask(config, "SELECT operation, reason, s3_code FROM r2_health_checks")
    assert kept == [("put", "server", "InternalError")]
    sums = "SELECT sum(checks), sum(skipped) FROM r2_operation_metrics WHERE period = 'hour'"
    assert ask(config, sums) == [(1, 5)]
    columns = "target, from_state, to_state, cause, operation, recovery_seconds"
    [(*event, recovery)] = ask(config, f"SELECT {columns} FROM circuit_breaker_events")
    assert event == ["media", "closed", "open", "failure_threshold", "put"]
    assert 86_390 < recovery <= 86_400


async def test_a_transition_is_on_the_disk_before_it_is_told(config: Path, failing: str) -> None:
    write(config, target("media", failing, "media", breaker={"failure_threshold": 1}))
    async with serving_command(config) as exporter:
        client = Client(exporter.url)
        await client.get("/probe?target=media")
        await eventually(lambda: _said(exporter.lines, "circuit breaker open"))
        exporter.process.send_signal(signal.SIGKILL)
        await exporter.process.wait()
    assert ask(config, "SELECT to_state FROM circuit_breaker_events") == [("open",)]


async def _said(lines: list[str], words: str) -> bool:
    return any(words in line for line in lines)


async def test_an_open_breaker_is_open_again_after_a_kill(config: Path, failing: str) -> None:
    settings = {"failure_threshold": 1, "recovery_timeout": "1h"}
    write(config, target("media", failing, "media", breaker=settings))
    async with serving_command(config) as exporter:
        await Client(exporter.url).get("/probe?target=media")
        await eventually(lambda: _said(exporter.lines, "circuit breaker open"))
        exporter.process.send_signal(signal.SIGKILL)
        await exporter.process.wait()
    async with serving_command(config) as exporter:
        client = Client(exporter.url)
        samples = await client.metrics()
        assert samples("r2_circuit_breaker_state", state="open") == 1
        assert samples("r2_circuit_breaker_transitions_total") == 0
        _, report = await client.get("/probe?target=media&debug=true")
        assert report.count("circuit_open") == 3
        assert 3_000_000 < await _retry_after(client) <= 3_600_000


async def test_a_breaker_whose_target_was_removed_is_closed(config: Path, failing: str) -> None:
    other = target("other", failing, "other")
    media = target("media", failing, "media", breaker={"failure_threshold": 1, "recovery_timeout": "1h"})
    write(config, media, other)
    async with running(config) as exporter:
        await exporter.get("/probe?target=media")
        for targets in ([other], [other, media]):
            write(config, *targets)
            await exporter.app.reload()
    async with running(config) as exporter:
        samples = await exporter.metrics()
        assert samples("r2_circuit_breaker_state", target="media", state="closed") == 1
    states = "SELECT to_state, cause FROM circuit_breaker_events"
    assert ask(config, states) == [("open", "failure_threshold"), ("closed", "by_hand")]


async def test_a_breaker_whose_time_is_over_tries_at_once_what_opened_it(
    config: Path, storage: str, failing: str
) -> None:
    settings = {"failure_threshold": 1, "recovery_timeout": "1s"}
    write(config, target("media", failing, "media", breaker=settings))
    async with running(config) as exporter:
        await exporter.get("/probe?target=media&operations=list")
    write(config, target("media", storage, new_bucket(storage), breaker=settings))
    async with running(config) as exporter:
        await eventually(lambda: _is_due(exporter))
        _, report = await exporter.get("/probe?target=media&debug=true&operations=put,get,list,delete")
        assert report.index("list") < report.index("put")
        assert report.count("success") == 4
        samples = await exporter.metrics()
        assert samples("r2_circuit_breaker_transitions_total", from_state="half_open", to_state="closed") == 1


async def _is_due(exporter: Any) -> bool:
    return await _retry_after(exporter) == 0


async def _retry_after(exporter: Client) -> float:
    """In how many milliseconds the breaker lets a probe try."""
    _, text = await exporter.get("/api/health/circuit-breaker")
    [breaker] = json.loads(text)["items"]
    return float(breaker["retryAfter"])


async def test_a_history_of_a_later_version_is_refused_at_the_start(config: Path, storage: str) -> None:
    write(config, target("media", storage, "media"))
    with closing(sqlite3.connect(config.with_name("r2-exporter.db"))) as connection:
        connection.execute("PRAGMA user_version = 99")
    files = (f"--config.file={config}", f"--storage.path={config.with_name('r2-exporter.db')}")
    async with spawned("serve", *files, "--web.listen-address=127.0.0.1:0") as exporter:
        assert await exporter.process.wait() == 2
        assert exporter.said("version 99", "--storage.path")


async def test_without_a_folder_for_its_history_it_probes_all_the_same(tmp_path: Path, storage: str) -> None:
    config = write(tmp_path / "exporter.yaml", target("media", storage, new_bucket(storage)))
    nowhere = tmp_path / "gone" / "r2-exporter.db"
    async with spawned(
        "serve", f"--config.file={config}", f"--storage.path={nowhere}", "--web.listen-address=127.0.0.1:0"
    ) as exporter:
        await eventually(lambda: _said(exporter.lines, "listening"))
        client = Client(exporter.url)
        _, report = await client.get("/probe?target=media&debug=true&operations=list")
        assert "success" in report
        samples: Samples = await client.metrics()
        assert samples("r2_exporter_history_up") == 0
        nowhere.parent.mkdir()
        await eventually(lambda: client.has_more(0, "r2_exporter_history_written_total"))
        assert (await client.metrics())("r2_exporter_history_up") == 1
        assert await exporter.end() == 0
    with closing(sqlite3.connect(nowhere)) as connection:
        assert connection.execute("SELECT operation FROM r2_health_checks").fetchall() == [("list",)]
