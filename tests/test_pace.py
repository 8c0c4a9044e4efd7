"""Token buckets: what passes within any span of time, and how long a caller is told to wait."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from exporter.web.pace import CALLERS_REMEMBERED, WRITES, CallerPace, TokenBucket
from exporter.web.toolkit import RateLimit


@given(
    interval=st.integers(1, 10**10),
    burst=st.integers(1, 50),
    gaps=st.lists(st.integers(0, 10**10), min_size=1, max_size=200),
    start=st.integers(0, 2**62),
)
def test_never_more_than_burst_and_what_time_refilled(
    interval: int, burst: int, gaps: list[int], start: int
) -> None:
    bucket = TokenBucket(RateLimit.model_construct(interval=interval / 1e9, burst=burst))
    exact = round(interval / 1e9 * 1e9)
    times = [start + total for total in itertools.accumulate(gaps)]
    passed = [now for now in times if bucket.wait(now) == 0]
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            assert (last - first + 1 - burst) * exact <= passed[last] - begin
    assert passed[:burst] == times[:burst]


@given(burst=st.integers(1, 20), extra=st.integers(0, 10**9))
def test_waiting_as_told_is_enough_and_less_is_not(burst: int, extra: int) -> None:
    bucket = TokenBucket(RateLimit.model_construct(interval=0.5, burst=burst))
    assert [bucket.wait(extra) for _ in range(burst)] == [0] * burst
    wait = bucket.wait(extra)
    assert wait == 500_000_000
    assert bucket.wait(extra + wait - 1) == 1
    assert bucket.wait(extra + wait) == 0


def test_writes_are_twenty_at_once_and_ten_a_second_after_that() -> None:
    pace, second = CallerPace(), 1_000_000_000
    assert [pace.wait("deploy", WRITES, 0) for _ in range(20)] == [0] * 20
    assert pace.wait("deploy", WRITES, 0) == second // 10
    passed = [
        pace.wait("deploy", WRITES, now) == 0 for now in range(second // 100, second + 1, second // 100)
    ]
    assert sum(passed) == 10


def test_a_caller_does_not_use_up_what_another_may_do() -> None:
    pace, once = CallerPace(), RateLimit.model_construct(interval=3600.0, burst=1)
    assert [pace.wait(caller, once, 0) == 0 for caller in ("a", "b", "a", "b")] == [True, True, False, False]


def test_callers_that_were_not_heard_of_for_long_are_forgotten() -> None:
    pace, once = CallerPace(), RateLimit.model_construct(interval=3600.0, burst=1)
    assert pace.wait("regular", once, 0) == 0
    for number in range(CALLERS_REMEMBERED + 5):
        assert pace.wait(f"caller {number}", once, 0) == 0
        assert pace.wait("regular", once, 0) > 0
    assert len(pace._buckets) == CALLERS_REMEMBERED
    assert pace.wait("caller 0", once, 0) == 0
