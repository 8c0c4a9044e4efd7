"""`python -X dev`, where aiohttp looks at the whole stack for each connection that it takes."""

from pathlib import Path

from tests.faults.server import fault_server
from tests.running import Client, eventually, serving_command, target, write

ROUND = """
import itertools, sys, traceback
from exporter.cli import main
traceback.walk_stack = lambda frame: itertools.repeat((frame or sys._getframe(), 1))
main()
"""
"""As CPython 3.11 was seen to do once in an hour: a stack that goes round has no end."""


async def test_a_stack_that_goes_round_ends(tmp_path: Path) -> None:
    async with fault_server() as storage:
        media = target("media", storage.endpoint, "bucket", probe={"interval": "1s"})
        config = write(tmp_path / "exporter.yaml", media)
        async with serving_command(config, program=("-X", "dev", "-c", ROUND)) as exporter:
            client = Client(exporter.url)
            await eventually(lambda: client.has("r2_target_up"))
            await eventually(lambda: client.has_value(1, "r2_target_up", target="media"))
            assert await exporter.end() == 0
