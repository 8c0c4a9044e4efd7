"""The breaker's rules: against a plain model for any sequence of events, and by example."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from exporter.breaker import Breaker, Cause, Policy, State, Transition
from exporter.window import FADED, SLICES, Counts, Window

SLICE = 0.5  # binary fractions of a second, so that the model's sums are exact
WIDTH = SLICES * SLICE
START = 1000.0
ADMITS_ALL = (State.CLOSED, State.DISABLED)

steps = st.one_of(
    st.integers(0, 8).map(lambda n: n / 4), st.sampled_from([WIDTH - SLICE, WIDTH, 3 * WIDTH, 10_000.0])
)
durations = st.sampled_from([0.0, 0.25, 1.75, 2.0, 30.0])
rates = st.one_of(st.none(), st.sampled_from([0.25, 0.5, 1.0]))
policies = st.builds(
    Policy,
    failure_threshold=st.sampled_from([1, 1, 2, 3, 5, None]),
    failure_rate_threshold=rates,
    slow_call_rate_threshold=rates,
    minimum_calls=st.sampled_from([1, 3, 10]),
    monitoring_window=st.just(WIDTH),
    recovery_timeout=st.sampled_from([0.5, 4.0, 60.0]),
    recovery_timeout_multiplier=st.sampled_from([1.0, 2.0]),
    recovery_timeout_max=st.sampled_from([1.0, 20.0, 3600.0]),
    half_open_max_calls=st.integers(1, 3),
    half_open_successes=st.integers(1, 4),
    half_open_max_wait=st.sampled_from([1.0, 30.0]),
    ewma_half_life=st.sampled_from([5.0, 60.0]),
)


@dataclass(frozen=True)
class Call:
    slice: int
    duration: float
    failed: bool


@dataclass
class Model:
    """The breaker as one would explain it: it keeps every call and counts anew each time."""

    policy: Policy
    now: float = START
    state: State = State.CLOSED
    since: float = START
    era: int = 0  # how many states there have been
    ever: list[Call] = field(default_factory=list)
    counted: list[Call] = field(default_factory=list)  # since it was last closed
    trials: dict[int, float] = field(default_factory=dict)
    successes: int = 0
    failed_recoveries: int = 0
    retry_at: float = START
    rejected: int = 0
    seconds_in: dict[State, float] = field(default_factory=lambda: dict.fromkeys(State, 0.0))
    changes: list[Transition] = field(default_factory=list)

    @property
    def slice(self) -> int:
        return math.floor((self.now - START) / SLICE)

    def counts(self) -> Counts:
        lately = [call for call in self.counted if call.slice > self.slice - SLICES]
        slow = [call for call in lately if call.duration >= self.policy.slow_call_threshold]
        return Counts(len(lately), sum(call.failed for call in lately), len(slow))

    def enter(self, state: State, cause: Cause) -> None:
        self.changes.append(Transition(self.now, self.state, state, cause, self.counts()))
        self.seconds_in[self.state] += self.now - self.since
        self.state, self.since, self.era = state, self.now, self.era + 1
        self.trials.clear()
        self.successes = 0
        if state is State.CLOSED:
            self.counted.clear()

    def open(self, cause: Cause, failed_recoveries: int) -> None:
        self.enter(State.OPEN, cause)
        self.failed_recoveries = failed_recoveries
        policy = self.policy
        wait = policy.recovery_timeout * policy.recovery_timeout_multiplier**failed_recoveries
        if failed_recoveries:
            wait = min(wait, max(policy.recovery_timeout, policy.recovery_timeout_max))
        self.retry_at = self.now + wait

    def admit(self, number: int) -> bool:
        if self.state is State.OPEN and self.now >= self.retry_at:
            self.enter(State.HALF_OPEN, Cause.RECOVERY_TIMEOUT)
        if self.state is State.HALF_OPEN:
            if any(self.now - began >= self.policy.half_open_max_wait for began in self.trials.values()):
                self.open(Cause.TRIAL_UNANSWERED, self.failed_recoveries + 1)
            elif len(self.trials) < self.policy.half_open_max_calls:
                self.trials[number] = self.now
                return True
        if self.state in ADMITS_ALL:
            return True
        self.rejected += 1
        return False

    def result(self, number: int, era: int, duration: float, failed: bool) -> None:
        if era != self.era:
            return
        call = Call(self.slice, duration, failed)
        self.ever.append(call)
        self.counted.append(call)
        if self.state is State.CLOSED:
            self.judge()
        elif self.state is State.HALF_OPEN:
            del self.trials[number]
            slow = duration >= self.policy.slow_call_threshold
            if failed:
                self.open(Cause.TRIAL_FAILED, self.failed_recoveries + 1)
            elif slow and self.policy.slow_call_rate_threshold is not None:
                self.open(Cause.TRIAL_SLOW, self.failed_recoveries + 1)
            else:
                self.successes += 1
                if self.successes >= self.policy.half_open_successes:
                    self.enter(State.CLOSED, Cause.TRIALS_SUCCEEDED)

    def judge(self) -> None:
        policy, counts = self.policy, self.counts()
        enough = counts.calls >= policy.minimum_calls
        too_many = policy.failure_rate_threshold
        too_slow = policy.slow_call_rate_threshold
        if policy.failure_threshold is not None and counts.failures >= policy.failure_threshold:
            self.open(Cause.FAILURE_THRESHOLD, 0)
        elif enough and too_many is not None and counts.failures >= too_many * counts.calls:
            self.open(Cause.FAILURE_RATE, 0)
        elif enough and too_slow is not None and counts.slow_calls >= too_slow * counts.calls:
            self.open(Cause.SLOW_CALL_RATE, 0)


class Breaking(RuleBasedStateMachine):
    """Any sequence of calls, results, cancellations, hands and times."""

    permits: Bundle[tuple[int, int, int]] = Bundle("permits")  # permit, number, era

    @initialize(policy=policies)
    def begin(self, policy: Policy) -> None:
        self.model = Model(policy)
        self.breaker = Breaker(policy, START)
        self.number = 0

    @rule(step=steps)
    def time_passes(self, step: float) -> None:
        self.model.now += step

    @precondition(lambda self: self.model.state in (State.OPEN, State.HALF_OPEN))
    @rule(target=permits, times=st.integers(2, 4))
    def several_at_once(self, times: int) -> Any:
        admitted = [self.admit_one() for _ in range(times)]
        return multiple(*(permit for permit in admitted if permit is not None))

    @rule(target=permits)
    def admit(self) -> Any:
        admitted = self.admit_one()
        return multiple() if admitted is None else admitted

    def admit_one(self) -> tuple[int, int, int] | None:
        self.number += 1
        permit = self.breaker.admit(self.model.now)
        assert (permit is not None) == self.model.admit(self.number)
        return None if permit is None else (permit, self.number, self.model.era)

    @rule(given=consumes(permits), duration=durations, failed=st.booleans())
    def result(self, given: tuple[int, int, int], duration: float, failed: bool) -> None:
        permit, number, era = given
        before = len(self.model.changes)
        tell = self.breaker.fail if failed else self.breaker.succeed
        changed = tell(permit, self.model.now, duration)
        self.model.result(number, era, duration, failed)
        assert changed == (len(self.model.changes) > before)

    @rule(
        duration=durations, failed=st.booleans(), step=st.sampled_from([0.0, 0.25]), times=st.integers(1, 12)
    )
    def calls_one_by_one(self, duration: float, failed: bool, step: float, times: int) -> None:
        for _ in range(times):
            if (admitted := self.admit_one()) is not None:
                self.model.now += step
                self.result(admitted, duration, failed)

    @rule(given=consumes(permits))
    def cancelled(self, given: tuple[int, int, int]) -> None:
        permit, number, era = given
        self.breaker.release(permit)
        if era == self.model.era:
            self.model.trials.pop(number, None)

    @precondition(lambda self: self.model.state is State.OPEN)
    @rule(early=st.sampled_from([0.0, 0.0, 0.25]))
    def the_recovery_timeout_ends(self, early: float) -> None:
        self.model.now = max(self.model.now, self.model.retry_at - early)

    @precondition(lambda self: self.model.state is not State.HALF_OPEN or self.number % 8 == 0)
    @rule(hand=st.sampled_from(["reset", "reset", "force_open", "disable", *["none"] * 5]))
    def by_hand(self, hand: str) -> None:
        if hand == "none":
            return
        getattr(self.breaker, hand)(self.model.now)
        states = {"reset": State.CLOSED, "force_open": State.FORCED_OPEN, "disable": State.DISABLED}
        if self.model.state is not states[hand]:
            self.model.enter(states[hand], Cause.BY_HAND)
        elif hand == "reset":
            self.model.counted.clear()

    @invariant()
    def the_state_is_the_models(self) -> None:
        model, status = self.model, self.breaker.status(self.model.now)
        assert status.state is model.state
        assert status.since == model.since
        assert status.counts == model.counts()
        assert status.rejected == model.rejected
        assert self.breaker.transitions == model.changes
        assert status.last_transition == (model.changes[-1] if model.changes else None)
        assert sum(status.seconds_in.values()) == model.now - START

    @invariant()
    def never_more_trials_than_permitted(self) -> None:
        event(f"in {self.model.state}")
        assert len(self.breaker._trials) == len(self.model.trials) <= self.model.policy.half_open_max_calls

    @invariant()
    def it_tells_when_to_try_again(self) -> None:
        model, said = self.model, self.breaker.retry_after(self.model.now)
        match model.state:
            case State.FORCED_OPEN:
                assert said == math.inf
            case State.OPEN:
                assert said == max(0.0, model.retry_at - model.now)
            case State.HALF_OPEN if len(model.trials) >= model.policy.half_open_max_calls:
                oldest = min(model.trials.values())
                assert said == max(0.0, oldest + model.policy.half_open_max_wait - model.now)
            case _:
                assert said == 0

    @invariant()
    def the_moving_average_is_the_weighted_mean(self) -> None:
        model = self.model
        decay = 0.5 ** (SLICE / model.policy.ewma_half_life)
        weights = [decay ** (model.slice - call.slice) for call in model.ever]
        said = self.breaker.status(model.now).mean_duration
        if sum(weights) > FADED * 1.01:
            total = sum(weight * call.duration for weight, call in zip(weights, model.ever, strict=True))
            assert said == pytest.approx(total / sum(weights))
        elif sum(weights) < FADED * 0.99:
            assert math.isnan(said)


Breaking.TestCase.settings = settings(max_examples=600, stateful_step_count=60, deadline=None)
TestBreaking = Breaking.TestCase


def opened(**policy: float) -> Breaker:
    """A breaker that one failure has just opened, at 0."""
    breaker = Breaker(replace(Policy(failure_threshold=1), **policy), 0.0)  # type: ignore[arg-type]
    fail(breaker, 0.0)
    assert breaker.state is State.OPEN
    return breaker


def fail(breaker: Breaker, now: float, duration: float = 0.1) -> None:
    permit = breaker.admit(now)
    assert permit is not None
    breaker.fail(permit, now, duration)


def succeed(breaker: Breaker, now: float, duration: float = 0.1) -> None:
    permit = breaker.admit(now)
    assert permit is not None
    breaker.succeed(permit, now, duration)


def causes(breaker: Breaker) -> list[Cause]:
    return [transition.cause for transition in breaker.transitions]


def test_the_defaults_are_the_published_ones() -> None:
    policy = Policy()
    assert policy.failure_threshold == 3
    assert policy.recovery_timeout == 60
    assert policy.monitoring_window == 300
    assert policy.slow_call_threshold == 2
    assert policy.half_open_max_calls == 1


def test_three_failures_within_the_window_open_it() -> None:
    breaker = Breaker(Policy(), 0.0)
    for now in (0.0, 100.0, 280.0):
        assert breaker.state is State.CLOSED
        fail(breaker, now)
    assert breaker.state is State.OPEN
    assert breaker.transitions == [
        Transition(280.0, State.CLOSED, State.OPEN, Cause.FAILURE_THRESHOLD, Counts(3, 3, 0))
    ]


def test_failures_that_left_the_window_do_not_count() -> None:
    breaker = Breaker(Policy(), 0.0)
    for now in (0.0, 100.0, 301.0, 402.0):
        fail(breaker, now)
    assert breaker.state is State.CLOSED


def test_a_success_can_be_what_makes_the_calls_enough() -> None:
    breaker = Breaker(Policy(failure_threshold=100, failure_rate_threshold=0.5, minimum_calls=4), 0.0)
    for tell in (fail, fail, succeed):
        tell(breaker, 0.0)
        assert breaker.state is State.CLOSED
    succeed(breaker, 0.0)
    assert causes(breaker) == [Cause.FAILURE_RATE]


def test_slow_calls_open_it_only_where_told_to() -> None:
    for rate, state in ((None, State.CLOSED), (0.5, State.OPEN)):
        breaker = Breaker(Policy(slow_call_rate_threshold=rate, minimum_calls=2), 0.0)
        succeed(breaker, 0.0, duration=2.0)
        succeed(breaker, 0.0, duration=1.9)
        assert breaker.state is state
        assert breaker.transitions == [] or breaker.transitions[0].counts == Counts(2, 0, 1)


def test_it_stays_open_for_the_recovery_timeout() -> None:
    breaker = opened(recovery_timeout=60.0)
    assert breaker.admit(59.9) is None
    assert breaker.retry_after(59.5) == 0.5
    succeed(breaker, 60.0)
    assert breaker.state is State.CLOSED
    assert causes(breaker)[1:] == [Cause.RECOVERY_TIMEOUT, Cause.TRIALS_SUCCEEDED]


def test_each_failed_trial_lengthens_the_recovery_up_to_the_cap() -> None:
    breaker = opened(recovery_timeout=10.0, recovery_timeout_multiplier=2.0, recovery_timeout_max=50.0)
    now, waits = 0.0, []
    for _ in range(2000):  # a factor of 2 ** 2000 would be no float any more
        waits.append(breaker.retry_after(now))
        now += waits[-1]
        fail(breaker, now)
    assert waits[:5] == [10, 20, 40, 50, 50]
    assert waits[-1] == 50
    succeed(breaker, now + 50)
    fail(breaker, now + 50)
    assert breaker.retry_after(now + 50) == 10


def test_a_trial_without_a_result_does_not_stick() -> None:
    breaker = opened(half_open_max_wait=30.0)
    silent = breaker.admit(60.0)
    assert silent is not None
    assert breaker.admit(89.0) is None
    assert causes(breaker)[-1] is Cause.RECOVERY_TIMEOUT
    assert breaker.admit(90.0) is None
    assert causes(breaker)[-1] is Cause.TRIAL_UNANSWERED
    succeed(breaker, 150.0)
    assert causes(breaker)[-1] is Cause.TRIALS_SUCCEEDED
    assert breaker.fail(silent, 151.0, 91.0) is False


def test_a_slow_trial_reopens_what_slowness_can_open() -> None:
    breaker = opened(slow_call_rate_threshold=0.5)
    succeed(breaker, 60.0, duration=3.0)
    assert causes(breaker)[-1] is Cause.TRIAL_SLOW
    assert breaker.state is State.OPEN


def test_a_new_policy_holds_at_once_and_keeps_the_state() -> None:
    breaker = opened(recovery_timeout=3600.0)
    breaker.configure(Policy(recovery_timeout=5.0), 4.0)
    assert breaker.state is State.OPEN
    assert breaker.retry_after(4.0) == 1.0
    assert breaker.status(4.0).counts.failures == 1
    breaker.configure(Policy(recovery_timeout=5.0, monitoring_window=10.0), 4.0)
    assert breaker.status(4.0).counts == Counts()
    succeed(breaker, 5.0)
    breaker.configure(Policy(slow_call_threshold=0.05), 5.0)
    succeed(breaker, 5.0, duration=0.1)
    assert breaker.status(5.0).counts.slow_calls == 1


def test_without_calls_there_is_no_ratio_and_no_average() -> None:
    status = Breaker(Policy(), 0.0).status(1.0)
    for value in (status.counts.failure_ratio, status.counts.slow_call_ratio, status.mean_duration):
        assert math.isnan(value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"failure_threshold": 0}, "failure_threshold must be a whole number of at least 1, got 0"),
        ({"failure_threshold": 2.5}, "failure_threshold must be a whole number"),
        ({"failure_rate_threshold": 0.0}, "failure_rate_threshold must be above 0 and at most 1, or None"),
        ({"slow_call_rate_threshold": 50}, "slow_call_rate_threshold must be above 0 and at most 1, or None"),
        ({"recovery_timeout": 0.0}, "recovery_timeout must be a number of seconds, at least 0.001, got 0.0"),
        (
            {"monitoring_window": math.inf},
            "monitoring_window must be a number of seconds, at least 0.001, got inf",
        ),
        ({"half_open_max_wait": math.nan}, "half_open_max_wait must be a number of seconds, at least 0.001"),
        ({"recovery_timeout_multiplier": 0.5}, "recovery_timeout_multiplier must be a number of at least 1"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(**wrong)  # type: ignore[arg-type]


@given(
    width=st.floats(0.001, 1e6),
    moments=st.lists(st.floats(0.0, 1e7), min_size=1, max_size=50).map(sorted),
)
def test_a_window_of_any_width_holds_what_is_young_and_nothing_old(
    width: float, moments: list[float]
) -> None:
    window = Window(width, 60.0, moments[0])
    for moment in moments:
        window.add(moment, 0.1, failed=True, slow=False)
    now = moments[-1]
    held = window.counts(now).failures
    slack = width * 1e-6 + 1e-8 * now
    surely = [moment for moment in moments if now - moment < width * (1 - 1 / SLICES) - slack]
    perhaps = [moment for moment in moments if now - moment < width + slack]
    assert len(surely) <= held <= len(perhaps)


def test_a_window_keeps_its_size_at_any_rate() -> None:
    window = Window(30.0, 60.0, 0.0)
    for number in range(100_000):
        window.add(number * 0.001, 0.1, failed=False, slow=False)
    assert len(window._past) == SLICES - 1
