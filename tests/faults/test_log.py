"""Whoever reads the log has stopped: a log driver that hangs, a terminal that is held, a slow disk."""

import fcntl
from pathlib import Path

import aiohttp

from exporter.outcome import Operation
from tests.faults.kinds import KINDS
from tests.faults.server import fault_server
from tests.faults.watch import Watch
from tests.running import Client, Spawned, eventually, serving_command, target, until, write

NAMES = [f"t{number}" for number in range(8)]
PIPE = 4096
"""Bytes that the log's pipe takes: of the lines of a few transitions no more fits."""
MANY = 50
"""Transitions of breakers; each is a line of more than a hundred bytes."""


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
