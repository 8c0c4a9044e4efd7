"""What becomes of what probes find: counted in the metrics, kept in the history, told in the log."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from exporter.admission import TargetBreaker
from exporter.alerting import Alerting
from exporter.breaker import State, Transition
from exporter.history import BreakerEvent, History
from exporter.journal import tell_change, tell_own_trouble, tell_transition
from exporter.metrics import Metrics
from exporter.outcome import Operation, Outcome, SkipReason
from exporter.target import Run, Target

CARRIED_OVER = "carried_over"
"""The cause of an event that a history begun anew has of a breaker that was open before."""

ANNOUNCE_SECONDS = 5.0
"""The longest that news waits for the disk: a disk that hangs must not silence it."""

TELLING_SECONDS = 5.0
"""The longest that somebody waits for news to be told."""

COMPLAIN_SECONDS = 60.0
"""From one line on a machine that fails to the next."""


@dataclass(frozen=True, slots=True)
class _News:
    """A change of a breaker's state that nobody has heard of yet; it waits for the disk until `due`.

    `retry_after` is in seconds, `due` is monotonic.
    """

    target: str
    transition: Transition
    opener: Operation | None
    retry_after: float
    written: asyncio.Future[bool]
    due: float


class Recorder:
    """Takes what concerns `targets`.

    What comes late from one that a reload replaced counts for its successor, if that is of the same place;
    of another place it says nothing, and the operation counts as skipped.

    A change of a breaker's state is on the disk before the metrics and the log tell of it.
    """

    def __init__(
        self, metrics: Metrics, history: History, alerting: Alerting, targets: Mapping[str, Target]
    ) -> None:
        self._metrics = metrics
        self._history = history
        self._alerting = alerting
        self._targets = targets
        self._news: asyncio.Queue[_News] = asyncio.Queue()
        self._announcer: asyncio.Task[None] | None = None
        self._complain_at = 0.0

    def start(self) -> None:
        """Begins to announce."""
        self._announcer = asyncio.get_running_loop().create_task(self._announce())

    async def stop(self, seconds: float) -> None:
        """Announces what is left, if the disk takes it in so many seconds."""
        if self._announcer is not None:
            await self.told(seconds)
            self._announcer.cancel()
            await asyncio.gather(self._announcer, return_exceptions=True)

    async def told(self, seconds: float = TELLING_SECONDS) -> None:
        """Waits until all news is told, or the disk takes too long."""
        with suppress(TimeoutError):  # before 3.12 wait_for may swallow that whoever waits is cancelled
            async with asyncio.timeout(seconds):
                await self._news.join()

    def outcome(self, target: Target, outcome: Outcome) -> None:
        """An operation was performed, and the breaker has heard of it."""
        heir = self._heir(target, outcome.operation)
        if heir is None or heir.breaker is not target.breaker:
            self._void(heir, outcome, SkipReason.STOPPED)
            return
        self._metrics.record(outcome)
        self._history.record(outcome)
        if change := heir.status.observe(outcome):
            tell_change(change)
        self._alerting.observe(outcome, time.monotonic())
        self._outlook(heir)

    def void(self, target: Target, outcome: Outcome) -> None:
        """An operation was performed that says nothing of the storage: the exporter had not the means."""
        if outcome.failure and outcome.failure.ours and (now := time.monotonic()) >= self._complain_at:
            self._complain_at = now + COMPLAIN_SECONDS
            tell_own_trouble(outcome, outcome.failure)
        self._void(self._heir(target, outcome.operation), outcome, SkipReason.OVERRUN)

    def skipped(self, target: Target, run: Run) -> None:
        """Operations of a run were not sent."""
        name = target.settings.name
        for operation, reason in run.skipped.items():
            if self._heir(target, operation) is not None:
                self._metrics.skip(name, operation, reason)
                if reason is SkipReason.CIRCUIT_OPEN:
                    self._history.skip(name, operation)
        if self._targets.get(name) is target:
            self.standing(target)

    def _heir(self, target: Target, operation: Operation) -> Target | None:
        """What stands where `target` stood when its operation began, if that has this operation, too."""
        heir = self._targets.get(target.settings.name)
        return heir if heir is target or (heir and operation in heir.settings.probe.operations) else None

    def _void(self, heir: Target | None, outcome: Outcome, reason: SkipReason) -> None:
        """It cost, but says nothing of the storage that is probed now."""
        if outcome.billed is not None:
            self._metrics.billed(outcome.target, outcome.billed)
        if heir is not None:
            self._metrics.skip(outcome.target, outcome.operation, reason)

    def standing(self, target: Target) -> None:
        """How a target stands now: at the end of a run, or when somebody has changed it."""
        self._metrics.breaker(target.settings.name, target.breaker.status(time.monotonic()))
        self._outlook(target)

    def _outlook(self, target: Target) -> None:
        """What may be news after each operation."""
        settings, breaker = target.settings, target.breaker
        self.transitions(target)
        if target.status.latest:
            up = breaker.admits_all and target.status.is_up(settings.probe.operations)
            self._metrics.target_up(settings.name, up)
        self._alerting.evaluate(settings.name, time.monotonic())

    def begin(self, target: Target) -> None:
        """A target is there, or there with other settings; its breaker may be that of before."""
        status = target.breaker.status(time.monotonic())
        if not target.breaker.has_news:
            self._metrics.breaker_state(target.settings.name, status.state)
        self.standing(target)

    def transitions(self, target: Target) -> None:
        """What a target's breaker did since it was last asked."""
        name, breaker = target.settings.name, target.breaker
        current = self._targets.get(name)
        if current is not None and current.breaker is breaker:
            self._take(name, breaker)

    def end(self, name: str, breaker: TargetBreaker) -> None:
        """A breaker is a target's no more: what opened it says nothing of one that gets this name later."""
        breaker.reset(time.monotonic())
        self._take(name, breaker)

    def _take(self, name: str, breaker: TargetBreaker) -> None:
        for transition in breaker.take_transitions():
            self._alerting.breaker(name, transition)
            now = time.monotonic()
            retry_after = breaker.status(now).retry_after
            written = self._history.announce(_event(name, transition, breaker.opener, retry_after))
            due = now + ANNOUNCE_SECONDS
            self._news.put_nowait(_News(name, transition, breaker.opener, retry_after, written, due))

    def remind(self, targets: Iterable[Target]) -> None:
        """Lets a history that was begun anew know which of these breakers are open."""
        now, wall_clock = time.monotonic(), time.time()
        for target in targets:
            status = target.breaker.status(now)
            if status.state in (State.OPEN, State.HALF_OPEN):
                self._history.announce(
                    BreakerEvent(
                        at=wall_clock,
                        target=target.settings.name,
                        from_state=State.CLOSED,
                        to_state=status.state,
                        cause=CARRIED_OVER,
                        operation=target.breaker.opener,
                        calls=status.counts.calls,
                        failures=status.counts.failures,
                        slow_calls=status.counts.slow_calls,
                        recovery=status.retry_after if status.state is State.OPEN else None,
                    )
                )

    async def _announce(self) -> None:
        while True:
            news = await self._news.get()
            try:
                await asyncio.wait({news.written}, timeout=news.due - time.monotonic())
                change = news.transition
                self._metrics.transition(news.target, change.from_state, change.to_state)
                self._metrics.breaker_state(news.target, change.to_state)
                tell_transition(news.target, change, news.opener, news.retry_after)
            finally:
                self._news.task_done()


def _event(target: str, change: Transition, opener: Operation | None, retry_after: float) -> BreakerEvent:
    return BreakerEvent(
        at=time.time(),
        target=target,
        from_state=change.from_state,
        to_state=change.to_state,
        cause=change.cause,
        operation=opener,
        calls=change.counts.calls,
        failures=change.counts.failures,
        slow_calls=change.counts.slow_calls,
        recovery=retry_after if change.to_state is State.OPEN else None,
    )
