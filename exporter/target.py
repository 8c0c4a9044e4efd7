"""A target at work, and what came of one run of its operations."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from exporter.admission import TargetBreaker
from exporter.config import TargetSettings
from exporter.outcome import Operation, Outcome, SkipReason
from exporter.probe import Probe
from exporter.status import TargetStatus
from exporter.storage import Reply


@dataclass(slots=True)
class Run:
    """What came of one run: the operations that were sent, and why the others were not."""

    results: list[tuple[Outcome, Reply]] = field(default_factory=list)
    skipped: dict[Operation, SkipReason] = field(default_factory=dict)


@dataclass(slots=True)
class Target:
    """A target at work."""

    settings: TargetSettings
    probe: Probe
    tls: object
    instance: str
    breaker: TargetBreaker
    status: TargetStatus = field(default_factory=TargetStatus)
    _runs: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """A run or a sweep is under way."""
        self._runs += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._runs -= 1
            if not self._runs:
                self._idle.set()

    async def idle(self) -> None:
        """Waits until neither is under way."""
        if self._runs:
            await self._idle.wait()

    def take_over(self, old: "Target", now: float) -> bool:
        """Takes over what is known, after a reload. False for another place or other keys: these have a
        breaker of their own, that knows no failure."""
        self.status = old.status
        if self.tls is not old.tls or not _same_place(self.settings, old.settings):
            return False
        self.breaker = old.breaker
        self.breaker.configure(self.settings.breaker, now)
        return True


def thresholds(target: TargetSettings) -> dict[str, float]:
    """What `r2_config_threshold` shows of a target."""
    return {
        "error_rate": target.alerts.error_rate_threshold,
        "slow_response_seconds": target.alerts.slow_response_threshold,
        "failure_threshold": target.breaker.failure_threshold,
        "recovery_timeout_seconds": target.breaker.recovery_timeout,
        "check_interval_seconds": target.probe.interval,
        "alert_on_failure": float(target.alerts.on_failure),
        "alert_on_recovery": float(target.alerts.on_recovery),
        "slo_objective": target.alerts.slo_objective,
        "monthly_budget_dollars": target.alerts.monthly_budget,
    }


def _same_place(one: TargetSettings, other: TargetSettings) -> bool:
    ours = {"probe": one.probe, "breaker": one.breaker, "alerts": one.alerts, "labels": one.labels}
    return other.model_copy(update=ours) == one
