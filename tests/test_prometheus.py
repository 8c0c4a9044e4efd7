"""A real Prometheus scrapes the exporter, which probes a real S3 server; PromQL reads it back."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from exporter.demo import DemoStorage
from exporter.outcome import Operation
from tests.prometheus import Prometheus, prometheus
from tests.running import running

OPERATIONS = {f"operation={operation}" for operation in Operation}
PATIENCE_SECONDS = 60

SCRAPE = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: exporter
    static_configs: [{{targets: ["{address}"]}}]
  - job_name: probe
    http_sd_configs: [{{url: "{url}/sd"}}]
"""


@pytest.fixture
async def exporter_url(tmp_path: Path) -> AsyncIterator[str]:
    async with DemoStorage(scene="healthy") as storage:
        config = tmp_path / "exporter.yaml"
        config.write_text(storage.settings_text().replace("interval: 5s", "interval: 1s"))
        async with running(config) as exporter:
            yield exporter.url


@pytest.fixture
async def scraped(exporter_url: str, tmp_path: Path) -> AsyncIterator[Prometheus]:
    address = exporter_url.removeprefix("http://")
    async with prometheus(tmp_path, SCRAPE.format(address=address, url=exporter_url)) as server:
        yield server


async def until(
    ask: Callable[[], Awaitable[dict[str, float]]], good: Callable[[dict[str, float]], bool]
) -> dict[str, float]:
    """Asks until the answer is good. The last answer is what a failure shows."""
    answer: dict[str, float] = {}
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not good(answer := await ask()):
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail(f"never came true; the last answer was {answer}")
    return answer


async def test_promql_reads_back_what_was_probed(scraped: Prometheus) -> None:
    up = await until(lambda: scraped.query('up{job="exporter"}'), lambda found: found == {"": 1})
    assert up == {"": 1}

    ratio = (
        'sum by (operation) (rate(r2_probes_total{job="exporter",result="success"}[20s]))'
        ' / sum by (operation) (rate(r2_probes_total{job="exporter"}[20s]))'
    )
    # NaN is 0/0: not probed yet.
    success = await until(lambda: scraped.query(ratio), lambda found: set(found.values()) == {1.0})
    assert set(success) == OPERATIONS

    quantile = (
        "histogram_quantile(0.99, sum by (operation, le) "
        '(rate(r2_probe_duration_seconds_bucket{job="exporter",target="media"}[20s])))'
    )
    p99 = await until(
        lambda: scraped.query(quantile),
        lambda found: set(found) == OPERATIONS and all(0 < seconds < 5 for seconds in found.values()),
    )
    assert set(p99) == OPERATIONS


async def test_the_queries_of_the_readme_work(scraped: Prometheus) -> None:
    readme = Path(__file__).parents[1].joinpath("README.md").read_text()
    queries = re.findall(r"^\| [^|]+\? \| `(.+)` \|$", readme, re.MULTILINE)
    assert len(queries) == 7
    for query in queries:
        if "errors" in query:
            assert await scraped.query(query) == {}, "nothing fails here"
        else:
            await until(partial(scraped.query, query), bool)


async def test_service_discovery_makes_prometheus_probe_each_target(scraped: Prometheus) -> None:
    up = await until(
        lambda: scraped.query('count by (target) (r2_probe_success{job="probe"} == 1)'),
        lambda found: found == {"target=media": 5, "target=backups": 5},
    )
    assert up

    both = await scraped.query('sum(up{job="probe",instance=~"media|backups"})')
    assert both == {"": 2}
    # Each answer holds its own target alone.
    strangers = await scraped.query('r2_probe_success{job="probe",instance="media",target!="media"}')
    assert strangers == {}


async def test_prometheus_keeps_the_request_id_as_an_exemplar(scraped: Prometheus) -> None:
    async def exemplars() -> dict[str, float]:
        found = await scraped.get(
            "query_exemplars", query="r2_probe_duration_seconds_bucket", start="0", end="9999999999"
        )
        return {
            exemplar["labels"]["request_id"]: float(exemplar["value"])
            for series in found
            for exemplar in series["exemplars"]
        }

    found = await until(exemplars, lambda found: len(found) > 0)
    assert all(request_id and 0 < seconds < 5 for request_id, seconds in found.items())
