"""Which event loop the exporter runs on."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

PROGRAM = """
import asyncio
from exporter.cli import run_loop

async def say():
    loop = asyncio.get_running_loop()
    print(type(loop).__module__.partition(".")[0], loop.get_debug())

run_loop(say())
"""


@pytest.mark.parametrize(
    ("flags", "env", "said"),
    [
        ([], {}, "uvloop False"),
        (["-X", "dev"], {}, "asyncio True"),
        ([], {"PYTHONASYNCIODEBUG": "1"}, "asyncio True"),
    ],
    ids=["as it is", "python -X dev", "PYTHONASYNCIODEBUG"],
)
def test_uvloop_is_not_debugged(flags: list[str], env: Mapping[str, str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, *flags, "-c", PROGRAM],
        env={**os.environ, "PYTHONDEVMODE": "", "PYTHONASYNCIODEBUG": "", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == said


CLOSING = """
import asyncio, gc
from collections import deque
from exporter.serve import keep_the_loop_free

async def leave():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    keep_the_loop_free()
    kept = deque()
    for _ in range(10_000):
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        kept.append(writer)
        if len(kept) > 200:  # each is old by then
            kept.popleft().close()
    print(sum(type(each).__name__ == "_SelectorSocketTransport" for each in gc.get_objects()))

asyncio.run(leave())
"""


def test_closed_connections_do_not_pile_up_on_asyncios_own_loop() -> None:
    """Both of their ends are here; each refers to itself until it is collected."""
    done = subprocess.run([sys.executable, "-c", CLOSING], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 6_000
