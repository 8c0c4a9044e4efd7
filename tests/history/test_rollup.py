"""Sums by hour and day: as good as the durations themselves, to within half a bucket."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.history.entries import Check, Skip
from exporter.history.histogram import Histogram, bucket_of
from exporter.history.queries import span_start, sums_between
from exporter.history.rollup import PERIODS, Sums, merged, period_start
from exporter.history.sums import row_of, sums_of
from exporter.outcome import Operation
from tests.history.rig import DAY, HOUR, MIDNIGHT, check, in_memory, write

HALF_A_BUCKET = 0.022
DURATIONS = st.floats(1e-6, 1e4)
RESULTS = st.tuples(DURATIONS, st.sampled_from([None, "timeout", "server"]))
SHARES = st.sampled_from(["0.5", "0.9", "0.95", "0.99", "0.999", "1"])


def summed(results: Sequence[tuple[float, str | None]]) -> Sums:
    sums = Sums()
    for duration, reason in results:
        sums.check(duration, reason)
    return sums


def nearest_rank(durations: Sequence[float], share: Fraction) -> float:
    return sorted(durations)[math.ceil(share * len(durations)) - 1]


@given(st.lists(DURATIONS, min_size=1), SHARES)
def test_a_quantile_is_the_true_one_to_within_half_a_bucket(durations: list[float], share: str) -> None:
    true = nearest_rank(durations, Fraction(share))
    told = summed([(duration, None) for duration in durations]).quantile(float(share))
    assert told == pytest.approx(true, rel=HALF_A_BUCKET)
    assert told is not None
    assert told <= max(durations)


@pytest.mark.parametrize("share", ["0.5", "0.95", "0.99", "0.999"])
def test_the_rank_is_exact_at_any_number_of_calls(share: str) -> None:
    for calls in (1, 2, 20, 100, 1000, 20_000, 123_400):
        rank = math.ceil(Fraction(share) * calls)
        # All durations up to the rank are short and the rest long: one rank off gives the other.
        counted = Sums(
            checks=calls,
            duration_max=8.0,
            histogram=two(rank, calls - rank),
        )
        assert counted.quantile(float(share)) == pytest.approx(1.0, rel=HALF_A_BUCKET)
        counted = Sums(checks=calls, duration_max=8.0, histogram=two(rank - 1, calls - rank + 1))
        assert counted.quantile(float(share)) == pytest.approx(8.0, rel=HALF_A_BUCKET)


@given(st.lists(st.tuples(st.integers(-400, 400), st.lists(st.integers(0, 2**40), max_size=20))))
def test_counts_are_added_bucket_by_bucket(parts: list[tuple[int, list[int]]]) -> None:
    histogram, counted = Histogram(), Counter[int]()
    for first, counts in parts:
        histogram.add(first, counts)
        counted.update(dict(enumerate(counts, first)))
    first, *dense = histogram.row()
    assert +Counter(dict(enumerate(dense, first))) == +counted
    again = Histogram()
    again.merge(histogram)
    assert again == histogram


def two(short: int, long: int) -> Histogram:
    """So many durations of a second, and so many of eight."""
    between = bucket_of(8.0) - bucket_of(1.0) - 1
    return Histogram(bucket_of(1.0), [short, *[0] * between, long])


@given(DURATIONS)
def test_a_bucket_holds_its_durations(duration: float) -> None:
    bucket = bucket_of(duration)
    assert 2 ** ((bucket - 1) / 16) * (1 - 1e-9) <= duration <= 2 ** (bucket / 16) * (1 + 1e-9)


def test_what_took_no_time_counts_as_the_shortest() -> None:
    assert bucket_of(0.0) == bucket_of(1e-9) == bucket_of(1e-6)
    assert summed([(0.0, None)]).quantile(0.5) == 0.0


@given(st.lists(st.lists(RESULTS)))
def test_parts_merged_are_the_whole(parts: list[list[tuple[float, str | None]]]) -> None:
    whole = summed([result for part in parts for result in part])
    alike(merged(summed(part) for part in parts), whole)


@given(st.lists(st.lists(RESULTS)), st.integers(0, 1000))
def test_rows_read_back_are_what_was_written(
    parts: list[list[tuple[float, str | None]]], skipped: int
) -> None:
    for part in parts:
        sums = summed(part)
        sums.skipped = skipped
        row = row_of(sums)
        assert len(json.loads(row[-1])) <= 1 + 16 * 40
        alike(sums_of(row), sums)


def alike(one: Sums, other: Sums) -> None:
    """The same, but for the order in which the durations were added."""
    assert one.checks == other.checks
    assert one.failures == other.failures
    assert one.skipped == other.skipped
    assert one.reasons == other.reasons
    assert one.histogram == other.histogram
    assert one.duration_max == other.duration_max
    assert one.duration_sum == pytest.approx(other.duration_sum)


def test_shares_of_nothing_are_unknown() -> None:
    assert Sums().error_rate is Sums().availability is Sums().mean is Sums().quantile(0.5) is None
    assert Sums(skipped=3).availability == 0.0


def test_what_an_open_breaker_skipped_counts_as_down() -> None:
    sums = summed([(1.0, None), (1.0, "timeout"), (4.0, None)])
    sums.skipped = 1
    assert sums.availability == 0.5
    assert sums.error_rate == pytest.approx(1 / 3)
    assert sums.mean == 2.0


@given(st.sampled_from(sorted(PERIODS)), st.floats(-1e9, 1e11))
@example("day", math.nextafter(MIDNIGHT, 0))
def test_a_period_holds_the_moments_that_lie_in_it(period: str, at: float) -> None:
    start = period_start(period, at)
    assert start <= at < start + PERIODS[period]
    assert start % PERIODS[period] == 0
    assert period_start(period, start) == start


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_sums_begin_at_an_hour_and_of_more_than_a_week_at_a_day(one: float, other: float) -> None:
    start, end = sorted((one, other))
    assert span_start(start, end) == period_start("day" if end - start > 7 * DAY else "hour", start)


# Times around the ends of hours and days of ten days, and any between them.
TIMES = st.one_of(
    st.floats(MIDNIGHT, MIDNIGHT + 10 * DAY),
    st.builds(
        lambda hour, off: MIDNIGHT + hour * HOUR + off, st.integers(0, 240), st.sampled_from([-0.5, 0, 0.5])
    ),
)
CHECKS = st.builds(
    check,
    TIMES,
    st.sampled_from("ab"),
    st.sampled_from([Operation.PUT, Operation.GET]),
    success=st.booleans(),
    duration=st.floats(0.0, 10.0),
)
SKIPS = st.builds(Skip, TIMES, st.sampled_from("ab"), st.just(Operation.PUT), st.integers(1, 9))
ENTRIES = st.one_of(CHECKS, SKIPS)


@given(st.lists(st.lists(ENTRIES)), TIMES, TIMES, st.sampled_from([None, "a", "unknown"]))
def test_sums_between_are_those_of_the_results_between(
    batches: list[list[Check | Skip]], one: float, other: float, target: str | None
) -> None:
    start, end = sorted((one, other))
    with closing(in_memory()) as connection:
        for batch in batches:
            write(connection, *batch)
        found = sums_between(connection, start, end, target)
    until = period_start("hour", end) + HOUR
    expected: dict[tuple[str, str], Sums] = {}
    for entry in (entry for batch in batches for entry in batch):
        if not span_start(start, end) <= entry.at < until:
            continue
        outcome = entry if isinstance(entry, Skip) else entry.outcome
        if target in (None, outcome.target):
            sums = expected.setdefault((outcome.target, outcome.operation.value), Sums())
            if isinstance(entry, Skip):
                sums.skipped += entry.count
            else:
                failure = entry.outcome.failure
                sums.check(entry.outcome.duration, failure.reason.value if failure else None)
    assert found.keys() == expected.keys()
    for pair, sums in expected.items():
        alike(found[pair], sums)
