"""What a process that stood still knows of it."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.pulse import INTERVAL, STALL, Pulse

moments = st.floats(0, 1e6)


def pulse(*beats: float) -> Pulse:
    it = Pulse(lambda _late, _now: None)
    for now in beats:
        it.feel(now)
    return it


def test_before_its_first_beat_nothing_is_known() -> None:
    assert not pulse().stalled(0, 1e9)


@given(moments, st.floats(0, STALL * 0.99), st.floats(0, 10))
def test_a_beat_that_is_a_little_late_is_no_stall(start: float, late: float, since: float) -> None:
    it = pulse(start)
    now = start + INTERVAL + late
    assert not it.stalled(start - since, now)
    assert abs(it.feel(now) - late) < 1e-6
    assert not it.stalled(start - since, now)


@given(moments, st.floats(STALL * 1.01, 1e4), st.floats(0.01, 0.9))
def test_a_stall_is_known_before_its_late_beat_and_after_it(start: float, late: float, after: float) -> None:
    it = pulse(start)
    woken = start + INTERVAL + late
    assert it.stalled(start, woken)
    assert abs(it.feel(woken) - late) < 1e-6
    it.feel(woken + INTERVAL)
    assert it.stalled(start, woken + INTERVAL)  # for what had begun before it
    assert not it.stalled(woken + after, woken + after)  # and not for what began since
