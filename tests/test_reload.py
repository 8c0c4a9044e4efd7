"""Reload: targets come, go and change while the others go on as if nothing had happened."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exporter import app as wiring
from exporter.config import ConfigError
from tests.running import (
    Client,
    Running,
    Samples,
    demo_server,
    eventually,
    gate,
    new_bucket,
    objects_in,
    running,
    serving_command,
    spawned,
    target,
    until,
    write,
)
from tests.stores import Bucket, key_at

FAST = {"interval": "1s", "operations": ["put", "get", "delete"]}
BROKEN = """\
probe: {intervall: 5s}
targets:
  - name: kept
    bucket: x
    endpoint: not a url
"""


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with demo_server() as endpoint:
        yield endpoint


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "exporter.yaml"


def spoil(config: Path) -> None:
    config.write_text(BROKEN)


async def reload(exporter: Running) -> None:
    status, text = await exporter.post("/-/reload")
    assert status == 200, text


# --- the command, by both ways ---


@pytest.mark.parametrize("way", ["SIGHUP", "POST"])
async def test_targets_come_and_go_in_one_process(storage: str, config: Path, way: str) -> None:
    kept = target("kept", storage, new_bucket(storage), probe=FAST)
    gone = target("gone", storage, new_bucket(storage), probe=FAST)
    new = target("new", storage, new_bucket(storage), probe=FAST)
    write(config, kept, gone)
    async with serving_command(config) as exporter:
        client = Client(exporter.url)

        async def reload_now() -> None:
            if way == "SIGHUP":
                exporter.process.send_signal(signal.SIGHUP)
            else:
                await client.post("/-/reload")

        await eventually(lambda: client.has("r2_probe_success", target="gone", operation="delete"))
        await eventually(lambda: client.has("r2_probe_success", target="kept", operation="delete"))
        before = await client.metrics()
        write(config, kept, new)
        await reload_now()
        await eventually(lambda: client.has("r2_probe_success", target="new", operation="delete"))
        after = await client.metrics()
        assert after.targets() == {"kept", "new"}
        assert_only_grown(before, after, "kept")
        assert after("process_start_time_seconds") == before("process_start_time_seconds")

        spoil(config)
        await reload_now()
        await until(lambda: len(exporter.said("configuration not reloaded")) >= 3)
        failed = await client.metrics()
        assert failed("r2_exporter_config_last_reload_successful") == 0
        probed = failed("r2_probes_total", target="kept")
        await eventually(lambda: client.has_more(probed, "r2_probes_total", target="kept"))

        write(config, kept)
        await reload_now()
        await eventually(lambda: client.has_value(1, "r2_exporter_config_last_reload_successful"))
        last = await client.metrics()
        assert last.targets() == {"kept"}
        assert_only_grown(after, last, "kept")
        stamp = "r2_exporter_config_last_reload_success_timestamp_seconds"
        assert last(stamp) > before(stamp)
        assert await exporter.end() == 0
    assert not exporter.said("Traceback")
    assert objects_in(storage, kept["bucket"]) == 0


def assert_only_grown(before: Samples, after: Samples, name: str) -> None:
    counters = before.counters(name)
    assert counters
    now = after.counters(name)
    assert not {key: (value, now.get(key)) for key, value in counters.items() if now.get(key, -1) < value}


# --- inside this process ---


async def test_an_unchanged_target_keeps_its_probe_and_its_turn(storage: str, config: Path) -> None:
    kept, other = (target(name, storage, new_bucket(storage)) for name in ("kept", "other"))
    write(config, kept, other)
    async with running(config) as exporter:
        probe = exporter.app.targets["kept"].probe
        await exporter.get("/probe?target=kept")
        before = await exporter.metrics()
        write(config, kept, other | {"labels": {"team": "web"}}, history={"retention": "1d"})
        await reload(exporter)
        assert exporter.app.targets["kept"].probe is probe
        after = await exporter.metrics()
        assert after.counters("kept") == before.counters("kept")
        assert after("r2_target_info", target="other", team="web") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"probe": {"interval": "2s"}},
        {"probe": {"interval": "1d", "timeout": "1s"}},
        {"labels": {"team": "web"}},
        {"secret_access_key": "another-secret"},
        {"breaker": {"failure_threshold": 7}},
    ],
    ids=str,
)
async def test_a_changed_target_is_probed_anew_with_its_counters(
    storage: str, config: Path, change: dict[str, object]
) -> None:
    before = target("media", storage, new_bucket(storage))
    async with running(write(config, before)) as exporter:
        await exporter.get("/probe?target=media")
        counted = await exporter.metrics()
        probe = exporter.app.targets["media"].probe
        write(config, before | change)
        await reload(exporter)
        assert exporter.app.targets["media"].probe is not probe
        await exporter.get("/probe?target=media")
        after = await exporter.metrics()
        assert_only_grown(counted, after, "media")
        assert after("r2_probes_total", result="success") >= 2 * counted("r2_probes_total", result="success")


async def test_a_new_interval_takes_effect(storage: str, config: Path) -> None:
    rare = target("media", storage, new_bucket(storage))
    async with running(write(config, rare)) as exporter:
        write(config, rare | {"probe": {"interval": "1s"}})
        await reload(exporter)
        await eventually(lambda: exporter.has_more(0, "r2_probes_total", operation="put"))
        assert (await exporter.metrics())("r2_config_threshold", name="check_interval_seconds") == 1


async def test_another_bucket_is_probed_from_then_on(storage: str, config: Path) -> None:
    async with gate(storage) as front:
        first, second = new_bucket(storage), new_bucket(storage)
        async with running(write(config, target("media", front.url, first))) as exporter:
            await exporter.get("/probe?target=media")
            old = len(front.requests)
            write(config, target("media", front.url, second))
            await reload(exporter)
            await exporter.get("/probe?target=media")
            assert old == 3
            assert all(f"/{second}" in request for request in front.requests[old:])
            assert len(front.requests) == 2 * old
            info = (await exporter.metrics())("r2_target_info", bucket=second)
    assert info == 1


async def test_operations_that_are_no_longer_probed_lose_their_series(storage: str, config: Path) -> None:
    media = target("media", storage, new_bucket(storage), probe=FAST | {"interval": "1d"})
    async with running(write(config, media)) as exporter:
        await exporter.get("/probe?target=media")
        write(config, media | {"probe": {"interval": "1d", "operations": ["list", "put", "delete"]}})
        await reload(exporter)
        after = await exporter.metrics()
    assert after("r2_probes_total", operation="list") == 0
    assert after("r2_probes_total", operation="put") == 1
    with pytest.raises(KeyError):
        after("r2_probes_total", operation="get")


async def test_secrets_are_read_again_from_their_files(storage: str, config: Path) -> None:
    (config.parent / "key").write_text("first-secret-key\n")
    media = target("media", storage, new_bucket(storage))
    del media["secret_access_key"]
    async with running(write(config, media | {"secret_access_key_file": "key"})) as exporter:
        for secret in ("first-secret-key", "second-secret-key"):
            (config.parent / "key").write_text(f"{secret}\n")
            await reload(exporter)
            held = exporter.app.targets["media"].settings.secret_access_key
            assert held is not None
            assert held.get_secret_value() == secret
        (config.parent / "key").unlink()
        status, text = await exporter.post("/-/reload")
        assert (status, "secret_access_key_file" in text) == (500, True)


async def test_a_changed_instance_names_the_keys_from_then_on(storage: str, config: Path) -> None:
    async with gate(storage) as front:
        media = target("media", front.url, new_bucket(storage))
        async with running(write(config, media, exporter={"instance": "first"})) as exporter:
            await exporter.get("/probe?target=media")
            write(config, media, exporter={"instance": "second"})
            await reload(exporter)
            await exporter.get("/probe?target=media")
        instances = [request.split("/.r2-exporter/")[1].split("/")[0] for request in front.requests]
    assert instances == ["first"] * 3 + ["second"] * 3


async def test_an_invalid_file_says_every_problem_and_changes_nothing(storage: str, config: Path) -> None:
    media = target("media", storage, new_bucket(storage))
    async with running(write(config, media)) as exporter:
        spoil(config)
        with capture_logs() as logs:
            status, text = await exporter.post("/-/reload")
        error = json.loads(text)["error"]
        assert (status, error["code"]) == (500, "invalid_configuration")
        places = [(detail["path"], detail["line"]) for detail in error["details"]]
        assert places == [("probe.intervall", 1), ("targets[0].bucket", 4), ("targets[0].endpoint", 5)]
        assert "interval" in error["details"][0]["message"]
        assert len([line for line in logs if line["event"] == "configuration not reloaded"]) == len(places)
        assert set(exporter.app.targets) == {"media"}
        assert (await exporter.get("/probe?target=media"))[0] == 200
        assert (await exporter.metrics())("r2_exporter_config_last_reload_successful") == 0
        write(config, media)
        await reload(exporter)
        assert (await exporter.metrics())("r2_exporter_config_last_reload_successful") == 1


async def test_an_invalid_web_config_is_a_failed_reload_too(storage: str, config: Path) -> None:
    media = target("media", storage, new_bucket(storage))
    web_config = config.parent / "web.yml"
    web_config.write_text("{}")
    async with running(write(config, media), web_config=web_config) as exporter:
        web_config.write_text("basic_auth_users: {alice: plain}")
        write(config, media, target("new", storage, "bucket"))
        status, text = await exporter.post("/-/reload")
        assert (status, "bcrypt" in text) == (500, True)
        assert (await exporter.metrics())("r2_exporter_config_last_reload_successful") == 0
        assert set(exporter.app.targets) == {"media"}


async def test_a_run_under_way_ends_well_and_leaves_nothing(storage: str, config: Path) -> None:
    async with gate(storage) as front:
        bucket = new_bucket(storage)
        media = target("media", front.url, bucket)
        async with running(write(config, media)) as exporter:
            front.close()
            asking = asyncio.create_task(exporter.get("/probe?target=media&debug=true"))
            await until(lambda: front.held == 1)
            write(config, media | {"labels": {"team": "web"}})
            await reload(exporter)
            front.open()
            status, report = await asking
            assert (status, report.count("success")) == (200, 3)
            assert len(front.requests) == 3
            assert (await exporter.metrics())("r2_billed_operations_total", target="media") == 3
        assert objects_in(storage, bucket) == 0


async def test_a_target_removed_in_the_middle_of_its_run_leaves_no_series(storage: str, config: Path) -> None:
    async with gate(storage) as front:
        bucket = new_bucket(storage)
        media, other = target("media", front.url, bucket), target("other", storage, bucket)
        async with running(write(config, media, other)) as exporter:
            front.close()
            asking = asyncio.create_task(exporter.get("/probe?target=media&debug=true"))
            await until(lambda: front.held == 1)
            write(config, other)
            await reload(exporter)
            front.open()
            status, report = await asking
            assert (status, report.count("success")) == (200, 3)
            assert (await exporter.metrics()).targets() == {"other"}
        assert objects_in(storage, bucket) == 0


async def test_an_operation_dropped_in_the_middle_of_a_run_does_not_come_back(
    storage: str, config: Path
) -> None:
    async with gate(storage) as front:
        media = target("media", front.url, new_bucket(storage))
        async with running(write(config, media)) as exporter:
            front.close()
            asking = asyncio.create_task(exporter.get("/probe?target=media"))
            await until(lambda: front.held == 1)
            write(config, media | {"probe": {"interval": "1d", "operations": ["put", "delete"]}})
            await reload(exporter)
            front.open()
            await asking
            assert not await exporter.has("r2_probes_total", operation="get")


async def test_a_sweep_under_way_ends_well_although_its_target_moves(
    storage: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "SWEEP_INTERVAL", 0.2)
    before, after = Bucket(storage), Bucket(storage)
    for key in (key_at(0), key_at(0), "somebody's"):
        before.put(key)
    with capture_logs() as logs:
        async with gate(storage) as front:
            media = target("media", front.url, before.name)
            async with running(write(config, media)) as exporter:
                front.close()
                await until(lambda: front.held)
                write(config, media | {"bucket": after.name})
                await reload(exporter)
                front.open()
                await until(lambda: any(after.name in each for each in front.requests))
                await until(lambda: before.keys() == ["somebody's"])
    assert not [each for each in logs if each["event"] == "leftovers not swept"]


async def test_stopping_right_after_a_reload_leaves_nothing(storage: str, config: Path) -> None:
    async with gate(storage) as front:
        bucket = new_bucket(storage)
        media = target("media", front.url, bucket, probe=FAST)
        async with running(write(config, media)) as exporter:
            await until(lambda: front.requests)
            front.close()
            await until(lambda: front.held == 1)
            write(config, media | {"labels": {"team": "web"}})
            await reload(exporter)
            asyncio.get_running_loop().call_later(0.1, front.open)
        assert objects_in(storage, bucket) == 0


async def test_reloads_at_the_same_time_end_with_the_file_as_it_is(storage: str, config: Path) -> None:
    names = [f"target-{number}" for number in range(5)]
    bucket = new_bucket(storage)
    async with running(write(config, target("first", storage, bucket))) as exporter:
        write(config, *(target(name, storage, bucket) for name in names))
        answers = await asyncio.gather(*(exporter.post("/-/reload") for _ in range(8)))
        assert {status for status, _ in answers} == {200}
        assert set(exporter.app.targets) == set(names)
        assert (await exporter.metrics()).targets() == set(names)


async def test_unusable_at_the_start_is_an_error_and_not_half_an_exporter(config: Path) -> None:
    spoil(config)
    with pytest.raises(ConfigError):
        async with running(config):
            raise AssertionError("it started")


async def test_a_signal_during_the_start_is_a_reload_after_it(storage: str, config: Path) -> None:
    """The signal's default ends a process, and that of a unit may come at any time."""
    write(config, target("media", storage, new_bucket(storage)))
    files = (f"--config.file={config}", f"--storage.path={config.with_name('r2-exporter.db')}")
    async with spawned("serve", *files, "--web.listen-address=127.0.0.1:0") as exporter:
        await until(lambda: holds(exporter.process.pid, signal.SIGHUP) or exporter.said("probing"))
        assert not exporter.said("probing")
        exporter.process.send_signal(signal.SIGHUP)
        await until(
            lambda: exporter.said("configuration reloaded") or exporter.process.returncode is not None
        )
        assert exporter.process.returncode is None


def holds(pid: int, number: signal.Signals) -> bool:
    """Whether a process lets a signal wait."""
    status = Path(f"/proc/{pid}/status").read_text()
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")]
    return bool(int(mask, 16) >> (number - 1) & 1)
