"""What a run may send: the target's breaker asked for each operation, in any order of events."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.admission import TargetBreaker, policy_of, trial_of
from exporter.breaker import Policy, State
from exporter.config import BreakerSettings
from exporter.outcome import Failure, Operation, Outcome, Reason

PUT, GET, HEAD, LIST, DELETE = Operation
ALL = tuple(Operation)
RECOVERY = BreakerSettings().recovery_timeout

Ends = dict[Operation, Reason | None]


@dataclass
class Sent:
    """What one run did: the operations that were sent, of these `before_closed`, and those refused."""

    order: list[Operation]
    sent: list[Operation] = field(default_factory=list)
    before_closed: list[Operation] = field(default_factory=list)
    refused: list[Operation] = field(default_factory=list)


def run(
    breaker: TargetBreaker, now: float, ends: Ends, due: tuple[Operation, ...] = ALL, cancelled_at: int = 99
) -> Sent:
    """One run at `now` as the exporter makes it; an operation ends as `ends` says, well by default."""
    admission = breaker.begin_run(due, now)
    it = Sent(list(admission.order))
    for number, operation in enumerate(admission.order):
        closed = breaker.admits_all
        if not admission.admit(operation, now):
            continue
        it.sent.append(operation)
        if not closed:
            it.before_closed.append(operation)
        if number == cancelled_at:
            break  # its outcome never comes
        admission.observe(outcome(operation, ends.get(operation)), now)
    admission.end()
    it.refused = admission.refused
    return it


def outcome(operation: Operation, reason: Reason | None) -> Outcome:
    failure = None if reason is None else Failure(reason, "told by the test")
    return Outcome("media", operation, started_at=0, duration=0.1, failure=failure)


def opened(by: Operation, **settings: object) -> TargetBreaker:
    """A breaker that a failure of `by` has opened at 0."""
    breaker = TargetBreaker(BreakerSettings.model_validate({"failure_threshold": 1, **settings}), 0.0)
    run(breaker, 0.0, {by: Reason.SERVER}, (by,))
    assert breaker.status(0.0).state is State.OPEN
    breaker.take_transitions()
    return breaker


def state(breaker: TargetBreaker, now: float) -> State:
    return breaker.status(now).state


def test_the_settings_have_the_defaults_of_the_breaker() -> None:
    assert policy_of(BreakerSettings()) == Policy()


def test_a_run_with_a_closed_breaker_is_as_ever() -> None:
    breaker = TargetBreaker(BreakerSettings(), 0.0)
    it = run(breaker, 0.0, {})
    assert it.sent == it.order == list(ALL)
    assert breaker.status(0.0).counts.calls == len(ALL)


def test_the_operation_that_opens_it_is_the_last_of_its_run() -> None:
    breaker = TargetBreaker(BreakerSettings(failure_threshold=2), 0.0)
    it = run(breaker, 0.0, dict.fromkeys(ALL, Reason.TIMEOUT))
    assert (it.sent, it.refused) == ([PUT, GET], [HEAD, LIST, DELETE])
    assert breaker.opener is GET
    assert run(breaker, 1.0, {}).sent == []


def test_a_recovery_timeout_of_two_intervals_ends_with_the_second_turn() -> None:
    breaker = TargetBreaker(BreakerSettings(failure_threshold=1), 0.0)
    admission = breaker.begin_run(ALL, 0.003)
    assert admission.admit(PUT, 0.003)
    admission.observe(outcome(PUT, Reason.TIMEOUT), 5.003)
    admission.end()
    assert run(breaker, RECOVERY / 2, {}).sent == []
    assert run(breaker, RECOVERY + 0.001, {}).sent == list(ALL)


def test_a_recovery_timeout_that_ends_within_a_run_waits_for_the_next() -> None:
    breaker = TargetBreaker(BreakerSettings(failure_threshold=1), 0.0)
    admission = breaker.begin_run(ALL, 0.0)
    assert admission.admit(PUT, 0.0)
    admission.observe(outcome(PUT, Reason.TIMEOUT), 0.0)
    assert not admission.admit(GET, RECOVERY)
    admission.end()
    assert state(breaker, RECOVERY) is State.OPEN


@pytest.mark.parametrize(
    ("opener", "order"),
    [
        (PUT, [PUT, GET, HEAD, LIST, DELETE]),
        (GET, [PUT, GET, HEAD, LIST, DELETE]),
        (HEAD, [PUT, HEAD, GET, LIST, DELETE]),
        (LIST, [LIST, PUT, GET, HEAD, DELETE]),
        (DELETE, [DELETE, PUT, GET, HEAD, LIST]),
    ],
)
def test_the_operation_that_opened_it_is_tried_first(opener: Operation, order: list[Operation]) -> None:
    breaker = opened(opener)
    it = run(breaker, RECOVERY, {opener: Reason.SERVER})
    trial = order[: order.index(opener) + 1]
    assert (it.order, it.sent, it.refused) == (order, trial, order[len(trial) :])
    assert state(breaker, RECOVERY) is State.OPEN

    it = run(breaker, 2 * RECOVERY, {})
    assert (it.sent, it.before_closed) == (order, trial)
    assert state(breaker, 2 * RECOVERY) is State.CLOSED


def test_a_put_that_works_does_not_close_it_for_a_get() -> None:
    breaker = opened(GET)
    it = run(breaker, RECOVERY, {GET: Reason.INTEGRITY})
    assert it.sent == [PUT, GET]
    assert state(breaker, RECOVERY) is State.OPEN
    assert breaker.status(RECOVERY).counts.calls == 2  # the failure that opened it, and the trial as one
    assert breaker.opener is GET


def test_a_put_that_fails_is_a_failed_trial_for_a_get() -> None:
    breaker = opened(GET)
    assert run(breaker, RECOVERY, {PUT: Reason.SERVER}).sent == [PUT]
    assert state(breaker, RECOVERY) is State.OPEN
    assert breaker.opener is PUT


def test_without_put_a_get_is_tried_alone() -> None:
    assert trial_of(GET, (GET, HEAD, LIST)) == [GET]
    assert trial_of(GET, (HEAD, LIST)) == []
    assert trial_of(None, ALL) == []


def test_a_run_without_the_opener_is_a_trial_all_the_same() -> None:
    breaker = opened(GET)
    assert run(breaker, RECOVERY, {}, (LIST,)).before_closed == [LIST]
    assert state(breaker, RECOVERY) is State.CLOSED


def test_a_cancelled_trial_leaves_room_for_the_next() -> None:
    breaker = opened(LIST)
    run(breaker, RECOVERY, {}, cancelled_at=0)
    assert state(breaker, RECOVERY) is State.HALF_OPEN
    assert run(breaker, RECOVERY, {}).sent


def test_with_several_successes_to_show_one_run_tries_one_operation_after_the_other() -> None:
    breaker = opened(LIST, half_open_successes=3)
    it = run(breaker, RECOVERY, {})
    assert (it.sent, it.before_closed) == ([LIST, PUT, GET, HEAD, DELETE], [LIST, PUT, GET])
    assert state(breaker, RECOVERY) is State.CLOSED


def test_a_failed_trial_ends_a_run_that_had_successes_to_show() -> None:
    breaker = opened(LIST, half_open_successes=3)
    assert run(breaker, RECOVERY, {PUT: Reason.SERVER}).sent == [LIST, PUT]
    assert (state(breaker, RECOVERY), breaker.opener) == (State.OPEN, PUT)


def test_a_slow_operation_that_opens_it_is_the_one_to_try() -> None:
    settings = BreakerSettings(slow_call_rate_threshold=0.2, slow_call_threshold=0.1, minimum_calls=2)
    breaker = TargetBreaker(settings, 0.0)
    assert run(breaker, 0.0, {}).sent == [PUT, GET]
    assert (state(breaker, 0.0), breaker.opener) == (State.OPEN, GET)


def test_a_run_has_one_trial_however_long_it_takes() -> None:
    breaker = opened(LIST)
    slow = breaker.begin_run(ALL, RECOVERY)
    assert slow.admit(LIST, RECOVERY)
    slow.observe(outcome(LIST, Reason.TIMEOUT), RECOVERY)
    assert not slow.admit(PUT, 3 * RECOVERY)
    assert state(breaker, 3 * RECOVERY) is State.OPEN


def test_an_operation_that_said_nothing_leaves_the_run_as_it_was() -> None:
    breaker = TargetBreaker(BreakerSettings(), 0.0)
    admission = breaker.begin_run(ALL, 0.0)
    assert admission.admit(PUT, 0.0)
    admission.end()
    assert admission.admit(GET, 0.0)
    admission.observe(outcome(GET, None), RECOVERY)
    assert breaker.status(0.0).counts.calls == 1


def test_a_second_run_waits_for_the_trial_of_the_first() -> None:
    breaker = opened(LIST)
    first = breaker.begin_run(ALL, 0.0)
    assert first.admit(LIST, RECOVERY)
    assert run(breaker, RECOVERY, {}).sent == []
    first.observe(outcome(LIST, None), RECOVERY)
    first.end()
    assert run(breaker, RECOVERY, {}).sent == list(ALL)


def test_a_run_that_began_before_it_opened_takes_no_part_in_the_recovery() -> None:
    breaker = TargetBreaker(BreakerSettings(failure_threshold=1), 0.0)
    early = breaker.begin_run(ALL, 0.0)
    assert early.admit(PUT, 0.0)
    run(breaker, 0.0, {PUT: Reason.SERVER})
    early.observe(outcome(PUT, None), 0.0)
    assert not early.admit(GET, RECOVERY)
    assert state(breaker, RECOVERY) is State.OPEN


def test_whoever_was_refused_is_refused_to_the_end_of_the_run() -> None:
    breaker = opened(LIST)
    late = breaker.begin_run(ALL, 0.0)
    assert not late.admit(LIST, RECOVERY / 2)
    assert run(breaker, RECOVERY, {}).sent == [LIST, PUT, GET, HEAD, DELETE]
    assert state(breaker, RECOVERY) is State.CLOSED
    assert not late.admit(PUT, RECOVERY)
    assert late.refused == [LIST, PUT]


def test_only_the_reasons_that_count_open_it() -> None:
    breaker = TargetBreaker(BreakerSettings(failure_threshold=1, failure_reasons=(Reason.SERVER,)), 0.0)
    assert len(run(breaker, 0.0, dict.fromkeys(ALL, Reason.AUTH)).sent) == len(ALL)
    assert breaker.status(0.0).counts.failures == 0
    assert run(breaker, 0.0, dict.fromkeys(ALL, Reason.SERVER)).sent == [PUT]


def test_a_reason_that_does_not_count_is_a_trial_that_worked() -> None:
    breaker = opened(GET, failure_reasons=(Reason.SERVER,))
    assert run(breaker, RECOVERY, dict.fromkeys(ALL, Reason.AUTH)).before_closed == [PUT, GET]
    assert state(breaker, RECOVERY) is State.CLOSED


def test_a_disabled_breaker_lets_everything_through_and_says_nothing_of_it() -> None:
    breaker = TargetBreaker(BreakerSettings(enabled=False, failure_threshold=1), 0.0)
    assert len(run(breaker, 0.0, dict.fromkeys(ALL, Reason.SERVER)).sent) == len(ALL)
    breaker.reset(1.0)
    assert state(breaker, 1.0) is State.DISABLED
    assert breaker.take_transitions() == []


def test_enabling_closes_it_and_disabling_lets_all_through() -> None:
    breaker = opened(PUT)
    breaker.configure(BreakerSettings(enabled=False), 1.0)
    assert run(breaker, 1.0, {}).sent == list(ALL)
    breaker.configure(BreakerSettings(), 2.0)
    assert state(breaker, 2.0) is State.CLOSED
    told = [(change.from_state, change.to_state) for change in breaker.take_transitions()]
    assert told == [(State.OPEN, State.DISABLED), (State.DISABLED, State.CLOSED)]
    assert breaker.take_transitions() == []


WAS_OPEN = {"to_state": "open", "occurred_at": 0.0, "recovery_seconds": 3600.0, "operation": "put"}


def test_one_that_has_proved_to_work_is_not_opened_by_what_was_before_it() -> None:
    breaker = TargetBreaker(BreakerSettings(), 0.0)
    run(breaker, 0.0, {})
    breaker.restore(WAS_OPEN, 1.0, 1.0)
    assert state(breaker, 1.0) is State.CLOSED


def test_a_trial_under_way_is_not_undone_by_what_was_before_it() -> None:
    breaker = TargetBreaker(BreakerSettings(), 0.0)
    breaker.restore(WAS_OPEN, 0.0, 0.0)
    assert breaker.begin_run((PUT,), 3600.0).admit(PUT, 3600.0)
    breaker.restore(WAS_OPEN, 3601.0, 3601.0)
    assert state(breaker, 3601.0) is State.HALF_OPEN


def test_changes_of_state_are_told_in_the_order_of_their_times() -> None:
    breaker = opened(LIST)
    run(breaker, RECOVERY, {LIST: Reason.SERVER})
    run(breaker, 2 * RECOVERY, {})
    changes = breaker.take_transitions()
    assert [change.to_state for change in changes] == [
        *(State.HALF_OPEN, State.OPEN),
        *(State.HALF_OPEN, State.CLOSED),
    ]
    times = [change.at for change in changes]
    assert times == sorted(times)


def test_other_settings_leave_the_state_as_it_is() -> None:
    breaker = opened(PUT)
    breaker.configure(BreakerSettings(failure_threshold=7), 1.0)
    assert state(breaker, 1.0) is State.OPEN


def test_other_settings_count_from_now_on() -> None:
    breaker = TargetBreaker(BreakerSettings(failure_threshold=1), 0.0)
    breaker.configure(BreakerSettings(failure_threshold=2, failure_reasons=(Reason.SERVER,)), 0.0)
    assert len(run(breaker, 0.0, dict.fromkeys(ALL, Reason.AUTH)).sent) == len(ALL)
    assert run(breaker, 0.0, dict.fromkeys(ALL, Reason.SERVER)).sent == [PUT, GET]


reasons = st.sampled_from([None, None, None, *Reason])
dues = st.lists(st.sampled_from(Operation), min_size=1, unique=True).map(tuple)
runs = st.tuples(
    st.sampled_from([0.0, 1.0, 20.0, RECOVERY]),  # since the run before
    st.dictionaries(st.sampled_from(Operation), reasons),
    dues,
    st.sampled_from([99, 99, 99, 0, 1, 2]),
)


@given(st.lists(runs, max_size=30), st.integers(1, 4))
def test_whatever_happens(story: list[tuple[float, Ends, tuple[Operation, ...], int]], failures: int) -> None:
    breaker = TargetBreaker(BreakerSettings(failure_threshold=failures), 0.0)
    now = 0.0
    for step, ends, due, cancelled_at in story:
        now += step
        before, opener = breaker.status(now), breaker.opener
        breaker.take_transitions()
        it = run(breaker, now, ends, due, cancelled_at)
        after = breaker.status(now)
        assert sorted(it.order) == sorted(due)
        assert it.sent == it.order[: len(it.sent)]
        if before.state is State.CLOSED:
            assert it.order == [each for each in Operation if each in due]
        elif before.retry_after > 0:
            assert it.sent == []
        else:
            trial = trial_of(opener, due) or it.order[:1]
            assert it.before_closed == trial[: len(it.before_closed)]
            closed = State.CLOSED in [change.to_state for change in breaker.take_transitions()]
            assert closed or len(it.sent) <= len(trial)
        # No permit is lost: what was not admitted now is admitted after the recovery timeout.
        assert after.retry_after <= RECOVERY
        assert (after.retry_after == 0) == (after.state in (State.CLOSED, State.HALF_OPEN))
