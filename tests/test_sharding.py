"""Several exporters, or several Prometheus servers, divide the targets: each is probed by exactly one."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from exporter.shard import shard_of
from tests.prometheus import prometheus
from tests.running import (
    Client,
    Spawned,
    demo_server,
    eventually,
    new_bucket,
    run,
    serving_command,
    target,
    write,
)

NAMES = [f"bucket-{number:02d}" for number in range(12)]
SHARDS = 3


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with demo_server() as url:
        yield url


@pytest.fixture
def config(storage: str, tmp_path: Path) -> Path:
    bucket = new_bucket(storage)
    targets = [
        target(name, storage, bucket, probe={"interval": "1s", "operations": ["list"]}) for name in NAMES
    ]
    return write(tmp_path / "exporter.yaml", *targets)


async def shards(stack: AsyncExitStack, config: Path) -> list[Spawned]:
    """All of them over one configuration, each with a history of its own."""
    started = []
    for number in range(SHARDS):
        folder = config.parent / str(number)
        folder.mkdir()
        own = folder / config.name
        own.symlink_to(config)
        flags = (f"--shard={number}", f"--total-shards={SHARDS}")
        started.append(await stack.enter_async_context(serving_command(own, *flags)))
    return started


async def test_each_target_has_one_exporter(config: Path, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        urls = [each.url for each in await shards(stack, config)]
        addresses = [url.removeprefix("http://") for url in urls]
        scrape = f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: r2
    static_configs: [{{targets: {json.dumps(addresses)}}}]
"""
        server = await stack.enter_async_context(prometheus(tmp_path, scrape))
        wanted = {f"target={name}": 1.0 for name in NAMES}

        async def all_up() -> bool:
            return await server.query("count by (target) (r2_target_up == 1)") == wanted

        await eventually(all_up)
        assert await server.query("sum(r2_exporter_total_shards)") == {"": SHARDS**2}
        assert await server.query(
            "count(count by (r2_exporter_shard_ordinal) (r2_exporter_shard_ordinal))"
        ) == {"": 1}
        for number, url in enumerate(urls):
            client = Client(url)
            mine = [name for name in NAMES if shard_of(name, SHARDS) == number]
            assert [
                entry["labels"]["__param_target"] for entry in json.loads((await client.get("/sd"))[1])
            ] == mine
            health = json.loads((await client.get("/api/health"))[1])
            assert (health["shard"], health["totalShards"]) == (number, SHARDS)
            assert [each["target"] for each in health["targets"]] == mine
            assert f"shard {number} of {SHARDS}" in (await client.get("/"))[1]
            for path in ("/api/health/history", "/api/health/alerts", "/probe?target=nobody"):
                assert await header(url + path, "X-R2-Exporter-Shard") == f"{number}/{SHARDS}"


async def header(url: str, name: str) -> str | None:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.headers.get(name)


async def test_who_asks_the_wrong_one_is_told_the_right_one(config: Path) -> None:
    async with AsyncExitStack() as stack:
        urls = [each.url for each in await shards(stack, config)]
        name = NAMES[0]
        right = shard_of(name, SHARDS)
        wrong = Client(urls[(right + 1) % SHARDS])
        for path in (f"/probe?target={name}", f"/api/health/config?target={name}"):
            status, body = await wrong.get(path)
            assert status == 404
            assert f"shard {right} has it" in json.loads(body)["error"]["message"]
        assert (await Client(urls[right]).get(f"/probe?target={name}"))[0] == 200


async def test_a_shard_without_targets_runs(config: Path) -> None:
    empty = next(number for number in range(100) if all(shard_of(name, 100) != number for name in NAMES))
    async with serving_command(config, f"--shard={empty}", "--total-shards=100") as alone:
        client = Client(alone.url)
        assert (await client.get("/-/ready"))[0] == 200
        assert json.loads((await client.get("/sd"))[1]) == []
        assert (await client.metrics())("r2_exporter_shard_ordinal") == empty
        for path in ("/", "/api/health", "/api/health/metrics", "/api/health/alerts"):
            assert (await client.get(path))[0] == 200


def test_a_mistake_in_another_s_target_is_found(config: Path) -> None:
    config.write_text(config.read_text().replace("interval: 1s", "interval: never", 1))
    for number in range(SHARDS):
        done = run("serve", f"--config.file={config}", f"--shard={number}", f"--total-shards={SHARDS}")
        assert done.returncode == 2
        assert "expected a duration" in done.stderr


@pytest.fixture
def on_demand(config: Path) -> Path:
    config.write_text("probe: {enabled: false}\n" + config.read_text())
    return config


async def test_two_prometheus_servers_divide_the_targets_of_one_exporter(
    on_demand: Path, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        url = (await stack.enter_async_context(serving_command(on_demand))).url
        servers = []
        for number in range(2):
            folder = tmp_path / f"prometheus-{number}"
            folder.mkdir()
            scrape = f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: r2-probe
    http_sd_configs: [{{url: "{url}/sd"}}]
    relabel_configs:
      - {{source_labels: [__param_target], modulus: 2, target_label: __tmp_shard, action: hashmod}}
      - {{source_labels: [__tmp_shard], regex: "{number}", action: keep}}
"""
            servers.append(await stack.enter_async_context(prometheus(folder, scrape)))

        async def seen() -> bool:
            found = await asyncio.gather(
                *(each.query("count by (target) (r2_target_up)") for each in servers)
            )
            counts = Counter(name for each in found for name in each)
            assert all(count == 1 for count in counts.values())
            return set(counts) == {f"target={name}" for name in NAMES} and all(found)

        await eventually(seen)
