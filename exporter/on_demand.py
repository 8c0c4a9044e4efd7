"""Probes that somebody asks for: one at a time a target, whoever asks and however many."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from exporter.outcome import Operation
from exporter.target import Run

Key = tuple[str, frozenset[Operation], float | None]
Perform = Callable[[str, Sequence[Operation], float | None], Awaitable[Run]]


MOST_RUNS = 8
"""Different runs of one target, under way or waiting for their turn."""


class NotNowError(Exception):
    """Nothing is performed; `code` and the text say why to who asked."""

    code = "busy"


class StoppingError(NotNowError):
    """The exporter is on its way out."""

    code = "stopping"

    def __init__(self) -> None:
        super().__init__("The exporter is stopping and probes nothing more.")


class BusyError(NotNowError):
    """Too many different runs wait already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{MOST_RUNS} different probes of {name} are due already; ask again later.")


class OnDemand:
    """Runs `perform(name, operations, limit)`; `limit` is in seconds, and what the wait took is taken off."""

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._runs: dict[Key, asyncio.Task[Run]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._stopping = False

    async def run(self, name: str, operations: Sequence[Operation], limit: float | None) -> Run:
        """One run. Who asks for what is under way gets its results, who asks for other operations of
        the same target waits for a turn. Raises what `perform` does, StoppingError once stopped, and
        BusyError.
        """
        if self._stopping:
            raise StoppingError
        # What somebody's patience may cut short is no answer for others.
        key = (name, frozenset(operations), limit)
        task = self._runs.get(key)
        if task is None:
            if sum(name == running for running, _, _ in self._runs) >= MOST_RUNS:
                raise BusyError(name)
            task = asyncio.get_running_loop().create_task(self._in_turn(name, operations, limit))
            self._runs[key] = task
            task.add_done_callback(lambda _: self._done(key))
        # Not awaited itself: a caller that goes away must not take the probe of the others along.
        await asyncio.wait({task})
        if task.cancelled():
            raise StoppingError
        return task.result()

    async def stop(self) -> None:
        """Cancels what is under way."""
        self._stopping = True
        running = list(self._runs.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _in_turn(self, name: str, operations: Sequence[Operation], limit: float | None) -> Run:
        asked = time.monotonic()
        async with self._turns.setdefault(name, asyncio.Lock()):
            left = None if limit is None else limit - (time.monotonic() - asked)
            return await self._perform(name, operations, left)

    def _done(self, key: Key) -> None:
        del self._runs[key]
        name = key[0]
        if all(name != running for running, _, _ in self._runs):
            self._turns.pop(name, None)
