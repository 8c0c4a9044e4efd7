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
