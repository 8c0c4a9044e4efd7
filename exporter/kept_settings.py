"""The settings in force: exporter.yaml's, and over them what was changed at run time and is kept."""

import sqlite3
import time
from collections.abc import Mapping
from functools import partial

import structlog

from exporter.config import Settings
from exporter.history import History
from exporter.history.overrides import Kept, keep_again, keep_changes, kept_overrides, values_before
from exporter.overrides import Changes, Overrides, SettingError, laid_over, merged, spread

log = structlog.get_logger(__name__)


class KeptSettings:
    """`kept` says what was changed; `file` is the last exporter.yaml that was good."""

    def __init__(self, history: History) -> None:
        self.file: Settings
        self.kept = Kept()
        self._history = history
        self.recalled = False
        """Whether it is known for good what was changed before the exporter began."""

    def over(self, file: Settings) -> Settings:
        """The settings in force with this exporter.yaml. Raises SettingError."""
        return laid_over(file, self.kept.values)

    async def change(self, target: str, changes: Changes, who: str, version: int | None) -> None:
        """Keeps changes for a target, or for ALL. Raises SettingError, ChangedMeanwhileError and
        HistoryUnavailableError, and then nothing has changed."""
        await self._keep(spread(self.kept.values, target, changes), who, version)

    async def take_back(self, change: int, who: str, version: int | None) -> None:
        """Keeps what was before a change, as a change of its own. Raises KeyError besides."""
        where = await self._history.read(partial(values_before, change=change))
        if not where:
            raise KeyError(change)
        await self._keep(where, who, version)

    async def recall(self, file: Settings) -> None:
        """Reads what was changed before the exporter ended. Raises HistoryUnavailableError."""
        for_good = self._history.is_ours
        kept = await self._history.read(kept_overrides)
        try:
            laid_over(file, kept.values)
        except SettingError as error:
            log.error("settings changed at run time do not fit and are let go", cause=str(error))
            self.recalled = for_good
        else:
            self.kept, self.recalled = kept, for_good

    async def carry_over(self) -> None:
        """Lets a file that took another's place hold what is in force. Raises HistoryUnavailableError."""
        self.kept = await self._history.change(partial(keep_again, kept=self.kept))

    async def _keep(self, where: Overrides, who: str, version: int | None) -> None:
        laid_over(self.file, merged(self.kept.values, where))
        in_force, at = self.kept if self.recalled else None, time.time()

        def work(connection: sqlite3.Connection) -> Kept:
            if in_force is not None:  # the file may have been begun anew just now
                keep_again(connection, in_force)
            return keep_changes(connection, where, who=who, at=at, version=version)

        before, self.kept = self.kept, await self._history.change(work)
        if self.kept.version != before.version:
            _tell(where, who)


def _tell(where: Mapping[str, Changes], who: str) -> None:
    log.info(
        "settings changed",
        by=who,
        targets=[target or "all" for target in where],
        settings=sorted({setting for changes in where.values() for setting in changes}),
    )
