"""Wires the parts together: settings in, probes out, outcomes to those who count them."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from urllib.request import getproxies_environment

import structlog

from exporter.config import ConfigError, Settings, TargetSettings
from exporter.logs import register_secrets
from exporter.metrics import Metrics
from exporter.outcome import BillingClass, Operation, Outcome, SkipReason
from exporter.probe import Probe
from exporter.runner import Runner, Slots
from exporter.s3.credentials import ChainCredentials
from exporter.status import Change, TargetStatus
from exporter.storage import Reply
from exporter.targets import TlsContexts, make_probe, proxy_passwords

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = 3600.0
SWEEPS_AT_ONCE = 4
JOB_GRACE = 3.0
CLEANUP_GRACE = 4.0
LAG_INTERVAL = 0.25

Results = list[tuple[Outcome, Reply]]


class StoppingError(Exception):
    """The exporter is on its way out and probes nothing more."""


@dataclass(slots=True)
class Target:
    """A target at work."""

    settings: TargetSettings
    probe: Probe
    tls: object
    instance: str
    status: TargetStatus = field(default_factory=TargetStatus)


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
        self._on_demand: dict[tuple[str, frozenset[Operation]], asyncio.Task[Results]] = {}
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
    ) -> Results:
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
            fresh.append(Target(target, probe, tls, instance))
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
            thresholds=_thresholds(settings),
        )
        self.targets[name] = target
        self._probes.set(name, settings.probe.interval)
        if Operation.PUT in settings.probe.operations:
            self._sweeps.set(name, SWEEP_INTERVAL)
        else:
            self._sweeps.remove(name)
        if old is not None:
            target.status = old.status
            self._retire(old.probe)

    async def _run_scheduled(self, name: str) -> None:
        if target := self.targets.get(name):
            await self._probe(target, (), None)

    async def _run(self, name: str, operations: Sequence[Operation], limit: float | None) -> Results:
        async with self._slots.slot():
            return await self._probe(self.targets[name], operations, limit)

    async def _probe(self, target: Target, operations: Sequence[Operation], limit: float | None) -> Results:
        results: Results = []
        name, configured = target.settings.name, target.settings.probe.operations

        def record(outcome: Outcome, reply: Reply) -> None:
            results.append((outcome, reply))
            if self.targets.get(name) is not target:
                # Replaced by a reload meanwhile: this says nothing of what is probed now, but it cost.
                if outcome.billed is not None:
                    self.metrics.billed(name, outcome.billed)
                return
            self.metrics.record(outcome)
            if change := target.status.observe(outcome):
                _log_change(change)
            self.metrics.target_up(name, target.status.is_up(configured))

        await target.probe.run(record, operations, limit)
        if self.targets.get(name) is target:
            for operation in set(operations or configured).difference(o.operation for o, _ in results):
                self.metrics.skip(name, operation, SkipReason.OVERRUN)
        return results

    async def _sweep(self, name: str) -> None:
        if (target := self.targets.get(name)) is None:
            return
        swept = await target.probe.sweep()
        self.metrics.billed(name, BillingClass.A, swept.pages)
        self.metrics.billed(name, BillingClass.FREE, swept.deleted)
        self.metrics.leftovers_deleted(name, swept.deleted)
        if swept.deleted:
            log.info("leftovers of earlier probes removed", target=name, objects=swept.deleted)
        if swept.failure:
            failure = swept.failure
            log.warning(
                "leftovers not swept",
                target=name,
                reason=failure.reason,
                cause=failure.message,
                hint=failure.hint,
            )

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


def _log_change(change: Change) -> None:
    outcome, failure = change.outcome, change.outcome.failure
    if failure is None:
        log.info(
            "operation works again",
            target=outcome.target,
            operation=outcome.operation,
            failed_for_seconds=round(change.failed_for or 0.0, 1),
        )
        return
    log.warning(
        "operation fails",
        target=outcome.target,
        operation=outcome.operation,
        reason=failure.reason,
        cause=failure.message,
        hint=failure.hint,
        status=outcome.status,
        request_id=outcome.request_id,
        duration_seconds=round(outcome.duration, 3),
    )


def _thresholds(target: TargetSettings) -> dict[str, float]:
    return {
        "error_rate": target.alerts.error_rate_threshold,
        "slow_response_seconds": target.alerts.slow_response_threshold,
        "failure_threshold": target.breaker.failure_threshold,
        "recovery_timeout_seconds": target.breaker.recovery_timeout,
        "check_interval_seconds": target.probe.interval,
    }


def _secrets(settings: Settings) -> list[str]:
    owned = [settings.api.token]
    for target in settings.targets:
        owned += [target.secret_access_key, target.session_token]
    known = [secret.get_secret_value() for secret in owned if secret is not None]
    return known + proxy_passwords(getproxies_environment())
