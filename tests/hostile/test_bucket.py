"""What else lies in a bucket stays as it is, whatever becomes of the exporter; and of its own nothing stays.

The exporters and the storage are processes whose clocks go on by the hour.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.faults.clock import Clock
from tests.hostile.effort import times
from tests.hostile.owner import Owner, changed_by_us, life, probing, storage_of
from tests.hostile.tempting import tempting
from tests.running import DEADLINE, eventually, serving_command, write
from tests.stores import key_at

MINUTE, HOUR = 60.0, 3600.0
PREFIXES = (".r2-exporter/", ".r2-exporter/x/", "data/")
PLACES = (
    ("plain/.r2-exporter/", "plain/data/", "versioned/.r2-exporter/"),
    ("plain/.r2-exporter/x/", "versioned/data/"),
)
"""Of two exporters; a prefix of the second begins with one of the first's."""

HOURS, KILLS = 12, 10
Record = Callable[[str, object], None]


@pytest.fixture
def chance(record_property: Record) -> random.Random:
    seed = int(os.environ.get("R2_EXPORTER_SEED", random.randrange(1 << 32)))
    record_property("seed", seed)
    return random.Random(seed)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    it = Clock(tmp_path / "clock")
    it.move(0)
    return it


async def test_a_bucket_is_the_same_after_hours_of_sweeps_probes_and_kills(
    tmp_path: Path, clock: Clock, chance: random.Random, record_property: Record
) -> None:
    """Half a day, and five days in `make soak`: in each hour each place is swept, and probed for a moment."""
    began = time.time()
    names = {"plain": tempting(PREFIXES, 8000, chance), "versioned": tempting(PREFIXES, 2000, chance)}
    async with storage_of(names, clock, chance) as owner:
        before = await owner.objects()
        assert len(before) == 10_000
        day = Day(owner, clock, chance)
        configs = [configured(tmp_path / str(number), owner, places) for number, places in enumerate(PLACES)]
        async with asyncio.TaskGroup() as tasks:
            for config, places in zip(configs, PLACES, strict=True):
                tasks.create_task(day.through(config, places))
        sweeps = await owner.sweeps()
        assert min(sweeps[place] for places in PLACES for place in places) >= times(HOURS)
        assert day.kills >= times(HOURS) / 2
        assert day.left
        written = {path for method, path in await owner.changes() if method == "PUT"}
        assert len(written) >= 2 * sweeps.total()
        last = (await owner.present()) - before.keys()
        async with AsyncExitStack() as stack:
            for config, places in zip(configs, PLACES, strict=True):
                configured(config.parent, owner, places, enabled=False)
            final = [
                await stack.enter_async_context(serving_command(each, env=clock.env)) for each in configs
            ]
            clock.move(HOUR)
            await gone(owner, last)
            assert [await exporter.end() for exporter in final] == [0, 0]
        after = await owner.objects()
        ours = changed_by_us(await owner.changes(), PREFIXES, began)
        assert day.left <= ours
        assert not ours & before.keys()
        assert {key: versions for key, versions in after.items() if key not in ours} == before
        assert not (await owner.present()) & ours
        record_property("probes", len(written))
        record_property("kills", day.kills)
        record_property("left by kills", len(day.left))
        record_property("sweeps", sweeps.total())


@dataclass(slots=True)
class Day:
    """Two exporters' hours, which they enter together."""

    owner: Owner
    clock: Clock
    chance: random.Random
    hour: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(len(PLACES)))
    kills: int = 0
    left: set[str] = field(default_factory=set)

    async def through(self, config: Path, places: Sequence[str]) -> None:
        """One life of an exporter after the other, of some hours each."""
        hours = times(HOURS)
        while hours:
            number = min(hours, self.chance.randint(1, 3))
            hours -= number
            await life(config, self.clock, self._pass(number, places))
            self.kills += 1
            self.left |= await self.owner.left_in(places)

    async def _pass(self, hours: int, places: Sequence[str]) -> None:
        """A sweep is over, and may be due again, once what it found is gone and probes were run since."""
        for _ in range(hours):
            swept, old = await self.owner.sweeps(), self.left & await self.owner.left_in(places)
            if await self.hour.wait() == 0:
                self.clock.move(HOUR)
            await eventually(partial(self.owner.has_swept, places, swept))
            await gone(self.owner, old)
            probed = len(await self.owner.changes())
            await eventually(partial(self.owner.has_probed, places, probed))
        await asyncio.sleep(self.chance.uniform(0, 0.5))


def configured(folder: Path, owner: Owner, places: Sequence[str], **probe: object) -> Path:
    folder.mkdir(exist_ok=True)
    targets = probing(owner.url, places, **probe)
    return write(folder / "exporter.yaml", *targets, exporter={"instance": "x"})


async def gone(owner: Owner, keys: set[str]) -> None:
    """Waits until none of them is stored any more."""
    async with asyncio.timeout(times(2) * DEADLINE):
        while keys & await owner.present():
            await asyncio.sleep(0.1)


async def test_what_kills_leave_is_gone_after_an_hour(
    tmp_path: Path, clock: Clock, chance: random.Random, record_property: Record
) -> None:
    """Nothing is that another exporter has written to the same places since, not even by a wrong clock."""
    async with storage_of({"plain": ["somebody's"]}, clock, chance) as owner:
        places = [f"plain/{prefix}" for prefix in PREFIXES for _ in range(4)]
        config = configured(tmp_path, owner, places)
        for _ in range(times(KILLS)):
            await life(config, clock, asyncio.sleep(chance.uniform(0, 0.7)))
        left = (await owner.present()) - {"plain/somebody's"}
        record_property("left by kills", len(left))
        assert len(left) >= times(KILLS)
        configured(tmp_path, owner, places, enabled=False)
        then = time.time() + clock.ahead + HOUR
        others = {f"plain/{key_at(then - age * MINUTE, PREFIXES[age % 3], 'other')}" for age in range(50)}
        for key in others:
            await owner.put(key)
        async with serving_command(config, env=clock.env) as exporter:
            clock.move(HOUR)
            await gone(owner, left)
            assert await exporter.end() == 0
        assert await owner.present() == {"plain/somebody's", *others}
        wrong = Clock(tmp_path / "wrong")
        wrong.move(clock.ahead + 1000 * HOUR)
        async with serving_command(config, env=wrong.env) as exporter:
            swept = await owner.sweeps()
            wrong.move(HOUR)
            await eventually(partial(owner.has_swept, places, swept))
            assert await exporter.end() == 0
        assert await owner.present() == {"plain/somebody's", *others}
