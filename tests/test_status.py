"""What counts as news about a target."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from exporter.outcome import Failure, Operation, Outcome, Reason
from exporter.status import Change, TargetStatus

reasons = st.sampled_from([None, *Reason])


def outcome(reason: Reason | None, at: float = 0.0, operation: Operation = Operation.GET) -> Outcome:
    failure = None if reason is None else Failure(reason, "told by the test")
    return Outcome("media", operation, started_at=at, duration=0.1, failure=failure)


def test_a_first_success_is_no_news() -> None:
    assert TargetStatus().observe(outcome(None)) is None


def test_a_first_failure_is_news() -> None:
    failed = outcome(Reason.DNS)
    assert TargetStatus().observe(failed) == Change(failed)


def test_a_recovery_says_how_long_it_failed_whatever_the_reasons() -> None:
    status = TargetStatus()
    for at, reason in ((10, Reason.DNS), (20, Reason.DNS), (30, Reason.TIMEOUT)):
        status.observe(outcome(reason, at))
    well = outcome(None, at=45)
    assert status.observe(well) == Change(well, failed_for=35)
    assert status.observe(outcome(None, at=50)) is None


def test_a_wall_clock_set_back_gives_no_negative_time() -> None:
    status = TargetStatus()
    status.observe(outcome(Reason.DNS, at=100))
    change = status.observe(outcome(None, at=50))
    assert change is not None
    assert change.failed_for == 0


@given(st.lists(reasons, min_size=1))
def test_news_is_exactly_where_the_reason_changes(story: list[Reason | None]) -> None:
    status = TargetStatus()
    news = [status.observe(outcome(reason)) is not None for reason in story]
    assert news == [before is not now for before, now in pairwise([None, *story])]


@given(st.lists(st.tuples(st.sampled_from(Operation), reasons)), st.sets(st.sampled_from(Operation)))
def test_a_target_is_up_unless_one_of_the_asked_operations_failed_last(
    story: list[tuple[Operation, Reason | None]], asked: set[Operation]
) -> None:
    status = TargetStatus()
    for operation, reason in story:
        status.observe(outcome(reason, operation=operation))
    last = dict(story)
    assert status.is_up(asked) == all(last.get(operation) is None for operation in asked)
