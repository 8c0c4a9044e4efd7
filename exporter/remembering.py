"""What the exporter knows again after a restart, and sees to it that a history begun anew knows."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial

import structlog

from exporter.alerting import Alerting
from exporter.breaker import State
from exporter.config import Settings
from exporter.history import History, HistoryUnavailableError
from exporter.history.queries import Row, last_breaker_events
from exporter.kept_settings import KeptSettings
from exporter.recorder import Recorder
from exporter.target import Target

FOLLOW_INTERVAL = 0.5
AFTER_ERROR = 5.0
OPEN_STATES = (State.OPEN, State.HALF_OPEN)

log = structlog.get_logger(__name__)


class Remembering:
    """Settings changed at run time, open breakers and active alerts of `targets`."""

    def __init__(
        self,
        history: History,
        changed: KeptSettings,
        recorder: Recorder,
        alerting: Alerting,
        targets: Mapping[str, Target],
    ) -> None:
        self._history = history
        self._changed = changed
        self._recorder = recorder
        self._alerting = alerting
        self._targets = targets
        self._restored = False
        """Whether breakers and alerts are for good as they were when the exporter ended."""

    async def recall(self, file: Settings) -> None:
        """Lets settings that were changed before the exporter ended lie over this exporter.yaml."""
        try:
            await self._changed.recall(file)
        except HistoryUnavailableError as error:
            log.warning("settings changed at run time are not in force", cause=str(error))

    async def restore(self) -> None:
        """Opens the breakers again that were open when the exporter ended, for the time that is left, and
        brings its alerts back."""
        try:
            await self._restore()
        except HistoryUnavailableError as error:
            log.warning("open breakers and alerts of before are not known", cause=str(error))

    async def follow(self, opened: int, applying: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        """Reads what could not be read at the start; tells one that took another's place how it is.

        `opened` is how often a file had been opened at the start; what is read is in force once `applying`
        has ended.
        """
        while True:
            await asyncio.sleep(FOLLOW_INTERVAL)
            state = self._history.state()
            known = self._changed.recalled and self._restored
            if not state.up or (known and state.opened == opened and not self._alerting.unkept):
                continue
            try:
                async with applying():
                    await self._catch_up()
                opened = state.opened
            except HistoryUnavailableError:
                continue
            except Exception:
                log.exception("the history does not know yet how all of it is")
                await asyncio.sleep(AFTER_ERROR)

    async def _catch_up(self) -> None:
        if self._changed.recalled:
            await self._changed.carry_over()
        else:
            await self._changed.recall(self._changed.file)
        if self._restored:
            await self._remind()
        else:
            await self._restore()
        await self._alerting.carry_over()

    async def _restore(self) -> None:
        for_good = self._history.is_ours
        await self._open_breakers()
        await self._alerting.restore(self._states())
        self._restored = for_good

    async def _remind(self) -> None:
        """Of the breakers that are open, if the file does not say so: it may be the one of before."""
        await self._recorder.told()
        open_ones = {
            event["target"] for event in await self._last_events() if event["to_state"] in OPEN_STATES
        }
        self._recorder.remind(target for name, target in self._targets.items() if name not in open_ones)

    def _states(self) -> dict[str, State]:
        now = time.monotonic()
        return {name: target.breaker.status(now).state for name, target in self._targets.items()}

    async def _open_breakers(self) -> None:
        for event in await self._last_events():
            target = self._targets[event["target"]]
            target.breaker.restore(event, time.monotonic(), time.time())
            self._recorder.begin(target)

    async def _last_events(self) -> list[Row]:
        return await self._history.read(partial(last_breaker_events, targets=list(self._targets)))
