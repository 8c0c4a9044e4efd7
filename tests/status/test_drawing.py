"""Charts stay within their frames and say in words what they show; numbers are worded truly."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.breaker import Breaker, Policy
from exporter.config.model import BreakerSettings
from exporter.history.spark import Hour
from exporter.web.api.health_models import HealthStatus
from exporter.web.status.chart import HOUR, HOURS, LINE_WIDTH, STEP, day_chart, line_chart, phase_bar
from exporter.web.status.wording import (
    breaker_cause,
    breaker_state,
    grouped,
    headline,
    latency,
    moment,
    percent,
    size,
    span,
)

NOW = 20_000 * 86_400.0 + 12.5 * HOUR
COUNT = st.integers(0, 10**6)
SECONDS = st.floats(0, 1e4, allow_subnormal=False)


@st.composite
def hours(draw: st.DrawFn) -> list[Hour]:
    first = int(NOW // HOUR - HOURS + 1) * HOUR
    numbers = draw(st.sets(st.integers(0, HOURS - 1)))
    found = []
    for number in sorted(numbers):
        checks = draw(COUNT)
        failures = draw(st.integers(0, checks))
        found.append(Hour(first + number * HOUR, checks, failures, draw(COUNT), checks * draw(SECONDS)))
    return found


@given(hours())
def test_a_day_has_a_mark_for_each_hour(day: list[Hour]) -> None:
    chart = day_chart(day, NOW)
    lanes = chart.fine + chart.some + chart.down + chart.unknown
    assert sorted(int(x) for x in re.findall(r"M(\d+) ", lanes)) == [n * STEP for n in range(HOURS)]
    for x, height in re.findall(r"M(\d+) 20v-([\d.]+)", chart.bars):
        assert 0 <= int(x) <= HOURS * STEP
        assert 1 <= float(height) <= 18
    assert chart.bars.count("M") in (0, sum(hour.checks > 0 for hour in day))
    assert chart.unknown.count("M") == HOURS - sum(hour.checks + hour.skipped > 0 for hour in day)


def test_hours_are_told_apart_by_how_much_failed() -> None:
    first = int(NOW // HOUR - 3) * HOUR
    kinds = [
        Hour(first, 10, 0, 0, 1.0),
        Hour(first + HOUR, 10, 2, 0, 1.0),
        Hour(first + 2 * HOUR, 10, 0, 30, 9.0),
    ]
    chart = day_chart(kinds, NOW)
    assert (chart.fine.count("M"), chart.some.count("M"), chart.down.count("M")) == (1, 1, 1)
    assert chart.says == "Last 24 hours: 46.66% succeeded, slowest hour 900 ms on average"
    assert day_chart([], NOW).says == "Nothing was probed in the last 24 hours"


@given(st.lists(st.tuples(st.floats(0, NOW), SECONDS, st.booleans())))
def test_a_line_stays_within_its_frame(points: list[tuple[float, float, bool]]) -> None:
    chart = line_chart(sorted(points), NOW)
    drawn = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", chart.line)
    assert len(drawn) == sum(success for _, _, success in points)
    assert all(0 <= float(x) <= LINE_WIDTH and 2.9 <= float(y) <= 22.1 for x, y in drawn)
    assert chart.failed.count("v-6") == sum(not success for _, _, success in points)


def test_a_line_is_broken_where_something_failed() -> None:
    points = [(NOW - 3, 0.1, True), (NOW - 2, 0.2, True), (NOW - 1, 5.0, False), (NOW, 0.2, True)]
    chart = line_chart(points, NOW)
    assert re.sub(r"[\d. -]", "", chart.line) == "MLM"
    assert chart.says == "4 results, 1 failed, the slowest took 200 ms"
    assert line_chart([], NOW).says == "no result yet"


@given(st.dictionaries(st.text(min_size=1), SECONDS))
def test_phases_fill_their_bar(phases: dict[str, float]) -> None:
    bar = phase_bar(phases)
    assert [name for name, *_ in bar] == list(phases)
    ends = [at + width for *_, at, width in bar]
    assert all(0 <= at <= 240.1 for *_, at, _ in bar)
    assert not sum(phases.values()) or ends[-1] == pytest.approx(240, abs=0.2)


@given(st.floats(0, 1))
def test_all_and_nothing_are_said_of_nothing_else(share: float) -> None:
    assert (percent(share) == "100%") == (share == 1)
    assert (percent(share) == "0%") == (share == 0)
    assert abs(float(percent(share).rstrip("%")) / 100 - share) < 0.000_11


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "—"), (0.0004, "0.4 ms"), (0.0123, "12 ms"), (1.2, "1.20 s"), (300.0, "300 s")],
)
def test_a_latency_is_short(seconds: float | None, words: str) -> None:
    assert latency(seconds) == words


def test_times_and_sizes_are_short() -> None:
    assert [span(each) for each in (0.4, 59, 60, 7200, 200_000)] == ["0 s", "59 s", "1 min", "2 h", "2 d"]
    assert [size(each) for each in (0, 1023, 1536, 20 << 20, 5 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "20 MiB",
        "5120 GiB",
    ]
    assert moment(NOW - 60, NOW) == "12:29:00"
    assert moment(NOW - 86_400, NOW) == "03 Oct 12:30"


def test_the_headline_counts_the_worst_first() -> None:
    up, down, degraded = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY, HealthStatus.DEGRADED
    assert headline({up: 1}) == "The only target is up"
    assert headline({up: 12_000}) == "All 12,000 targets are up"
    assert headline({up: 3, down: 2, degraded: 1}) == "2 of 6 targets are down, 1 degraded, 3 up"


def test_operations_that_failed_alike_are_said_together() -> None:
    reasons = [
        "the circuit breaker is open",
        "put failed: dns, no name",
        "get failed: dns, no name",
        "list failed: tls, x",
    ]
    assert grouped(reasons) == [
        "the circuit breaker is open",
        "put, get failed: dns, no name",
        "list failed: tls, x",
    ]


def test_a_breaker_says_why_it_is_as_it_is() -> None:
    settings = BreakerSettings(failure_threshold=2, monitoring_window=300.0)
    breaker = Breaker(Policy(failure_threshold=2), 0.0)
    assert breaker_cause(breaker.status(0.0), settings) == ""
    for _ in range(2):
        breaker.fail(breaker.admit(1.0) or 0, 1.0, 0.1)
    status = breaker.status(11.5)
    assert breaker_state(status) == "open, next try in 50 s"
    assert breaker_cause(status, settings) == "2 of 2 operations failed within 5m; 2 open it"
    breaker.fail(breaker.admit(61.0) or 0, 62.0, 0.1)
    assert breaker_cause(breaker.status(62.0), settings) == "the probe it tried failed"
    restored = Breaker(Policy(), 0.0)
    restored.restore_open(0.0, 30.0, 60.0)
    assert breaker_cause(restored.status(0.0), settings) == "as it was before the restart"
    rates = Breaker(Policy(failure_threshold=None, failure_rate_threshold=0.5, minimum_calls=1), 0.0)
    rates.fail(rates.admit(0.0) or 0, 0.0, 0.1)
    assert breaker_cause(rates.status(0.0), settings) == "100% of 1 operations failed within 5m"
