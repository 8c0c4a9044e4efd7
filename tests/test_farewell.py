"""The time to stop, divided."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.farewell import LONGEST, Farewell


@given(st.lists(st.floats(0.01, 600)), st.floats(0, 1e9))
def test_each_part_has_its_time_and_all_end_before_the_last_second_is_over(
    timeouts: list[float], now: float
) -> None:
    until = Farewell.of(timeouts, now)
    assert now < until.runs_end < until.cleanups_end < until.disk_ends
    longest = max(timeouts, default=0.0)
    assert until.disk_ends - now <= min(longest, LONGEST) + 0.75
    if 0.4 <= longest <= LONGEST:
        assert until.cleanups_end - now >= 0.999 * longest - 1e-6
