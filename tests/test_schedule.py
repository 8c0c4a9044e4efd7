"""The schedule's rules, whatever the targets, their intervals and the clock."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from exporter.schedule import Schedule, Turn, stable_fraction

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
few_names = st.sampled_from([f"target-{number}" for number in range(8)])
# What the configuration allows: a second to a day, to the millisecond.
intervals = st.one_of(
    st.sampled_from([1.0, 1.001, 30.0, 86_400.0]), st.integers(1000, 86_400_000).map(lambda n: n / 1000)
)
TEN_YEARS = 10 * 365 * 86_400.0
clocks = st.one_of(st.just(0.0), st.floats(0.0, TEN_YEARS))


def rounding(now: float) -> float:
    """What a float can be off by at this reading of the clock."""
    return 4 * math.ulp(max(now, 86_400.0))


class Scheduled(RuleBasedStateMachine):
    """Any sequence of settings, removals and wake-ups, checked against what was promised at each step."""

    @initialize(now=clocks)
    def begin(self, now: float) -> None:
        self.now = now
        self.schedule = Schedule()
        self.intervals: dict[str, float] = {}
        self.since: dict[str, float] = {}
        self.last_due: dict[str, float] = {}

    @rule(name=few_names, interval=intervals)
    def set(self, name: str, interval: float) -> None:
        self.schedule.set(name, interval, self.now)
        if self.intervals.get(name) != interval:
            self.intervals[name] = interval
            self.since[name] = self.now
            self.last_due.pop(name, None)

    @rule()
    def set_all_again(self) -> None:
        before = self.schedule.next_due()
        for name, interval in self.intervals.items():
            self.schedule.set(name, interval, self.now)
        assert self.schedule.next_due() == before

    @rule(name=few_names)
    def remove(self, name: str) -> None:
        self.schedule.remove(name)
        self.intervals.pop(name, None)
        self.since.pop(name, None)
        self.last_due.pop(name, None)

    @precondition(lambda self: self.intervals)
    @rule(early=st.booleans())
    def wake_for_the_next(self, early: bool) -> None:
        due = self.schedule.next_due()
        assert due is not None
        self.now = max(self.now, math.nextafter(due, -math.inf) if early else due)
        turns = self._take()
        assert bool(turns) is not early

    @rule(after=st.floats(0.0, 10 * 86_400.0))
    def stall(self, after: float) -> None:
        self.now += after
        self._take()

    def _take(self) -> list[Turn]:
        turns = self.schedule.take_due(self.now)
        assert turns == sorted(turns, key=lambda turn: turn.due - turn.missed * self.intervals[turn.name])
        assert len({turn.name for turn in turns}) == len(turns)
        for turn in turns:
            self._check(turn)
        assert self.schedule.take_due(self.now) == []
        return turns

    def _check(self, turn: Turn) -> None:
        interval, off = self.intervals[turn.name], rounding(self.now)
        assert turn.due <= self.now < turn.due + interval + off
        assert turn.due > self.since[turn.name]
        assert turn.missed >= 0
        first = turn.due - turn.missed * interval
        if turn.name in self.last_due:
            assert first == pytest.approx(self.last_due[turn.name] + interval, rel=0, abs=off)
        else:
            assert first <= self.since[turn.name] + interval + off
        phase = turn.due / interval - stable_fraction(turn.name)
        assert phase == pytest.approx(round(phase), rel=0, abs=off)
        self.last_due[turn.name] = turn.due

    @invariant()
    def something_is_always_due_within_the_shortest_interval(self) -> None:
        due = self.schedule.next_due()
        if not self.intervals:
            assert due is None
        else:
            assert due is not None
            assert self.now < due <= self.now + min(self.intervals.values()) + rounding(self.now)


TestScheduled = Scheduled.TestCase


def test_a_schedule_without_names_has_nothing_due() -> None:
    schedule = Schedule()
    schedule.remove("never set")
    assert schedule.next_due() is None
    assert schedule.take_due(1e9) == []


@given(names, intervals, clocks)
def test_the_first_turn_comes_within_an_interval(name: str, interval: float, now: float) -> None:
    schedule = Schedule()
    schedule.set(name, interval, now)
    due = schedule.next_due()
    assert due is not None
    assert now < due <= now + interval + rounding(now)
    assert schedule.take_due(math.nextafter(due, -math.inf)) == []
    assert schedule.take_due(due) == [Turn(name, due, missed=0)]


@given(st.sets(names, min_size=2), intervals, clocks)
def test_a_phase_depends_on_the_name_alone(crowd: set[str], interval: float, now: float) -> None:
    together = Schedule()
    for name in crowd:
        together.set(name, interval, now)
    turns = {turn.name: turn.due for turn in together.take_due(now + interval)}
    for name in crowd:
        alone = Schedule()
        alone.set(name, interval, now)
        assert alone.next_due() == pytest.approx(turns[name], rel=0, abs=interval + rounding(now))
        assert {turn.name: turn.due for turn in alone.take_due(now + interval)}[name] == turns[name]


def test_a_phase_is_the_same_on_every_machine() -> None:
    # Written down once: a change of the hash would move every target of every user.
    assert stable_fraction("media") == 0.9567198307699982
    assert stable_fraction("bücher") == 0.05295456096297002


@pytest.mark.parametrize("pattern", ["target-{}", "{}", "https://s3.example.org/bucket-{:05}", "{0}{0}{0}"])
def test_phases_spread_evenly(pattern: str) -> None:
    count = 1000
    tenths = Counter(int(stable_fraction(pattern.format(number)) * 10) for number in range(count))
    # A fair die leaves a tenth of 1000 within five standard deviations (9.5 each) all but never.
    assert set(tenths) == set(range(10))
    assert all(abs(found - count / 10) < 48 for found in tenths.values())


@given(names, intervals, clocks)
def test_ten_million_turns_add_up_no_error(name: str, interval: float, now: float) -> None:
    schedule = Schedule()
    schedule.set(name, interval, now)
    first = schedule.next_due()
    assert first is not None
    far = first + 10**7 * interval
    [turn] = schedule.take_due(far + interval / 2)
    assert turn.missed == 10**7
    assert turn.due == pytest.approx(far, rel=0, abs=rounding(far))
    after = schedule.next_due()
    assert after == pytest.approx(far + interval, rel=0, abs=rounding(far))


def test_served_on_time_for_long_it_does_not_drift() -> None:
    schedule = Schedule()
    schedule.set("media", 0.1, now=12_345.678)  # 0.1 has no exact float: adding it up would drift
    dues = []
    for _ in range(100_000):
        due = schedule.next_due()
        assert due is not None
        [turn] = schedule.take_due(due)
        assert turn == Turn("media", due, missed=0)
        dues.append(due)
    assert dues[-1] == pytest.approx(dues[0] + 99_999 * 0.1, rel=0, abs=rounding(dues[-1]))
    assert all(early < late for early, late in pairwise(dues))


@given(intervals, clocks, st.integers(1, 10**6))
def test_a_stall_gives_one_turn_and_counts_the_rest(interval: float, now: float, turns: int) -> None:
    schedule = Schedule()
    schedule.set("media", interval, now)
    due = schedule.next_due()
    assert due is not None
    awake = due + (turns + 0.5) * interval
    [turn] = schedule.take_due(awake)
    assert turn.missed == turns
    assert awake - interval < turn.due <= awake
    following = schedule.next_due()
    assert following is not None
    assert awake < following <= awake + interval


@given(intervals, intervals, clocks)
def test_a_changed_interval_takes_effect_and_an_unchanged_one_keeps_its_turn(
    old: float, new: float, now: float
) -> None:
    assume(old != new)
    changed, fresh = Schedule(), Schedule()
    changed.set("media", old, now)
    before = changed.next_due()
    changed.set("media", old, now + old / 2)
    assert changed.next_due() == before
    changed.set("media", new, now + old / 2)
    fresh.set("media", new, now + old / 2)
    assert changed.next_due() == fresh.next_due()
    dues = [turn.due for turn in changed.take_due(now + old / 2 + new)]
    assert len(dues) == 1
    following = changed.next_due()
    assert following == pytest.approx(dues[0] + new, rel=0, abs=rounding(now + old + 2 * new))


@given(intervals, clocks)
def test_the_moment_it_is_due_again_is_exact_after_a_stall(interval: float, now: float) -> None:
    """Waking exactly at a later turn takes that one, and not the one before it as well."""
    schedule, other = Schedule(), Schedule()
    for one in (schedule, other):
        one.set("media", interval, now)
    dues = []
    for _ in range(5):
        due = other.next_due()
        assert due is not None
        other.take_due(due)
        dues.append(due)
    assert schedule.take_due(dues[-1]) == [Turn("media", dues[-1], missed=4)]
