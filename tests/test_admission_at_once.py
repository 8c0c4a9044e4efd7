"""Several runs of one target at the same time: one on schedule, others on demand."""

from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from exporter.admission import Admission, TargetBreaker
from exporter.breaker import State
from exporter.config import BreakerSettings
from exporter.outcome import Operation, Reason
from tests.test_admission import ALL, DELETE, GET, PUT, RECOVERY, opened, outcome, run, state

WAIT = BreakerSettings().half_open_max_wait


@dataclass
class Under:
    """A run under way: what is still to come, and the operation that has no outcome yet."""

    admission: Admission
    to_come: list[Operation]
    sent: Operation | None = None


@dataclass
class Runs:
    """Up to three runs at once, and what must hold at each of their steps."""

    breaker: TargetBreaker
    now: float = 0.0
    under_way: dict[int, Under] = field(default_factory=dict)

    def step(self, slot: int, due: tuple[Operation, ...], reason: Reason | None, cancels: bool) -> None:
        """The next thing that happens to the run in `slot`: it begins, asks, hears or ends."""
        one = self.under_way.get(slot)
        if one is None:
            admission = self.breaker.begin_run(due, self.now)
            assert sorted(admission.order) == sorted(due)
            self.under_way[slot] = Under(admission, list(admission.order))
        elif cancels or (one.sent is None and not one.to_come):
            one.admission.end()
            del self.under_way[slot]
        elif one.sent is None:
            self.ask(one)
        else:
            one.admission.observe(outcome(one.sent, reason), self.now)
            one.sent = None

    def ask(self, one: Under) -> None:
        refused_before, next_one = list(one.admission.refused), one.to_come.pop(0)
        if one.admission.admit(next_one, self.now):
            one.sent = next_one
            assert not refused_before
            assert state(self.breaker, self.now) is not State.OPEN, "sent while open"
        else:
            assert one.admission.refused == [*refused_before, next_one]

    def end_all(self) -> None:
        for one in self.under_way.values():
            one.admission.end()
        self.under_way.clear()


dues = st.one_of(st.just(ALL), st.lists(st.sampled_from(Operation), min_size=1, unique=True).map(tuple))
stories = st.lists(
    st.tuples(
        st.integers(0, 2),
        dues,
        st.sampled_from([None, None, Reason.SERVER]),
        st.sampled_from([False] * 9 + [True]),
        st.sampled_from([0.0] * 9 + [RECOVERY / 2, RECOVERY]),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(
    stories,
    st.sampled_from(Operation),
    st.integers(1, 2),
    st.integers(1, 2),
)
def test_nothing_is_sent_while_open_and_no_permit_is_lost(
    story: list[tuple[int, tuple[Operation, ...], Reason | None, bool, float]],
    opener: Operation,
    at_once: int,
    successes: int,
) -> None:
    breaker = opened(opener, half_open_max_calls=at_once, half_open_successes=successes)
    runs = Runs(breaker, RECOVERY)
    for slot, due, reason, cancels, seconds in story:
        runs.now += seconds
        runs.step(slot, due, reason, cancels)
    event(f"ends {state(breaker, runs.now)}")
    runs.end_all()
    runs.now += breaker.status(runs.now).retry_after
    it = run(breaker, runs.now, {})
    assert it.sent == it.order
    assert state(breaker, runs.now) is State.CLOSED


def test_a_trial_whose_breaker_opened_again_meanwhile_sends_no_more() -> None:
    breaker = opened(GET, half_open_max_calls=2)
    first, second = breaker.begin_run(ALL, RECOVERY), breaker.begin_run((DELETE,), RECOVERY)
    assert first.admit(PUT, RECOVERY)
    assert second.admit(DELETE, RECOVERY)
    second.observe(outcome(DELETE, Reason.SERVER), RECOVERY)
    assert state(breaker, RECOVERY) is State.OPEN
    first.observe(outcome(PUT, None), RECOVERY)
    assert not first.admit(GET, RECOVERY)


def test_a_trial_given_up_for_lost_sends_no_more() -> None:
    breaker = opened(GET)
    slow = breaker.begin_run(ALL, RECOVERY)
    assert slow.admit(PUT, RECOVERY)
    assert run(breaker, RECOVERY + WAIT, {}).sent == []
    assert state(breaker, RECOVERY + WAIT) is State.OPEN
    slow.observe(outcome(PUT, None), RECOVERY + WAIT)
    assert not slow.admit(GET, RECOVERY + WAIT)


def test_one_permit_is_for_one_trial_even_if_nobody_heard_of_its_outcome() -> None:
    """A reload in the middle of a run leaves the outcome of its operation unobserved."""
    breaker = opened(DELETE)
    admission = breaker.begin_run(ALL, RECOVERY)
    assert admission.admit(DELETE, RECOVERY)
    assert not admission.admit(PUT, RECOVERY)
