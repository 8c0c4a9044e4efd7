"""Wires the parts together: settings in, probes out, outcomes to those who count them."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from urllib.request import getproxies_environment

import structlog

from exporter.admission import TargetBreaker, says_nothing
from exporter.alerting import Alerting
from exporter.alertmanager import Pusher
from exporter.background import Background
from exporter.config import AlertmanagerSettings, ConfigError, Problem, Settings
from exporter.farewell import Farewell, left
from exporter.history import History, Retention
from exporter.history.overrides import Kept
from exporter.journal import tell_sweep
from exporter.kept_settings import KeptSettings
from exporter.masking import register_secrets
from exporter.metrics import Metrics
from exporter.on_demand import OnDemand, StoppingError
from exporter.outcome import BillingClass, Operation, Outcome, SkipReason
from exporter.overrides import Changes
from exporter.pulse import Pulse
from exporter.recorder import TELLING_SECONDS, Recorder
from exporter.remembering import Remembering
from exporter.runner import Runner, Slots
from exporter.s3.connections import Connections
from exporter.s3.credentials import ChainCredentials
from exporter.shard import WHOLE, Shard
from exporter.storage import Reply
from exporter.target import Run, Target, thresholds
from exporter.targets import TlsContexts, make_probe, secrets_of

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = 3600.0
SWEEPS_AT_ONCE = 4
CLEANUP_GRACE = 4.0

Difference = tuple[Kept, Kept]  # what was changed at run time before a change, and after it


class App:
    """The exporter without its web side.

    `load` gives the settings, at the start and at each reload; `storage` is the history's file. Of the
    targets it probes those of its shard, and knows no others.
    """

    def __init__(self, load: Callable[[], Settings], storage: Path, shard: Shard = WHOLE) -> None:
        self._load = lambda: shard.part_of(load())
        self.shard = shard
        self.metrics = Metrics()
        self.metrics.set_shard(shard)
        self.targets: dict[str, Target] = {}
        self.history = History(storage)
        self.changed = KeptSettings(self.history)
        self._pusher = Pusher(lambda attempt: self.metrics.notified(**asdict(attempt)))
        self.alerting = Alerting(self.metrics, self.history, self._pusher, shard)
        self._recorder = Recorder(self.metrics, self.history, self.alerting, self.targets)
        parts = (self.history, self.changed, self._recorder, self.alerting)
        self._remembering = Remembering(*parts, self.targets)
        self.ready = False
        self.settings: Settings
        self._pushing: AlertmanagerSettings | None = None
        self._chain = ChainCredentials()
        self._connections = Connections()
        self._tls = TlsContexts()
        self._reloading = asyncio.Lock()
        self._on_demand = OnDemand(self._run)
        self._background = Background()
        self._retiring: list[Target] = []
        self._pulse = Pulse(self._beat)
        self._slots = Slots(1, self.metrics.probes_in_flight)  # the settings say how many
        self._probes = Runner(self._run_scheduled, self._slots, overrun=self._overrun, started=self._lateness)
        self._sweeps = Runner(self._sweep, Slots(SWEEPS_AT_ONCE))
        self._history_open = False

    async def start(self) -> None:
        """Loads the settings, and last begins to probe. Raises ConfigError and NewerSchemaError."""
        settings = await asyncio.to_thread(self._load)
        self.history.retain(_retention(settings))
        await asyncio.to_thread(self.history.start)
        self._history_open = True
        self.metrics.history(self.history.state())
        self._recorder.start()
        self.alerting.start()
        await self._remembering.recall(settings)
        await self._apply(settings)
        await self._remembering.restore()
        self.metrics.config_loaded(success=True, now=time.time())
        self._probes.start()
        self._sweeps.start()
        self._background.begin(self._pulse.run())
        self._background.begin(self._remembering.follow(self.history.state().opened, self._applied_anew))
        self.ready = True

    async def reload(self) -> None:
        """Loads the settings again and applies them. Raises ConfigError, and then nothing has changed."""
        async with self._reloading:
            try:
                settings = await asyncio.to_thread(self._load)
                await self._apply(settings)
            except ConfigError as error:
                self.reload_failed(error)
                raise
            await self._recorder.told()
            self.metrics.config_loaded(success=True, now=time.time())
            log.info("configuration reloaded", targets=len(self.targets))

    async def change(self, target: str, changes: Changes, who: str, version: int | None = None) -> Difference:
        """Changes settings of a target, or of ALL, at once and for good; `who` goes to the audit trail.

        Raises SettingError for what they do not take, ChangedMeanwhileError if the last change is not
        `version`, HistoryUnavailableError if it cannot be kept; then nothing has changed.
        """
        return await self._change(lambda: self.changed.change(target, changes, who, version))

    async def take_back(self, change: int, who: str, version: int | None = None) -> Difference:
        """Sets what a change had changed to what it was until then; raises as `change` does.

        Raises KeyError for a change that is not known.
        """
        return await self._change(lambda: self.changed.take_back(change, who, version))

    async def reset_breakers(self, names: Iterable[str]) -> None:
        """Closes these targets' breakers by hand. Raises KeyError."""
        for name in names:
            target = self.targets[name]
            target.breaker.reset(time.monotonic())
            self._recorder.standing(target)
        await self._recorder.told()

    def reload_failed(self, error: ConfigError) -> None:
        """Says that what was to be loaded, here or on the web side, is unusable."""
        self.metrics.config_loaded(success=False, now=time.time())
        for problem in error.problems:
            log.error("configuration not reloaded", file=error.source, problem=str(problem))

    async def probe_now(
        self, name: str, operations: Sequence[Operation] = (), limit: float | None = None
    ) -> Run:
        """Probes one target now, within at most `limit` seconds in all; many callers cost one probe.

        Raises KeyError for an unknown target, NotNowError if it stops or is asked for too much at once.
        """
        if not self.ready:
            raise StoppingError
        due = operations or self.targets[name].settings.probe.operations
        return await self._on_demand.run(name, due, limit)

    async def stop(self) -> None:
        """Ends probing, in time whatever hangs; what probes wrote is removed as far as the storage allows."""
        self.ready = False
        timeouts = (target.settings.probe.timeout for target in self.targets.values())
        until = Farewell.of(timeouts, time.monotonic())
        await self._on_demand.stop()
        await asyncio.gather(self._probes.stop(left(until.runs_end)), self._sweeps.stop(0))
        await asyncio.gather(self._clean_up(until.cleanups_end), self._tell_last(until.cleanups_end))
        if self._history_open:
            await self.history.stop(left(until.disk_ends), alerts_kept=not self.alerting.unkept)

    async def _clean_up(self, until: float) -> None:
        await self._background.end()
        probes = [target.probe for target in (*self.targets.values(), *self._retiring)]
        await asyncio.gather(*(probe.close(left(until)) for probe in probes))

    async def _tell_last(self, until: float) -> None:
        await asyncio.gather(self._recorder.stop(left(until) / 2), self.alerting.stop(left(until) / 2))
        await self._pusher.stop(left(until))

    async def _change(self, keep: Callable[[], Awaitable[None]]) -> Difference:
        async with self._reloading:
            before = self.changed.kept
            await keep()
            await self._apply(self.changed.file)
            return before, self.changed.kept

    @asynccontextmanager
    async def _applied_anew(self) -> AsyncIterator[None]:
        """Nothing else changes the settings meanwhile; afterwards they are in force."""
        async with self._reloading:
            yield
            await self._apply(self.changed.file)

    async def _apply(self, file: Settings) -> None:
        settings = self.changed.over(file)
        fresh = await asyncio.to_thread(self._changed_targets, settings)
        await asyncio.to_thread(register_secrets, secrets_of(settings, getproxies_environment()))
        await self._configure_pushing(settings.alertmanager)
        self.changed.file = file
        self.history.retain(_retention(settings))
        self.settings = settings
        self._slots.resize(settings.exporter.probes_in_flight)
        for name in self.targets.keys() - {target.name for target in settings.targets}:
            self._probes.remove(name)
            self._sweeps.remove(name)
            self.alerting.end(name)
            self.metrics.remove_target(name)
            self._recorder.end(name, self.targets[name].breaker)
            self._retire(self.targets.pop(name))
        for target in fresh:
            self._install(target)
            await asyncio.sleep(0)  # thousands of them at once would hold up the probes under way

    async def _configure_pushing(self, settings: AlertmanagerSettings) -> None:
        before = self._pushing
        try:
            await self._pusher.configure(settings)
        except OSError as error:  # the file was good when it was loaded, and has changed since
            raise ConfigError("alertmanager", [Problem("alertmanager", None, str(error))]) from error
        gone = [url for url in before.urls if url not in settings.urls] if before is not None else []
        self.metrics.set_alertmanagers(settings.urls, gone)
        self._pushing = settings

    def _changed_targets(self, settings: Settings) -> list[Target]:
        """Those that are new or differ from what runs. In a thread: it reads CA bundles."""
        instance = settings.exporter.instance
        fresh = []
        for target in settings.targets:
            tls = self._tls.get(target.ca_file)
            old = self.targets.get(target.name)
            if old and (old.settings, old.instance) == (target, instance) and old.tls is tls:
                continue
            cleaned = partial(self.metrics.cleanup, target.name)
            probe = make_probe(
                target, tls, self._chain, self._connections, instance=instance, cleaned=cleaned
            )
            breaker = TargetBreaker(target.breaker, time.monotonic())
            fresh.append(Target(target, probe, tls, instance, breaker))
        return fresh

    def _install(self, target: Target) -> None:
        settings, name = target.settings, target.settings.name
        old = self.targets.get(name)
        self.metrics.set_target(
            name,
            settings.probe.operations,
            labels=settings.labels,
            bucket=settings.bucket,
            endpoint=settings.endpoint,
            region=settings.region,
            thresholds=thresholds(settings),
        )
        self.targets[name] = target
        self.alerting.begin(settings, time.monotonic())
        self._probes.set(name, settings.probe.interval)
        if Operation.PUT in settings.probe.operations:
            self._sweeps.set(name, SWEEP_INTERVAL)
        else:
            self._sweeps.remove(name)
        if old is not None:
            if not target.take_over(old, time.monotonic()):
                self._recorder.end(name, old.breaker)
            self._retire(old)
        self._recorder.begin(target)

    async def _run_scheduled(self, name: str) -> None:
        if (target := self.targets.get(name)) is None:
            return
        if target.settings.probe.enabled:
            await self._probe(target, (), None)
        else:
            for operation in target.settings.probe.operations:
                self.metrics.skip(name, operation, SkipReason.STOPPED)

    async def _run(self, name: str, operations: Sequence[Operation], limit: float | None) -> Run:
        ends = math.inf if limit is None else time.monotonic() + limit
        async with self._slots.slot():
            run = await self._probe(self.targets[name], operations, limit and ends - time.monotonic())
        await self._recorder.told(min(TELLING_SECONDS, ends - time.monotonic()))
        return run

    async def _probe(self, target: Target, operations: Sequence[Operation], limit: float | None) -> Run:
        due = operations or target.settings.probe.operations
        run, admission = Run(), target.breaker.begin_run(due, time.monotonic())

        def admit(operation: Operation) -> bool:
            admitted = admission.admit(operation, time.monotonic())
            self._recorder.transitions(target)
            return admitted

        def record(outcome: Outcome, reply: Reply) -> None:
            run.results.append((outcome, reply))
            now = time.monotonic()
            stalled = self._pulse.stalled(now - outcome.duration, now)
            if stalled or says_nothing(outcome, target.settings.probe.timeout, limit):
                admission.end()
                self._recorder.void(target, outcome)
            else:
                admission.observe(outcome, now)
                self._recorder.outcome(target, outcome)

        try:
            with target.running():
                await target.probe.run(record, admission.order, limit, admit)
        finally:
            admission.end()
        reason = SkipReason.CIRCUIT_OPEN if admission.refused else SkipReason.OVERRUN
        performed = {outcome.operation for outcome, _ in run.results}
        run.skipped = {operation: reason for operation in admission.order if operation not in performed}
        self._recorder.skipped(target, run)
        return run

    async def _sweep(self, name: str) -> None:
        if (target := self.targets.get(name)) is None:
            return
        with target.running():
            swept = await target.probe.sweep()
        self.metrics.billed(name, BillingClass.A, swept.pages)
        self.metrics.billed(name, BillingClass.FREE, swept.deleted)
        self.metrics.leftovers_deleted(name, swept.deleted)
        tell_sweep(name, swept)

    def _beat(self, late: float, now: float) -> None:
        self.metrics.loop_lag(late, now)
        self.metrics.history(self.history.state())
        self.metrics.notifications_waiting(self._pusher.pending())
        self.alerting.tick(now)

    def _overrun(self, name: str, turns: int) -> None:
        for operation in self.targets[name].settings.probe.operations:
            self.metrics.skip(name, operation, SkipReason.OVERRUN, turns)

    def _lateness(self, seconds: float) -> None:
        self.metrics.lateness(seconds, time.monotonic())

    def _retire(self, target: Target) -> None:
        """Closes a target's connections once the runs that it may be in the middle of are over."""

        async def close_later() -> None:
            await target.idle()
            await target.probe.close(CLEANUP_GRACE)
            self._retiring.remove(target)

        self._retiring.append(target)
        self._background.begin(close_later())


def _retention(settings: Settings) -> Retention:
    return Retention(settings.history.retention, settings.history.max_size)
