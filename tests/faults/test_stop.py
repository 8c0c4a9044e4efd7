"""SIGTERM on a bad day: it ends in time, leaves nothing in the bucket, and says nothing that was not so."""

import asyncio
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest

from exporter.outcome import Operation
from tests.alertmanager.rig import member
from tests.faults.locks import locked
from tests.faults.pipes import fill
from tests.faults.server import Call, fault_server, s3_error, send, send_and_linger
from tests.faults.watch import rows
from tests.running import (
    DEADLINE,
    Client,
    Spawned,
    eventually,
    serving_command,
    spawned,
    target,
    until,
    write,
)

TIMEOUT = 1.0
HANGING = send_and_linger(b"")
EVERYTHING = [str(operation) for operation in Operation]


def probed(name: str, endpoint: str, **more: object) -> dict[str, Any]:
    probe = {"interval": "1s", "timeout": f"{TIMEOUT:g}s", "operations": EVERYTHING}
    return target(name, endpoint, "bucket", probe=probe, **more)


@contextmanager
def reader_of_nothing(url: str) -> Iterator[None]:
    """A scraper that asks for more than a socket's buffers hold, and takes none of it."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
        yield


async def seconds_to_end(exporter: Spawned, number: signal.Signals = signal.SIGTERM) -> float:
    began = time.monotonic()
    assert await exporter.end(number) == 0, exporter.lines
    return time.monotonic() - began


def never_ending_credentials(folder: Path) -> dict[str, str]:
    """An environment in which boto3's chain runs a program that says nothing."""
    (folder / "aws").write_text("[default]\ncredential_process = sleep 60\n")
    return {"AWS_CONFIG_FILE": str(folder / "aws"), "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_in_time_while_everything_it_speaks_with_hangs(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Storage, Alertmanager, the disk, the source of credentials, who scrapes, and who reads the log."""
    async with fault_server() as storage, fault_server() as alertmanager:
        alertmanager.on_connect = HANGING
        chained = probed("chained", storage.endpoint)
        del chained["access_key_id"], chained["secret_access_key"]
        config = write(
            tmp_path / "exporter.yaml",
            probed("media", storage.endpoint),
            probed("dead", "http://127.0.0.1:1"),
            chained,
            alertmanager={"urls": [alertmanager.endpoint]},
        )
        async with serving_command(config, env=never_ending_credentials(tmp_path)) as exporter:
            await until(lambda: exporter.said("alert raised"))
            storage.script.update(dict.fromkeys(Operation, HANGING))
            before = len(storage.requests)
            await until(lambda: len(storage.requests) > before)
            with locked(tmp_path / "r2-exporter.db"), reader_of_nothing(exporter.url):
                exporter.log.pause_reading()
                fill(exporter.log.get_extra_info("pipe"))
                assert await seconds_to_end(exporter, number) < TIMEOUT + 1, exporter.lines
    assert not exporter.said("Traceback"), exporter.lines
    assert alertmanager.connections


@pytest.mark.parametrize("operation", Operation)
async def test_what_is_under_way_is_no_failure_and_leaves_nothing_behind(
    tmp_path: Path, operation: Operation
) -> None:
    """The storage takes its time with one operation, and the signal comes in the middle of it."""
    async with fault_server() as storage:
        held = False

        async def holding(call: Call) -> None:
            """It does what it is asked for, and never says so."""
            nonlocal held
            assert call.request is not None
            storage._reply(call.request)
            held = True
            await call.until_hung_up()

        config = write(tmp_path / "exporter.yaml", probed("media", storage.endpoint))
        async with serving_command(config) as exporter:
            client = Client(exporter.url)
            await eventually(lambda: client.has_more(0, "r2_probes_total", operation="delete"))
            storage.script[operation] = holding
            await until(lambda: held)
            if operation is Operation.DELETE:
                storage.heal()  # for the one that cleans up
            page = await client.metrics()
            assert await seconds_to_end(exporter) < TIMEOUT + 1
    history = tmp_path / "r2-exporter.db"
    assert storage.objects == {}
    assert page("r2_probes_total", result="failure") == 0
    assert rows(history, "SELECT count(*), sum(success) FROM r2_health_checks") == [
        (page("r2_probes_total"), page("r2_probes_total"))
    ]
    assert rows(history, "SELECT count(*) FROM service_alerts") == [(0,)]
    assert rows(history, "SELECT count(*) FROM circuit_breaker_events") == [(0,)]
    assert not exporter.said("level=error"), exporter.lines


async def test_an_alert_that_lasts_is_not_told_to_be_over(tmp_path: Path) -> None:
    """Not by what is sent at the end, nor by the start after it."""
    async with fault_server() as storage, member() as alertmanager:
        storage.script.update(dict.fromkeys(Operation, send(s3_error(503, "SlowDown"))))
        config = write(
            tmp_path / "exporter.yaml",
            probed("media", storage.endpoint),
            alertmanager={"urls": [alertmanager.url]},
        )
        for _ in range(2):
            before = len(alertmanager.bodies)
            async with serving_command(config) as exporter:
                await until(lambda heard=before: len(alertmanager.bodies) > heard)  # type: ignore[misc]
                assert await seconds_to_end(exporter) < TIMEOUT + 1
    told = [alert for body in alertmanager.bodies for alert in body]
    assert "service_degraded" in {alert["labels"]["type"] for alert in told}
    for alert in told:
        assert datetime.fromisoformat(alert["endsAt"]) > datetime.now(UTC), alert
    assert rows(tmp_path / "r2-exporter.db", "SELECT count(*) FROM service_alerts") == [
        (len({alert["labels"]["type"] for alert in told}),)
    ]


@contextmanager
def hanging_file() -> Iterator[Path]:
    """For who reads it, as on a mount whose server is gone; here it is a pipe under /dev."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        pipe = Path(folder) / "pipe"
        os.mkfifo(pipe)
        yield pipe


@asynccontextmanager
async def being_read(pipe: Path) -> AsyncIterator[None]:
    """Within, somebody reads it, and nobody writes."""
    async with asyncio.timeout(DEADLINE):
        writer = await asyncio.to_thread(open, pipe, "w")  # once there is a reader
    with writer:
        yield


def starting(folder: Path, media: dict[str, Any], *more: str) -> AbstractAsyncContextManager[Spawned]:
    files = (
        f"--config.file={write(folder / 'exporter.yaml', media)}",
        f"--storage.path={folder / 'r2-exporter.db'}",
    )
    return spawned("serve", *files, "--web.listen-address=127.0.0.1:0", *more)


def assert_start_was_left(exporter: Spawned) -> None:
    assert exporter.said("stopping before it has begun to probe"), exporter.lines
    assert not exporter.said("Traceback"), exporter.lines
    assert not exporter.said("tasks are left behind"), exporter.lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_start_that_hangs_ends_with_it(tmp_path: Path, number: signal.Signals) -> None:
    """What hangs is a file with a secret."""
    with hanging_file() as pipe:
        media = probed("media", "http://127.0.0.1:1") | {"secret_access_key_file": str(pipe)}
        del media["secret_access_key"]
        async with starting(tmp_path, media) as exporter, being_read(pipe):
            assert await seconds_to_end(exporter, number) < TIMEOUT + 1, exporter.lines
    assert_start_was_left(exporter)


async def test_a_web_side_whose_start_hangs_ends_with_it(tmp_path: Path) -> None:
    with hanging_file() as pipe:
        media = probed("media", "http://127.0.0.1:1")
        async with starting(tmp_path, media, f"--web.config.file={pipe}") as exporter, being_read(pipe):
            assert await seconds_to_end(exporter) < TIMEOUT + 1, exporter.lines
    assert not exporter.said("Traceback"), exporter.lines


async def test_a_start_that_waits_for_the_history_ends_with_it(tmp_path: Path) -> None:
    history = tmp_path / "r2-exporter.db"
    with locked(history):
        async with starting(tmp_path, probed("media", "http://127.0.0.1:1")) as exporter:
            await until(lambda: has_open(exporter, history))
            assert await seconds_to_end(exporter) < TIMEOUT + 1, exporter.lines
    assert_start_was_left(exporter)


def without_keys(name: str) -> dict[str, Any]:
    keys = ("access_key_id", "secret_access_key")
    return {key: value for key, value in probed(name, "http://127.0.0.1:1").items() if key not in keys}


async def test_what_is_unusable_is_told_though_credentials_hang(tmp_path: Path) -> None:
    each = [without_keys(f"t{number}") for number in range(300)]  # one of them is due at once
    files = (
        f"--config.file={write(tmp_path / 'exporter.yaml', *each)}",
        f"--storage.path={tmp_path / 'r2-exporter.db'}",
        "--web.config.file=none",
    )
    async with spawned("serve", *files, env=never_ending_credentials(tmp_path)) as exporter:
        async with asyncio.timeout(DEADLINE):
            assert await exporter.process.wait() == 2
    assert exporter.said("none", "no such file")


async def test_a_check_ends_though_credentials_hang(tmp_path: Path) -> None:
    config = write(tmp_path / "exporter.yaml", without_keys("media"))
    async with spawned("check", f"--config.file={config}", env=never_ending_credentials(tmp_path)) as check:
        async with asyncio.timeout(DEADLINE):
            assert await check.process.wait() == 1
    assert not check.said("Traceback")


def has_open(exporter: Spawned, file: Path) -> bool:
    with suppress(FileNotFoundError):  # one that was closed just now
        return file in [each.readlink() for each in Path(f"/proc/{exporter.process.pid}/fd").iterdir()]
    return False


async def test_a_reload_that_hangs_ends_with_it(tmp_path: Path) -> None:
    async with fault_server() as storage:
        with hanging_file() as secret:
            secret.unlink()
            secret.write_text("kept\n")
            media = probed("media", storage.endpoint) | {"secret_access_key_file": str(secret)}
            del media["secret_access_key"]
            async with serving_command(write(tmp_path / "exporter.yaml", media)) as exporter:
                secret.unlink()
                os.mkfifo(secret)
                exporter.process.send_signal(signal.SIGHUP)
                async with being_read(secret):
                    assert await seconds_to_end(exporter) < TIMEOUT + 1, exporter.lines
    assert not exporter.said("tasks are left behind"), exporter.lines
    assert not exporter.said("Traceback"), exporter.lines


async def test_a_login_that_was_checked_keeps_nothing_from_ending(tmp_path: Path) -> None:
    """bcrypt has a thread of its own."""
    (tmp_path / "web.yml").write_text(
        f"basic_auth_users: {{ops: {bcrypt.hashpw(b'open', bcrypt.gensalt(4)).decode()}}}"
    )
    config = write(tmp_path / "exporter.yaml", probed("media", "http://127.0.0.1:1"))
    async with serving_command(config, f"--web.config.file={tmp_path / 'web.yml'}") as exporter:
        login = aiohttp.encode_basic_auth("ops", "open")
        assert (await Client(exporter.url).get("/metrics", Authorization=login))[0] == 200
        assert await seconds_to_end(exporter) < TIMEOUT + 1, exporter.lines
    assert not exporter.said("threads are left behind"), exporter.lines
