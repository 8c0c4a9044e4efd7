"""Whoever reads the log has stopped: a log driver that hangs, a terminal that is held, a slow disk."""

import fcntl
import os
import subprocess
from pathlib import Path

import aiohttp
import pytest

from exporter.outcome import Operation
from tests.faults.kinds import KINDS
from tests.faults.pipes import PIPE, fill
from tests.faults.server import fault_server
from tests.faults.watch import Watch
from tests.running import (
    DEADLINE,
    Client,
    Spawned,
    command,
    eventually,
    serving_command,
    target,
    until,
    write,
)

NAMES = [f"t{number}" for number in range(8)]
MANY = 50
"""Transitions of breakers; each is a line of more than a hundred bytes, and the log's pipe takes PIPE."""


def stop_reading(exporter: Spawned) -> None:
    exporter.log.pause_reading()
    fcntl.fcntl(exporter.log.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, PIPE)


async def test_a_log_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    async with fault_server() as storage, aiohttp.ClientSession() as session:
        probe = {"interval": "1s", "timeout": "500ms", "operations": [str(each) for each in Operation]}
        each = [
            target(name, storage.endpoint, "bucket", probe=probe, breaker={"recovery_timeout": "1s"})
            for name in NAMES
        ]
        async with serving_command(write(tmp_path / "exporter.yaml", *each)) as exporter:
            client, watch = Client(exporter.url), Watch(exporter, NAMES, 1.0, session)
            await eventually(lambda: client.has("r2_target_up"))
            await eventually(lambda: client.has_value(len(NAMES), "r2_target_up"))
            stop_reading(exporter)
            first = await watch.settled()
            storage.script.update(dict.fromkeys(Operation, KINDS["internal error"]))
            await eventually(lambda: client.has_more(MANY, "r2_circuit_breaker_transitions_total"))
            last = await watch.settled()
            watch.assert_each_turn_counted_once(first, last)
            before = last.samples("r2_circuit_breaker_transitions_total")
            exporter.log.resume_reading()
            await until(lambda: len(exporter.said('msg="circuit breaker')) >= before)
            stop_reading(exporter)
            await eventually(lambda: client.has_more(before + MANY, "r2_circuit_breaker_transitions_total"))
            assert await exporter.end() == 0


def test_it_ends_though_nobody_reads_why(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fill(writing)
    arguments = command("serve", f"--config.file={tmp_path / 'none.yaml'}")
    done = subprocess.run(arguments, stderr=writing, timeout=DEADLINE, check=False)
    os.close(reading)
    os.close(writing)
    assert done.returncode == 2


def test_a_check_waits_for_whoever_reads_why(tmp_path: Path) -> None:
    """As any program does that is waited for itself; also where the pipe was made non-blocking."""
    reading, writing = os.pipe()
    fill(writing)
    os.set_blocking(writing, False)
    arguments = command("check-config", f"--config.file={tmp_path / 'none.yaml'}")
    with subprocess.Popen(arguments, stderr=writing) as check:
        os.close(writing)
        with pytest.raises(subprocess.TimeoutExpired):
            check.wait(2)
        with os.fdopen(reading, "rb") as log:
            assert b"none.yaml" in log.read()
    assert check.returncode == 2
