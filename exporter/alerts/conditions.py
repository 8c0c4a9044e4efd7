"""What is so of a target now: whether there is cause for an alert, and whether there clearly is none.

- service_degraded: two operations failed within two minutes and since the last recovery, and one fails
  still. Over when none fails.
- circuit_breaker_open: it is not closed, and a trial failed or 90 s have passed. Over when it is closed.
- high_error_rate, slow_response: of the long window (5 minutes, or what ten operations take) and of its
  latest two fifths a larger share is bad than allowed, at least 3 of at least 10. Over once the share in the
  long window is at most half of what is allowed. What was before the breaker closed does not count, so then
  it is over when every operation has run since, and well.

Between cause and end lies a gap in which an alert stays what it is, active or not: so it does not flap.
"""

import math
import re
from dataclasses import dataclass

from exporter.alerts.kinds import AlertType
from exporter.alerts.tally import SLICES, Tally
from exporter.breaker import State, Transition
from exporter.config import TargetSettings
from exporter.outcome import Failure, Operation, Outcome, Reason
from exporter.window import Counts

LATELY = 120.0
"""How long an operation that works again still counts as one that failed."""

OPEN_AFTER = 90.0
"""How long a breaker that is not closed is left to close before somebody is told."""

WINDOW = 300.0
MINIMUM_CALLS = 10
MINIMUM_BAD = 3
SLOW_SHARE = 0.05
"""The 95th percentile is above the threshold when more than this share of operations is."""

CLEARLY = 0.5
"""The part of an allowed share that an active alert must come down to."""

_PLAIN = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass(frozen=True, slots=True)
class Why:
    """Why an operation failed, in words that hold no secret."""

    reason: Reason
    s3_code: str
    request_id: str


@dataclass(slots=True)
class _Latest:
    """An operation's latest run, its last failure and until when it failed, and its last slow run."""

    at: float
    fails: bool = False
    slow: bool = False
    why: Why | None = None
    failed_until: float = -math.inf
    slow_at: float = -math.inf


class Conditions:
    """What is known of one target; times are monotonic seconds."""

    __slots__ = (
        "_breaker_known",
        "_closed_at",
        "_latest",
        "_restored_at",
        "_settings",
        "_trial_at",
        "open_since",
        "tally",
        "trial_failed",
    )

    def __init__(self, settings: TargetSettings, now: float) -> None:
        self._settings = settings
        self.tally = Tally(_width(settings), now)
        self._latest: dict[Operation, _Latest] = {}
        self.open_since: float | None = None
        """Since when the breaker is not closed."""
        self.trial_failed = False
        self._trial_at = now
        self._breaker_known = True
        self._closed_at: float | None = None
        self._restored_at = -math.inf

    def configure(self, settings: TargetSettings, now: float) -> None:
        """Other settings. What they make uncertain is forgotten."""
        before, self._settings = self._settings, settings
        width = _width(settings)
        gone = [operation for operation in self._latest if operation not in settings.probe.operations]
        for operation in gone:
            del self._latest[operation]
        if gone:
            self.tally.forget()
            self._closed_at = now
        if width != self.tally.width:
            self.tally = Tally(width, now)
        elif before.alerts.slow_response_threshold != settings.alerts.slow_response_threshold:
            self.tally.forget()

    def observe(self, outcome: Outcome, now: float) -> None:
        """An operation was performed."""
        if outcome.operation not in self._settings.probe.operations:
            return
        slow = outcome.duration > self._settings.alerts.slow_response_threshold
        self.tally.add(now, failed=not outcome.success, slow=slow)
        latest = self._latest.setdefault(outcome.operation, _Latest(now))
        if outcome.failure is not None:
            latest.why = _why(outcome.failure, outcome.request_id, latest.why if latest.fails else None)
        elif latest.fails:
            latest.failed_until = now
        if slow:
            latest.slow_at = now
        latest.at, latest.fails, latest.slow = now, not outcome.success, slow

    def breaker(self, change: Transition) -> None:
        """The breaker changed its state."""
        self._breaker_known = True
        if change.to_state in (State.CLOSED, State.DISABLED):
            if self.open_since is not None:
                # The trial that closed it may have been observed before this, or not.
                by_trial = change.from_state is State.HALF_OPEN
                self._closed_at = self._trial_at if by_trial else change.at
                self.tally.forget()
            self.open_since = None
            return
        if self.open_since is None:
            self.open_since, self.trial_failed = change.at, False
        if change.to_state is State.HALF_OPEN:
            self._trial_at = change.at
        elif change.from_state is State.HALF_OPEN:
            self.trial_failed = True

    def restore(self, state: State, now: float) -> None:
        """Nothing is known after a restart but the breaker's `state`, and a closed one proves nothing."""
        self._restored_at = now
        self.tally.roll(now)
        self._breaker_known = state not in (State.CLOSED, State.DISABLED)
        self.open_since = now if self._breaker_known else None

    @property
    def quiet(self) -> bool:
        """Whether nothing is amiss, so that time alone brings no cause for an alert."""
        return self.tally.bad == 0 and self.open_since is None

    def is_known(self, now: float) -> bool:
        """Whether every operation has run since the last restart."""
        return self._seen_since(self._restored_at, now)

    @property
    def works(self) -> bool:
        """Whether the breaker is closed, and no operation failed at its latest run."""
        return self.open_since is None and not self._any_fails

    def has_cause(self, kind: AlertType, now: float) -> bool:
        """Whether there is cause for an alert, were it not for how long it must last."""
        match kind:
            case AlertType.SERVICE_DEGRADED:
                return self._any_fails and len(self.failing(now)) > 1
            case AlertType.CIRCUIT_BREAKER_OPEN:
                opened = self.open_since
                return opened is not None and (self.trial_failed or now >= opened + OPEN_AFTER)
            case AlertType.HIGH_ERROR_RATE | AlertType.SLOW_RESPONSE:
                long, short, allowed = self.tally.long(now), self.tally.short(now), self.allowed(kind)
                enough = long.calls >= MINIMUM_CALLS and _bad(kind, long) >= MINIMUM_BAD
                return enough and share(kind, long) > allowed and share(kind, short) > allowed
            case _:
                return False

    def is_over(self, kind: AlertType, now: float, part: float = CLEARLY) -> bool:
        """Whether there clearly is no cause any more; `part` is that of an allowed share to come down to."""
        match kind:
            case AlertType.SERVICE_DEGRADED:
                return not self._any_fails and self.is_known(now)
            case AlertType.CIRCUIT_BREAKER_OPEN:
                proven = self.works and self.is_known(now)
                return self.open_since is None and (self._breaker_known or proven)
            case AlertType.HIGH_ERROR_RATE | AlertType.SLOW_RESPONSE:
                counts = self.tally.long(now)
                if counts.calls >= MINIMUM_CALLS:
                    return share(kind, counts) <= part * self.allowed(kind)
                if self._closed_at is None or self.open_since is not None:
                    return False
                return not self._any_bad(kind) and self._seen_since(self._closed_at, now)
            case _:
                return False

    def allowed(self, kind: AlertType) -> float:
        """The share of bad operations from which on there is an alert."""
        is_errors = kind is AlertType.HIGH_ERROR_RATE
        return self._settings.alerts.error_rate_threshold if is_errors else SLOW_SHARE

    def failing(self, now: float, lately: float = LATELY) -> dict[Operation, Why]:
        """The operations that fail still, or did within so many seconds since the last recovery, and why."""
        known = ((each, self._latest.get(each)) for each in self._settings.probe.operations)
        return {
            operation: latest.why
            for operation, latest in known
            if latest and latest.why and (latest.fails or latest.failed_until + lately > now)
        }

    def recovered(self) -> None:
        """Everything works again, and it is known: what failed until now is no part of what may come."""
        for latest in self._latest.values():
            latest.failed_until = -math.inf

    def slow(self, now: float) -> tuple[Operation, ...]:
        """The operations that were slow within the window."""
        known = ((each, self._latest.get(each)) for each in self._settings.probe.operations)
        return tuple(each for each, latest in known if latest and latest.slow_at + self.tally.width > now)

    def next_change_at(self, now: float) -> float:
        """Until when nothing here changes by time alone."""
        self.tally.roll(now)
        times = [self.tally.ends, self._restored_at + self.tally.width]
        if self.open_since is not None:
            times.append(self.open_since + OPEN_AFTER)
        if self._closed_at is not None:
            times.append(self._closed_at + self.tally.width)
        for latest in self._latest.values():
            times += latest.failed_until + LATELY, latest.slow_at + self.tally.width
        return min(time for time in times if time > now)

    @property
    def _any_fails(self) -> bool:
        return any(latest.fails for latest in self._latest.values())

    def _any_bad(self, kind: AlertType) -> bool:
        if kind is AlertType.HIGH_ERROR_RATE:
            return self._any_fails
        return any(latest.slow for latest in self._latest.values())

    def _seen_since(self, since: float, now: float) -> bool:
        """Whether every operation has run since; one that nobody asks for is waited for a window long."""
        if since == -math.inf:
            return True
        seen = [each for each, latest in self._latest.items() if latest.at >= since]
        return len(seen) == len(self._settings.probe.operations) or (
            bool(seen) and now >= since + self.tally.width
        )


def share(kind: AlertType, counts: Counts) -> float:
    """The share of operations that are bad in the sense of this alert; NaN without any."""
    return counts.failure_ratio if kind is AlertType.HIGH_ERROR_RATE else counts.slow_call_ratio


def _bad(kind: AlertType, counts: Counts) -> int:
    return counts.failures if kind is AlertType.HIGH_ERROR_RATE else counts.slow_calls


def _width(settings: TargetSettings) -> float:
    """Five minutes, or however long it takes that ten operations always lie in the window."""
    runs = math.ceil(MINIMUM_CALLS / len(settings.probe.operations)) + 1
    return max(WINDOW, runs * settings.probe.interval * SLICES / (SLICES - 1))


def _why(failure: Failure, request_id: str, before: Why | None) -> Why:
    """Of failures in a row with one reason, the first request id stands for all."""
    if before is not None and before.reason is failure.reason and before.request_id:
        request_id = before.request_id
    return Why(failure.reason, _plain(failure.s3_code), _plain(request_id))


def _plain(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else ""
