"""Probes that somebody asks for: shared by who asks for the same, one at a time for a target."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from exporter.on_demand import MOST_RUNS, BusyError, OnDemand, StoppingError
from exporter.outcome import Operation
from exporter.target import Run
from tests.running import until

PUT, GET, HEAD, LIST, DELETE = Operation


@dataclass
class Storage:
    """Performs runs once it is let go, and notes them."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[tuple[str, tuple[Operation, ...]]] = field(default_factory=list)
    limits: list[float | None] = field(default_factory=list)
    inside: dict[str, int] = field(default_factory=dict)
    most: int = 0

    async def perform(self, name: str, operations: Sequence[Operation], limit: float | None) -> Run:
        self.begun.append((name, tuple(operations)))
        self.limits.append(limit)
        self.inside[name] = self.inside.get(name, 0) + 1
        self.most = max(self.most, self.inside[name])
        try:
            await self.go.wait()
        finally:
            self.inside[name] -= 1
        if name == "broken":
            raise KeyError(name)
        return Run()


async def test_of_one_target_one_runs_and_the_same_is_shared() -> None:
    storage = Storage()
    on_demand = OnDemand(storage.perform)
    asked: list[Sequence[Operation]] = [(PUT, GET), (GET, PUT), (LIST,), (PUT, GET), (LIST,), (HEAD,)]
    tasks = [asyncio.create_task(on_demand.run("media", each, None)) for each in asked]
    other = asyncio.create_task(on_demand.run("logs", (LIST,), None))
    await until(lambda: len(storage.begun) == 2)
    assert storage.begun == [("media", (PUT, GET)), ("logs", (LIST,))]
    storage.go.set()
    runs = await asyncio.gather(*tasks, other)
    assert storage.most == 1
    assert storage.begun[2:] == [("media", (LIST,)), ("media", (HEAD,))]
    assert runs[0] is runs[1] is runs[3]
    assert runs[2] is runs[4]
    await on_demand.run("media", (PUT, GET), None)
    assert len(storage.begun) == 5


async def test_who_goes_away_takes_nobody_along() -> None:
    storage = Storage()
    on_demand = OnDemand(storage.perform)
    impatient = asyncio.create_task(on_demand.run("media", (PUT,), None))
    patient = asyncio.create_task(on_demand.run("media", (PUT,), None))
    await until(lambda: storage.begun)
    impatient.cancel()
    storage.go.set()
    assert isinstance(await patient, Run)
    assert len(storage.begun) == 1


async def test_the_wait_for_a_turn_is_taken_off_the_limit() -> None:
    storage = Storage()
    on_demand = OnDemand(storage.perform)
    tasks = [asyncio.create_task(on_demand.run("media", (each,), 10.0)) for each in (PUT, LIST)]
    await until(lambda: storage.begun)
    storage.go.set()
    await asyncio.gather(*tasks)
    first, second = storage.limits
    assert first is not None
    assert second is not None
    assert second < first <= 10.0


async def test_a_failure_is_everybodys_and_the_next_one_tries_again() -> None:
    storage = Storage()
    storage.go.set()
    on_demand = OnDemand(storage.perform)
    found = await asyncio.gather(
        *(on_demand.run("broken", (PUT,), None) for _ in range(2)), return_exceptions=True
    )
    assert [type(each) for each in found] == [KeyError, KeyError]
    with pytest.raises(KeyError):
        await on_demand.run("broken", (PUT,), None)
    assert len(storage.begun) == 2


async def test_stopping_cancels_what_runs_and_what_waits() -> None:
    storage = Storage()
    on_demand = OnDemand(storage.perform)
    tasks = [asyncio.create_task(on_demand.run("media", (each,), None)) for each in (PUT, LIST)]
    await until(lambda: storage.begun)
    await on_demand.stop()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found] == [StoppingError, StoppingError]
    with pytest.raises(StoppingError):
        await on_demand.run("media", (PUT,), None)


async def test_only_so_many_different_runs_of_a_target_wait() -> None:
    """Whoever asks each time for something else could fill the memory, and have all of it performed."""
    storage = Storage()
    on_demand = OnDemand(storage.perform)
    tasks = [asyncio.create_task(on_demand.run("media", (PUT,), limit)) for limit in range(1, MOST_RUNS + 1)]
    await until(lambda: storage.begun)
    with pytest.raises(BusyError, match="media"):
        await on_demand.run("media", (PUT,), 99.0)
    shared = asyncio.create_task(on_demand.run("media", (PUT,), 1))
    other = asyncio.create_task(on_demand.run("logs", (PUT,), 99.0))
    await until(lambda: len(storage.begun) == 2)
    storage.go.set()
    await asyncio.gather(*tasks, shared, other)
    await on_demand.run("media", (PUT,), 99.0)
    assert len(storage.begun) == MOST_RUNS + 2
