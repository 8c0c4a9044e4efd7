"""Carries out a schedule: starts each job when it is due, and never waits for one to start another."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from exporter.schedule import Schedule, Turn

log = structlog.get_logger(__name__)

Job = Callable[[str], Awaitable[None]]


class Slots:
    """A bound on what runs at once, whoever starts it."""

    def __init__(self, limit: int, changed: Callable[[int], None] = lambda _: None) -> None:
        self._limit = limit
        self._semaphore = asyncio.Semaphore(limit)
        self._changed = changed
        self._taken = 0

    def resize(self, limit: int) -> None:
        """Sets a new bound for whoever comes from now on."""
        if limit != self._limit:
            self._limit = limit
            self._semaphore = asyncio.Semaphore(limit)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        async with self._semaphore:
            self._taken += 1
            self._changed(self._taken)
            try:
                yield
            finally:
                self._taken -= 1
                self._changed(self._taken)


class Runner:
    """Runs `job(name)` at each turn of `name`, one at a time per name.

    A name whose last job still runs at its next turn is not started again: `overrun(name, turns)`
    is told instead. `started(lateness)` is told how many seconds after its due time a job began,
    the wait for a slot included.
    """

    def __init__(
        self,
        job: Job,
        slots: Slots,
        *,
        overrun: Callable[[str, int], None] = lambda _name, _turns: None,
        started: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._job = job
        self._slots = slots
        self._overrun = overrun
        self._started = started
        self._schedule = Schedule()
        self._changed = asyncio.Event()
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._loop_task: asyncio.Task[None] | None = None
        self._stopping = False

    def set(self, name: str, interval: float) -> None:
        """Adds `name`, or changes its interval (seconds)."""
        self._schedule.set(name, interval, time.monotonic())
        self._changed.set()

    def remove(self, name: str) -> None:
        """No further turn for `name`; a job under way goes on to its end."""
        self._schedule.remove(name)

    def start(self) -> None:
        self._loop_task = asyncio.get_running_loop().create_task(self._run(), name="runner")

    async def stop(self, grace: float) -> None:
        """Starts nothing more, gives jobs under way `grace` seconds to end, then cancels them."""
        self._stopping = True
        if self._loop_task is not None:
            self._loop_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop_task
        running = set(self._jobs.values())
        if running:
            _, late = await asyncio.wait(running, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            for turn in self._schedule.take_due(time.monotonic()):
                self._begin(turn)
            self._changed.clear()
            due = self._schedule.next_due()
            wait = None if due is None else max(0.0, due - time.monotonic())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _begin(self, turn: Turn) -> None:
        running = turn.name in self._jobs
        skipped = turn.missed + running
        if skipped:
            self._overrun(turn.name, skipped)
        if not running:
            task = asyncio.get_running_loop().create_task(self._serve(turn), name=f"turn of {turn.name}")
            self._jobs[turn.name] = task
            task.add_done_callback(lambda _: self._jobs.pop(turn.name))

    async def _serve(self, turn: Turn) -> None:
        async with self._slots.slot():
            if self._stopping:
                return
            self._started(time.monotonic() - turn.due)
            try:
                await self._job(turn.name)
            except Exception:
                log.exception("a job failed unexpectedly", target=turn.name)
