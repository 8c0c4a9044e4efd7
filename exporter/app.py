"""Wires the parts together: settings in, probes out, outcomes to those who count them."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from urllib.request import getproxies_environment

import structlog

from exporter.admission import TargetBreaker
from exporter.config import ConfigError, Settings
from exporter.journal import tell_change, tell_sweep, tell_transition
from exporter.logs import register_secrets
from exporter.metrics import Metrics
from exporter.outcome import BillingClass, Operation, Outcome, Reason, SkipReason
from exporter.probe import Probe
from exporter.runner import Runner, Slots
from exporter.s3.credentials import ChainCredentials
from exporter.storage import Reply
from exporter.target import Run, Target, thresholds
from exporter.targets import TlsContexts, make_probe, proxy_passwords

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = 3600.0
SWEEPS_AT_ONCE = 4
JOB_GRACE = 3.0
CLEANUP_GRACE = 4.0
LAG_INTERVAL = 0.25


class StoppingError(Exception):
    """The exporter is on its way out and probes nothing more."""


class App:
    """The exporter without its web side. `load` gives the settings, at the start and at each reload."""

    def __init__(self, load: Callable[[], Settings]) -> None:
        self._load = load
        self.metrics = Metrics()
        self.targets: dict[str, Target] = {}
        self.ready = False
        self.settings: Settings
        self._chain = ChainCredentials()
        self._tls = TlsContexts()
        self._reloading = asyncio.Lock()
        self._on_demand: dict[tuple[str, frozenset[Operation]], asyncio.Task[Run]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._probes: Runner
        self._sweeps: Runner
        self._slots: Slots

    async def start(self) -> None:
        """Loads the settings and begins to probe. Raises ConfigError."""
        settings = await asyncio.to_thread(self._load)
        self._slots = Slots(settings.exporter.probes_in_flight, self.metrics.probes_in_flight)
        self._probes = Runner(
            self._run_scheduled, self._slots, overrun=self._count_overrun, started=self._count_lateness
        )
        self._sweeps = Runner(self._sweep, Slots(SWEEPS_AT_ONCE))
        await self._apply(settings)
        self.metrics.config_loaded(success=True, now=time.time())
        self._probes.start()
        self._sweeps.start()
        self._spawn(self._measure_lag())
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
            self.metrics.config_loaded(success=True, now=time.time())
            log.info("configuration reloaded", targets=len(self.targets))

    def reload_failed(self, error: ConfigError) -> None:
        """Says that what was to be loaded, here or on the web side, is unusable."""
        self.metrics.config_loaded(success=False, now=time.time())
        for problem in error.problems:
            log.error("configuration not reloaded", file=error.source, problem=str(problem))

    async def probe_now(
        self, name: str, operations: Sequence[Operation] = (), limit: float | None = None
    ) -> Run:
        """Probes one target now, within at most `limit` seconds in all.

        Whoever asks for what is already under way gets its results: many callers cost one probe.
        Raises KeyError for an unknown target, StoppingError once the exporter stops.
        """
        if not self.ready:
            raise StoppingError
        key = (name, frozenset(operations or self.targets[name].settings.probe.operations))
        task = self._on_demand.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._run(name, operations, limit))
            self._on_demand[key] = task
            task.add_done_callback(lambda _: self._on_demand.pop(key))
        # Not awaited itself: a caller that goes away must not take the probe of the others along.
        await asyncio.wait({task})
        if task.cancelled():
            raise StoppingError
        return task.result()

    async def stop(self) -> None:
        """Ends probing; what probes wrote is removed as far as the storage allows within some seconds."""
        self.ready = False
        on_demand = list(self._on_demand.values())
        for task in on_demand:
            task.cancel()
        await asyncio.gather(*on_demand, return_exceptions=True)
        await asyncio.gather(self._probes.stop(JOB_GRACE), self._sweeps.stop(0))
        # Only now: these close the connections of replaced probes, whose last runs have just ended.
        for last in self._background:
            last.cancel()
        retired = asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(
            retired, *(target.probe.close(CLEANUP_GRACE) for target in self.targets.values())
        )

    async def _apply(self, settings: Settings) -> None:
        fresh = await asyncio.to_thread(self._changed_targets, settings)
        register_secrets(_secrets(settings))
        self.settings = settings
        self._slots.resize(settings.exporter.probes_in_flight)
        gone = [name for name in self.targets if name not in {target.name for target in settings.targets}]
        for name in gone:
            self._probes.remove(name)
            self._sweeps.remove(name)
            self.metrics.remove_target(name)
            self._retire(self.targets.pop(name).probe)
        for target in fresh:
            self._install(target)
            await asyncio.sleep(0)  # thousands of them at once would hold up the probes under way

    def _changed_targets(self, settings: Settings) -> list[Target]:
        """Those that are new or differ from what runs. In a thread: it reads CA bundles."""
        instance = settings.exporter.instance
        fresh = []
        for target in settings.targets:
            tls = self._tls.get(target.ca_file)
            old = self.targets.get(target.name)
            if old and (old.settings, old.instance) == (target, instance) and old.tls is tls:
                continue
            cleaned = self._cleanup_counter(target.name)
            probe = make_probe(target, tls, self._chain, instance=instance, cleaned=cleaned)
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
        self._probes.set(name, settings.probe.interval)
        if Operation.PUT in settings.probe.operations:
            self._sweeps.set(name, SWEEP_INTERVAL)
        else:
            self._sweeps.remove(name)
        if old is not None:
            now = time.monotonic()
            if not target.take_over(old, now):
                old.breaker.reset(now)
                self._tell_transitions(name, old.breaker)
            self._retire(old.probe)
        self._take_breaker(target)

    async def _run_scheduled(self, name: str) -> None:
        if target := self.targets.get(name):
            await self._probe(target, (), None)

    async def _run(self, name: str, operations: Sequence[Operation], limit: float | None) -> Run:
        async with self._slots.slot():
            return await self._probe(self.targets[name], operations, limit)

    async def _probe(self, target: Target, operations: Sequence[Operation], limit: float | None) -> Run:
        due = operations or target.settings.probe.operations
        run, admission = Run(), target.breaker.begin_run(due, time.monotonic())

        def admit(operation: Operation) -> bool:
            admitted = admission.admit(operation, time.monotonic())
            self._take_transitions(target)
            return admitted

        def record(outcome: Outcome, reply: Reply) -> None:
            run.results.append((outcome, reply))
            if _cut_short(outcome, target.settings.probe.timeout, limit):
                admission.end()
            else:
                admission.observe(outcome)
            if self.targets.get(outcome.target) is target:
                self._take(target, outcome)
            elif outcome.billed is not None:
                # Replaced by a reload meanwhile: this says nothing of what is probed now, but it cost.
                self.metrics.billed(outcome.target, outcome.billed)

        try:
            await target.probe.run(record, admission.order, limit, admit)
        finally:
            admission.end()
        reason = SkipReason.CIRCUIT_OPEN if admission.refused else SkipReason.OVERRUN
        performed = {outcome.operation for outcome, _ in run.results}
        run.skipped = {operation: reason for operation in admission.order if operation not in performed}
        self._take_skipped(target, run)
        return run

    def _take(self, target: Target, outcome: Outcome) -> None:
        self.metrics.record(outcome)
        if change := target.status.observe(outcome):
            tell_change(change)
        self._take_breaker(target)

    def _take_skipped(self, target: Target, run: Run) -> None:
        name = target.settings.name
        if self.targets.get(name) is target:
            for operation, reason in run.skipped.items():
                self.metrics.skip(name, operation, reason)
            self._take_breaker(target)

    def _take_breaker(self, target: Target) -> None:
        """Says what the breaker did, and how the target stands after that."""
        settings, breaker = target.settings, target.breaker
        self._take_transitions(target)
        self.metrics.breaker(settings.name, breaker.status(time.monotonic()))
        if target.status.latest:
            up = breaker.admits_all and target.status.is_up(settings.probe.operations)
            self.metrics.target_up(settings.name, up)

    def _take_transitions(self, target: Target) -> None:
        name, breaker = target.settings.name, target.breaker
        if (now_there := self.targets.get(name)) is None or now_there.breaker is not breaker:
            return
        self._tell_transitions(name, breaker)

    def _tell_transitions(self, name: str, breaker: TargetBreaker) -> None:
        for transition in breaker.take_transitions():
            self.metrics.transition(name, transition.from_state, transition.to_state)
            self.metrics.breaker(name, breaker.status(time.monotonic()))
            retry_after = breaker.status(time.monotonic()).retry_after
            tell_transition(name, transition, breaker.opener, retry_after)

    async def _sweep(self, name: str) -> None:
        if (target := self.targets.get(name)) is None:
            return
        swept = await target.probe.sweep()
        self.metrics.billed(name, BillingClass.A, swept.pages)
        self.metrics.billed(name, BillingClass.FREE, swept.deleted)
        self.metrics.leftovers_deleted(name, swept.deleted)
        tell_sweep(name, swept)

    async def _measure_lag(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(LAG_INTERVAL)
            now = time.monotonic()
            self.metrics.loop_lag(max(0.0, now - before - LAG_INTERVAL), now)

    def _count_overrun(self, name: str, turns: int) -> None:
        for operation in self.targets[name].settings.probe.operations:
            self.metrics.skip(name, operation, SkipReason.OVERRUN, turns)

    def _count_lateness(self, seconds: float) -> None:
        self.metrics.lateness(seconds, time.monotonic())

    def _cleanup_counter(self, name: str) -> Callable[[bool], None]:
        return lambda success: self.metrics.cleanup(name, success)

    def _retire(self, probe: Probe) -> None:
        """Closes a probe once the run it may be in the middle of is over."""
        longest = probe.target.probe.timeout * len(Operation)

        async def close_later() -> None:
            try:
                await asyncio.sleep(longest)
            finally:
                await probe.close(CLEANUP_GRACE)

        self._spawn(close_later())

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _cut_short(outcome: Outcome, timeout: float, limit: float | None) -> bool:
    """Whether a scrape's timeout ended the operation before its own: then it says nothing of the storage."""
    failure = outcome.failure
    return (
        limit is not None
        and failure is not None
        and failure.reason is Reason.TIMEOUT
        and outcome.duration < timeout
    )


def _secrets(settings: Settings) -> list[str]:
    owned = [settings.api.token]
    for target in settings.targets:
        owned += [target.secret_access_key, target.session_token]
    known = [secret.get_secret_value() for secret in owned if secret is not None]
    return known + proxy_passwords(getproxies_environment())
