"""A storage as its owner sees it, exporters that are killed, and the clock of both."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp

from exporter.outcome import Operation
from tests.faults.clock import Clock
from tests.hostile.tempting import SHAPE
from tests.running import Client, serving_command, target

Objects = dict[str, list[list[str]]]
"""What a storage holds: its keys, each with its bucket before it, and their versions."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Looks at a storage without asking for anything that S3 has."""

    url: str
    session: aiohttp.ClientSession

    async def objects(self) -> Objects:
        found: Objects = await self._told("objects")
        return found

    async def present(self) -> set[str]:
        """The keys that a GET would find."""
        return set(await self._told("present"))

    async def changes(self) -> list[tuple[str, str]]:
        """The methods and keys, the bucket before each, of all that it was asked to change."""
        return [(method, unquote(path[1:])) for method, path in (await self._told("asked"))["changes"]]

    async def sweeps(self) -> Counter[str]:
        """How often a sweep has read the listing of a place to its end."""
        return Counter((await self._told("asked"))["sweeps"])

    async def has_swept(self, places: Sequence[str], since: Counter[str]) -> bool:
        """Whether each was swept since then, as often as it is among `places`."""
        return Counter(places) <= await self.sweeps() - since

    async def has_probed(self, places: Sequence[str], since: int) -> bool:
        """Whether a whole run of each place lies behind the first `since` changes."""
        puts = await self._written(places, since)
        return all(sum(path.startswith(place) for path in puts) > 1 for place in places)

    async def left_in(self, places: Sequence[str]) -> set[str]:
        """The keys that were written to these places, and are present."""
        return set(await self._written(places)) & await self.present()

    async def _written(self, places: Sequence[str], since: int = 0) -> list[str]:
        """By the exporter that has these places, not by one whose prefix begins as one of them."""
        puts = [path for method, path in (await self.changes())[since:] if method == "PUT"]
        return [path for path in puts if any(_is_in(place, path) for place in places)]

    async def put(self, path: str) -> None:
        async with self.session.put(f"{self.url}/{path}", data=b"of somebody else") as answer:
            assert answer.status == 200

    async def _told(self, what: str) -> Any:
        async with self.session.get(f"{self.url}/-/{what}") as answer:
            return await answer.json(content_type=None)


def _is_in(place: str, path: str) -> bool:
    return path.startswith(place) and SHAPE.fullmatch(path, len(place)) is not None


@asynccontextmanager
async def storage_of(
    buckets: Mapping[str, Sequence[str]], clock: Clock, chance: random.Random
) -> AsyncIterator[Owner]:
    """A storage with these keys in its buckets."""
    stock = clock.file.with_name("stock.json")
    stock.write_text(json.dumps({"seed": chance.random(), "buckets": buckets}))
    command = [sys.executable, "-m", "tests.hostile.warehouse", str(stock)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, env={**os.environ, **clock.env}
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with aiohttp.ClientSession() as session:
            yield Owner((await process.stdout.readline()).decode().strip(), session)
    finally:
        process.stdin.close()
        await process.wait()


def changed_by_us(changes: list[tuple[str, str]], prefixes: Sequence[str], since: float) -> set[str]:
    """The keys that were put or deleted, all of our form and made `since`; nothing else was asked for.

    Some are deleted that never arrived: of a PUT that is given up nobody knows whether it did.
    """
    first = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(since))
    for method, path in changes:
        key = path.partition("/")[2]
        ours = [SHAPE.fullmatch(key, len(each)) for each in prefixes if key.startswith(each)]
        assert method in ("PUT", "DELETE"), (method, path)
        assert any(match is not None and first <= match["stamp"] < "2090" for match in ours), path
    return {path for _, path in changes}


def probing(url: str, places: Sequence[str], **probe: object) -> list[dict[str, Any]]:
    """A target for each place, which is a bucket and a prefix."""
    common = {"interval": "1s", "operations": [str(each) for each in Operation], **probe}
    return [
        target(f"t{number}", url, bucket, probe=common | {"key_prefix": prefix}, breaker={"enabled": False})
        for number, (bucket, _, prefix) in enumerate(place.partition("/") for place in places)
    ]


async def life(config: Path, clock: Clock, meanwhile: Awaitable[None]) -> None:
    """An exporter that is asked for probes without a pause, and killed after `meanwhile`."""
    async with serving_command(config, env=clock.env) as exporter:
        caller = asyncio.create_task(_ask_on(exporter.url))
        await meanwhile
        await exporter.end(signal.SIGKILL)
        await caller


async def _ask_on(url: str) -> None:
    with suppress(aiohttp.ClientError):
        while True:
            await Client(url).post("/api/health/check")
