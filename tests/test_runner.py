"""The runner on a real event loop with fast schedules: what it starts, skips, bounds and ends."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from structlog.testing import capture_logs

from exporter.runner import Runner, Slots
from tests.running import until

FAST = 0.02
GRACE = 30.0


class Jobs:
    """Jobs that wait until `release` is set, if it is not; everything that happened to them."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.begun: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.overruns: Counter[str] = Counter()
        self.lateness: list[float] = []
        self.together = 0
        self.most_together = 0

    async def __call__(self, name: str) -> None:
        self.begun[name] += 1
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            await self.release.wait()
            self.ended[name] += 1
        except asyncio.CancelledError:
            self.cancelled[name] += 1
            raise
        finally:
            self.together -= 1

    def overrun(self, name: str, turns: int) -> None:
        self.overruns[name] += turns


@asynccontextmanager
async def started(jobs: Jobs, *names: str, slots: int = 100) -> AsyncIterator[Runner]:
    runner = Runner(jobs, Slots(slots), overrun=jobs.overrun, started=jobs.lateness.append)
    for name in names:
        runner.set(name, FAST)
    runner.start()
    try:
        yield runner
    finally:
        await runner.stop(0)


async def test_a_job_still_running_at_its_turn_is_counted_and_not_started_again() -> None:
    jobs = Jobs()
    async with started(jobs, "slow"):
        await until(lambda: jobs.overruns["slow"] >= 5)
        assert jobs.begun["slow"] == 1
        jobs.release.set()
        await until(lambda: jobs.ended["slow"] >= 3)
    assert jobs.most_together == 1


async def test_skipped_turns_are_not_made_up_for() -> None:
    jobs = Jobs()
    async with started(jobs, "slow"):
        await until(lambda: jobs.overruns["slow"] >= 10)
        skipped = jobs.overruns["slow"]
        jobs.release.set()
        before = time.monotonic()
        await until(lambda: jobs.begun["slow"] >= 4)
        # The three jobs after the slow one had three turns of their own.
        assert time.monotonic() - before >= 2 * FAST
        assert skipped >= 10


async def test_a_stalled_event_loop_costs_turns_that_are_counted() -> None:
    jobs = Jobs()
    jobs.release.set()
    async with started(jobs, "steady"):
        await until(lambda: jobs.begun["steady"] >= 1)
        begun = jobs.begun["steady"]
        time.sleep(10 * FAST)  # noqa: ASYNC251  a stalled loop is what this is about
        await until(lambda: jobs.begun["steady"] > begun)
        assert jobs.overruns["steady"] >= 8


async def test_a_job_that_raises_stops_neither_itself_nor_others() -> None:
    jobs = Jobs()
    jobs.release.set()

    async def job(name: str) -> None:
        await jobs(name)
        if name == "broken":
            raise ValueError("told by the test")

    runner = Runner(job, Slots(10))
    with capture_logs() as logs:
        for name in ("broken", "good"):
            runner.set(name, FAST)
        runner.start()
        await until(lambda: jobs.ended["broken"] >= 3 and jobs.ended["good"] >= 3)
        await runner.stop(GRACE)
    failures = [line for line in logs if line["event"] == "a job failed unexpectedly"]
    assert {line["target"] for line in failures} == {"broken"}
    assert len(failures) == jobs.ended["broken"]


async def test_slots_bound_what_runs_at_once_and_whoever_waits_gets_a_turn() -> None:
    jobs, taken = Jobs(), list[int]()
    runner = Runner(jobs, Slots(2, taken.append), overrun=jobs.overrun)
    names = [f"target-{number}" for number in range(8)]
    for name in names:
        runner.set(name, FAST)
    runner.start()
    await until(lambda: all(jobs.overruns[name] >= 2 for name in names))
    assert (jobs.together, sum(jobs.begun.values())) == (2, 2)
    jobs.release.set()
    await until(lambda: set(names) <= set(jobs.ended))
    await runner.stop(GRACE)
    assert jobs.most_together == 2
    assert (max(taken), taken[-1]) == (2, 0)


async def test_a_slot_is_given_back_by_whoever_fails_or_is_cancelled() -> None:
    taken: list[int] = []
    slots = Slots(1, taken.append)

    async def hold() -> None:
        async with slots.slot():
            await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        async with slots.slot():
            _ = 1 / 0
    holding = asyncio.create_task(hold())
    await until(lambda: taken == [1, 0, 1])
    waiting = asyncio.create_task(hold())
    await asyncio.sleep(0)
    waiting.cancel()
    holding.cancel()
    await asyncio.wait({holding, waiting})
    async with slots.slot():
        assert taken == [1, 0, 1, 0, 1]


async def test_stop_lets_a_job_end() -> None:
    jobs = Jobs()
    async with started(jobs, "a") as runner:
        await until(lambda: jobs.begun["a"])
        stopping = asyncio.create_task(runner.stop(GRACE))
        await asyncio.sleep(3 * FAST)
        assert not stopping.done()
        jobs.release.set()
        await asyncio.wait_for(stopping, GRACE)
    assert (jobs.ended["a"], jobs.cancelled["a"], jobs.begun["a"]) == (1, 0, 1)


async def test_stop_cancels_what_outlives_the_grace() -> None:
    jobs = Jobs()
    async with started(jobs, "a", "b") as runner:
        await until(lambda: jobs.begun.total() == 2)
        await runner.stop(FAST)
    assert (jobs.ended.total(), jobs.cancelled) == (0, Counter("ab"))


async def test_stop_starts_nothing_that_still_waits_for_a_slot() -> None:
    jobs = Jobs()
    async with started(jobs, "a", "b", slots=1) as runner:
        await until(lambda: jobs.overruns["a"] and jobs.overruns["b"])
        stopping = asyncio.create_task(runner.stop(GRACE))
        await asyncio.sleep(0)
        jobs.release.set()
        await asyncio.wait_for(stopping, GRACE)
    assert (jobs.begun.total(), jobs.ended.total()) == (1, 1)


async def test_stop_before_start_is_no_error() -> None:
    await Runner(Jobs(), Slots(1)).stop(GRACE)


async def test_names_come_and_go_at_run_time() -> None:
    jobs = Jobs()
    jobs.release.set()
    async with started(jobs) as runner:  # with nothing to do, it waits for a first name
        runner.set("first", FAST)
        await until(lambda: jobs.begun["first"] >= 2)
        runner.set("second", FAST)
        runner.remove("first")
        last = jobs.begun["first"]
        await until(lambda: jobs.begun["second"] >= 5)
        assert jobs.begun["first"] == last
        runner.set("first", FAST)
        await until(lambda: jobs.begun["first"] > last)
        runner.remove("never set")


async def test_a_shorter_interval_takes_effect_at_once() -> None:
    jobs = Jobs()
    jobs.release.set()
    async with started(jobs) as runner:
        runner.set("a", 86_400)
        await asyncio.sleep(2 * FAST)
        assert jobs.begun["a"] == 0
        runner.set("a", FAST)
        await until(lambda: jobs.begun["a"] >= 3)


async def test_a_job_under_way_outlives_its_name() -> None:
    jobs = Jobs()
    async with started(jobs, "a") as runner:
        await until(lambda: jobs.begun["a"])
        runner.remove("a")
        overruns = jobs.overruns["a"]
        await asyncio.sleep(5 * FAST)
        jobs.release.set()
        await until(lambda: jobs.ended["a"])
        assert (jobs.begun["a"], jobs.overruns["a"]) == (1, overruns)


async def test_lateness_includes_the_wait_for_a_slot() -> None:
    jobs = Jobs()
    async with started(jobs, "a", "b", slots=1):
        await until(lambda: jobs.overruns["a"] >= 5 and jobs.overruns["b"] >= 5)
        assert len(jobs.lateness) == 1
        jobs.release.set()
        await until(lambda: len(jobs.lateness) >= 2)
    assert jobs.lateness[0] >= 0
    assert jobs.lateness[1] >= 4 * FAST


async def test_a_jump_of_the_wall_clock_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs()
    jobs.release.set()
    now = time.time()
    async with started(jobs, "a"):
        for jump in (-10 * 365 * 86_400, 10 * 365 * 86_400):
            monkeypatch.setattr(time, "time", partial(float, now + jump))
            begun, overruns, since = jobs.begun["a"], jobs.overruns["a"], time.monotonic()
            enough = begun + 5
            await until(lambda: jobs.begun["a"] >= enough)  # noqa: B023  called before the next jump
            turns = jobs.begun["a"] - begun + jobs.overruns["a"] - overruns
            # Neither a burst nor a standstill: as many turns as monotonic time has room for.
            assert turns <= (time.monotonic() - since) / FAST + 1


async def test_a_new_bound_holds_for_whoever_comes_after() -> None:
    seen: list[int] = []
    slots = Slots(1, seen.append)
    release = asyncio.Event()

    async def hold() -> None:
        async with slots.slot():
            await release.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(hold())
        group.create_task(hold())
        await until(lambda: seen == [1])
        slots.resize(1)
        group.create_task(hold())
        await asyncio.sleep(0)
        assert seen == [1], "the same bound again changes nothing"
        slots.resize(2)
        for _ in range(3):
            group.create_task(hold())
        await until(lambda: seen == [1, 2, 3])
        release.set()
    assert seen[-1] == 0
