"""The process of tests/soak/storage.py, from the side of whoever orders it about."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class Storages:
    """The storages' process."""

    process: Process
    endpoints: list[str]
    alertmanager: str

    async def order(self, word: str) -> dict[str, int]:
        """`trouble` or `calm`; what there was until then."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        return await self._hear()

    async def end(self) -> dict[str, int]:
        """Once every connection has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        told = await self._hear()
        assert await self.process.wait() == 0
        return told

    async def _hear(self) -> dict[str, int]:
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            told: dict[str, int] = json.loads(await self.process.stdout.readline())
        return told


@asynccontextmanager
async def storages(servers: int, seed: int) -> AsyncIterator[Storages]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak.storage", str(servers), str(seed)), stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        yield Storages(process, **json.loads(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
