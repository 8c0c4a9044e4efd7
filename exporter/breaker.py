"""The circuit breaker: a pure state machine that is told what happened and when.

It follows resilience4j's model (https://resilience4j.readme.io/docs/circuitbreaker). Times and durations
are in seconds, times of any clock that does not go back. It knows neither threads nor tasks: whoever
shares one among threads holds a lock around each call, as `exporter.guard` does for applications.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from exporter.window import Counts, Window


class State(StrEnum):
    """OPEN and FORCED_OPEN reject, HALF_OPEN admits a few trials, CLOSED and DISABLED admit all."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


class Cause(StrEnum):
    """Why a breaker changed its state."""

    FAILURE_THRESHOLD = "failure_threshold"
    FAILURE_RATE = "failure_rate"
    SLOW_CALL_RATE = "slow_call_rate"
    RECOVERY_TIMEOUT = "recovery_timeout"
    TRIAL_FAILED = "trial_failed"
    TRIAL_SLOW = "trial_slow"
    TRIAL_UNANSWERED = "trial_unanswered"
    TRIALS_SUCCEEDED = "trials_succeeded"
    BY_HAND = "by_hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a breaker opens and closes. Durations in seconds, ratios from 0 to 1; raises ValueError."""

    failure_threshold: int | None = 3
    """Failures within the monitoring window that open the breaker; None: no number does."""
    failure_rate_threshold: float | None = None
    """The share of failed calls that opens it too, once there are `minimum_calls`; None: no share does."""
    slow_call_threshold: float = 2.0
    """From this duration on a call is slow, whether it succeeds or fails."""
    slow_call_rate_threshold: float | None = None
    """The share of slow calls that opens it too, once there are `minimum_calls`; None: no share does."""
    minimum_calls: int = 10
    """Calls that the window must hold before a share counts."""
    monitoring_window: float = 300.0
    """How far back calls count."""
    recovery_timeout: float = 60.0
    """How long it stays open before it admits a trial."""
    recovery_timeout_multiplier: float = 1.0
    """How many times longer it stays open after each trial that failed."""
    recovery_timeout_max: float = 3600.0
    """The longest that it grows to; a longer `recovery_timeout` holds all the same."""
    half_open_max_calls: int = 1
    """How many trials may be under way at the same time."""
    half_open_successes: int = 1
    """How many trials must succeed, with none failed, before it closes."""
    half_open_max_wait: float = 60.0
    """How long a trial may stay without a result before it counts as failed."""
    ewma_half_life: float = 60.0
    """After how long a call weighs half as much in the moving average of response times."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("rate_threshold"):
                fine, wanted = value is None or 0 < value <= 1, "above 0 and at most 1, or None"
            elif field.name == "failure_threshold" and value is None:
                fine, wanted = True, ""
            elif field.name == "failure_threshold" or field.type is int:
                fine, wanted = isinstance(value, int) and value >= 1, "a whole number of at least 1"
            elif field.name == "recovery_timeout_multiplier":
                fine, wanted = 1 <= value < math.inf, "a number of at least 1"
            else:
                fine, wanted = 0.001 <= value < math.inf, "a number of seconds, at least 0.001"
            if not fine:
                raise ValueError(f"{field.name} must be {wanted}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state at `at`, and what the window held at that moment."""

    at: float
    from_state: State
    to_state: State
    cause: Cause
    counts: Counts


@dataclass(frozen=True, slots=True)
class Status:
    """A breaker at one moment. `since` is when it entered its state.

    `retry_after` says in how many seconds the next call can be admitted: 0 for at once, infinity while
    forced open. `mean_duration` is the moving average in seconds, NaN without any call of late.
    """

    state: State
    since: float
    retry_after: float
    counts: Counts
    mean_duration: float
    rejected: int
    seconds_in: Mapping[State, float]
    last_transition: Transition | None


class Breaker:
    """`admit` a call, then tell how it went: `succeed`, `fail`, or `release` for neither.

    The permit that `admit` gives belongs to the state it was given in. A result that comes when that
    state is over changes nothing: what began before the breaker opened cannot speak of its recovery.
    """

    __slots__ = (
        "_permits",
        "_retry_at",
        "_seconds_in",
        "_since",
        "_slow_from",
        "_successes",
        "_trials",
        "_wait",
        "last_transition",
        "passing",
        "policy",
        "rejected",
        "state",
        "transitions",
        "window",
    )

    def __init__(self, policy: Policy, now: float) -> None:
        self.policy = policy
        self._slow_from = policy.slow_call_threshold
        self.window = Window(policy.monitoring_window, policy.ewma_half_life, now)
        self.state = State.CLOSED
        self.rejected = 0
        """Calls that were not admitted, ever."""
        self.passing: int | None = 1
        """The permit that every call gets while the state admits all, else None and `admit` decides."""
        self.transitions: list[Transition] = []
        """What happened since somebody last took them from here, oldest first."""
        self.last_transition: Transition | None = None
        self._permits = 1
        self._trials: dict[int, float] = {}  # when each trial under way began, oldest first
        self._successes = 0
        self._wait = policy.recovery_timeout
        self._retry_at = now
        self._since = now
        self._seconds_in = dict.fromkeys(State, 0.0)

    def admit(self, now: float) -> int | None:
        """A permit for one call, or None if it must not be made."""
        if self.passing is not None:
            return self.passing
        if now >= self._retry_at and (permit := self._admit_trial(now)) is not None:
            return permit
        self.rejected += 1
        return None

    def succeed(self, permit: int, now: float, duration: float) -> bool:
        """The call took `duration` and the service did its part. True if the state changed."""
        window = self.window
        if permit == self.passing and duration < self._slow_from and now < window.ends:
            # Nearly every call ends here.
            window.calls += 1
            window.seconds += duration
            return window.troubled and self._judge(now)
        return self._count(permit, now, duration, failed=False)

    def fail(self, permit: int, now: float, duration: float) -> bool:
        """The call took `duration` and failed by the service's fault. True if the state changed."""
        return self._count(permit, now, duration, failed=True)

    def count_from(self, began: float, now: float) -> None:
        """Just opened: its recovery timeout counts from `began`, but half of it is to come all the same."""
        if self.state is State.OPEN:
            self._retry_at = max(began + self._wait, now + self._wait / 2)

    def release(self, permit: int) -> None:
        """The call said nothing of the service: it was cancelled, or wrong before it was sent."""
        self._trials.pop(permit, None)

    def reset(self, now: float) -> None:
        """By hand: closed, with an empty window, whatever the state is."""
        if self.state is State.CLOSED:
            self.window.forget()
        else:
            self._enter(State.CLOSED, Cause.BY_HAND, now)

    def force_open(self, now: float) -> None:
        """By hand: reject every call until `reset` or `disable`."""
        if self.state is not State.FORCED_OPEN:
            self._enter(State.FORCED_OPEN, Cause.BY_HAND, now)
            self._retry_at = math.inf

    def disable(self, now: float) -> None:
        """By hand: admit and measure every call, and never open, until `reset` or `force_open`."""
        if self.state is not State.DISABLED:
            self._enter(State.DISABLED, Cause.BY_HAND, now)

    def restore_open(self, now: float, left: float, wait: float) -> None:
        """Open as before a restart, which is no transition: `left` of its `wait` (seconds) is to come."""
        self.state, self.passing, self._since = State.OPEN, None, now
        self._wait, self._retry_at = wait, now + max(0.0, left)

    def configure(self, policy: Policy, now: float) -> None:
        """A new policy from now on; the state stays. A window of another width begins empty."""
        old, self.policy = self.policy, policy
        self._slow_from = policy.slow_call_threshold
        if (old.monitoring_window, old.ewma_half_life) != (policy.monitoring_window, policy.ewma_half_life):
            self.window = Window(policy.monitoring_window, policy.ewma_half_life, now)
        if old.recovery_timeout != policy.recovery_timeout:
            self._wait = policy.recovery_timeout
            if self.state is State.OPEN:
                self._retry_at = self._since + self._wait

    def is_trial(self, permit: int | None) -> bool:
        """Whether this is the permit of a trial under way."""
        return permit in self._trials

    def status(self, now: float) -> Status:
        """Everything there is to know at `now`; changes no state."""
        seconds_in = dict(self._seconds_in)
        seconds_in[self.state] += max(0.0, now - self._since)
        return Status(
            state=self.state,
            since=self._since,
            retry_after=self.retry_after(now),
            counts=self.window.counts(now),
            mean_duration=self.window.mean_duration(now),
            rejected=self.rejected,
            seconds_in=seconds_in,
            last_transition=self.last_transition,
        )

    def retry_after(self, now: float) -> float:
        """Seconds until a call can be admitted; while trials are under way, at most so many."""
        if len(self._trials) >= self.policy.half_open_max_calls:
            return max(0.0, next(iter(self._trials.values()), now) + self.policy.half_open_max_wait - now)
        return self._retry_at - now if now < self._retry_at else 0.0

    def _admit_trial(self, now: float) -> int | None:
        if self.state is State.OPEN:
            self._enter(State.HALF_OPEN, Cause.RECOVERY_TIMEOUT, now)
        if now - next(iter(self._trials.values()), now) >= self.policy.half_open_max_wait:
            self._reopen(Cause.TRIAL_UNANSWERED, now)
        else:
            # Taken before it is counted: a signal handler may ask for a permit in between.
            permit = self._new_permit()
            self._trials[permit] = now
            if len(self._trials) <= self.policy.half_open_max_calls:
                return permit
            self._trials.pop(permit, None)
        return None

    def _judge(self, now: float) -> bool:
        if self.state is State.DISABLED:
            return False
        policy, counts = self.policy, self.window.counts(now)
        if policy.failure_threshold is not None and counts.failures >= policy.failure_threshold:
            return self._open(Cause.FAILURE_THRESHOLD, now)
        if counts.calls < policy.minimum_calls:
            return False
        if _reached(counts.failure_ratio, policy.failure_rate_threshold):
            return self._open(Cause.FAILURE_RATE, now)
        if _reached(counts.slow_call_ratio, policy.slow_call_rate_threshold):
            return self._open(Cause.SLOW_CALL_RATE, now)
        return False

    def _count(self, permit: int, now: float, duration: float, *, failed: bool) -> bool:
        is_trial = permit in self._trials
        if permit != self.passing and not is_trial:
            return False
        slow = duration >= self._slow_from
        self.window.add(now, duration, failed=failed, slow=slow)
        if not is_trial:
            return self._judge(now)
        if failed:
            return self._reopen(Cause.TRIAL_FAILED, now)
        if slow and self.policy.slow_call_rate_threshold is not None:
            return self._reopen(Cause.TRIAL_SLOW, now)
        self._trials.pop(permit, None)
        self._successes += 1
        if self._successes < self.policy.half_open_successes:
            return False
        return self._enter(State.CLOSED, Cause.TRIALS_SUCCEEDED, now)

    def _open(self, cause: Cause, now: float) -> bool:
        self._enter(State.OPEN, cause, now)
        self._wait = self.policy.recovery_timeout
        self._retry_at = now + self._wait
        return True

    def _reopen(self, cause: Cause, now: float) -> bool:
        policy = self.policy
        longest = max(policy.recovery_timeout, policy.recovery_timeout_max)
        self._enter(State.OPEN, cause, now)
        self._wait = min(self._wait * policy.recovery_timeout_multiplier, longest)
        self._retry_at = now + self._wait
        return True

    def _enter(self, state: State, cause: Cause, now: float) -> bool:
        self.last_transition = Transition(now, self.state, state, cause, self.window.counts(now))
        self.transitions.append(self.last_transition)
        self._seconds_in[self.state] += max(0.0, now - self._since)
        self.state, self._since, self._retry_at = state, now, now
        self._trials.clear()
        self._successes = 0
        self.passing = self._new_permit() if state in (State.CLOSED, State.DISABLED) else None
        if state is State.CLOSED:
            self.window.forget()
        return True

    def _new_permit(self) -> int:
        self._permits += 1
        return self._permits


def _reached(ratio: float, threshold: float | None) -> bool:
    return threshold is not None and ratio >= threshold
