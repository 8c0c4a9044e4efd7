"""What waits for the writer: in order, within bounds, and everyone is told once."""

import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.history import HistoryUnavailableError
from exporter.history.backlog import BATCH, EVENT_CAPACITY, Backlog, Batch
from exporter.history.entries import Check
from tests.history.rig import event, numbered

NOW = 0.0
"""A deadline that is over: `wait` gives back at once."""


def ids(batch: Batch) -> list[str]:
    return [entry.outcome.request_id for entry in batch.checks if isinstance(entry, Check)]


def taken(backlog: Backlog) -> list[str]:
    """Everything, batch by batch."""
    found = []
    while batch := ids(backlog.take()):
        found += batch
        backlog.done()
    return found


def put(backlog: Backlog, count: int, first: int = 0) -> None:
    for entry in numbered(range(first, first + count)):
        backlog.put(entry)


def waits(backlog: Backlog, *, retrying: bool = False) -> bool:
    """Whether the writer would wait if it had half an hour."""
    waiting = threading.Thread(
        target=backlog.wait, args=(time.monotonic() + 1800,), kwargs={"retrying": retrying}, daemon=True
    )
    waiting.start()
    waiting.join(0.05)
    if waited := waiting.is_alive():
        backlog.wake()
        waiting.join(30)
        assert not waiting.is_alive()
    return waited


def test_results_come_in_the_order_they_were_given_in_batches() -> None:
    backlog = Backlog()
    put(backlog, BATCH + 10)
    first = backlog.take()
    assert len(first.checks) == BATCH
    assert len(backlog) == BATCH + 10  # what is in hand is not on the disk yet
    backlog.done()
    assert len(backlog) == 10
    assert ids(first) + taken(backlog) == [str(number) for number in range(BATCH + 10)]


def test_beyond_its_capacity_the_oldest_are_dropped_and_counted() -> None:
    backlog = Backlog(capacity=10)
    put(backlog, 25)
    assert backlog.dropped == 15
    assert taken(backlog) == [str(number) for number in range(15, 25)]


def test_what_is_put_back_comes_next_again() -> None:
    backlog = Backlog()
    put(backlog, 3)
    announced = backlog.announce(event("first"))
    batch = backlog.take()
    put(backlog, 3, first=3)
    backlog.announce(event("second"))
    backlog.put_back(batch)
    assert len(backlog) == 8
    again = backlog.take()
    assert ids(again) == ["0", "1", "2", "3", "4", "5"]
    assert [what.cause for what, _ in again.events] == ["first", "second"]
    assert again.events[0][1] is announced


def test_what_is_put_back_has_to_fit() -> None:
    backlog = Backlog(capacity=10)
    put(backlog, 8)
    batch = backlog.take()
    put(backlog, 6, first=8)
    assert backlog.dropped == 0
    backlog.put_back(batch)
    assert backlog.dropped == 4
    assert taken(backlog) == [str(number) for number in range(4, 14)]


@given(st.integers(1, 9), st.lists(st.sampled_from(["put", "take", "done", "put back"])))
def test_at_any_time_the_newest_are_kept_in_order_and_the_rest_counted(
    capacity: int, steps: list[str]
) -> None:
    backlog = Backlog(capacity)
    given_, written = 0, []
    in_hand: Batch | None = None
    for step in steps:
        if step == "put":
            put(backlog, 1, first=given_)
            given_ += 1
        elif step == "take" and in_hand is None:
            in_hand = backlog.take()
        elif step == "done" and in_hand is not None:
            written += ids(in_hand)
            backlog.done()
            in_hand = None
        elif step == "put back" and in_hand is not None:
            backlog.put_back(in_hand)
            in_hand = None
        in_memory = given_ - len(written) - backlog.dropped
        assert len(backlog) == in_memory
        assert in_memory <= capacity + (len(in_hand.checks) if in_hand else 0)
    if in_hand is not None:
        backlog.put_back(in_hand)
    left = taken(backlog)
    assert len(written) + len(left) + backlog.dropped == given_
    assert [*map(int, written + left)] == sorted(map(int, written + left))
    assert left == [str(number) for number in range(given_ - len(left), given_)]


def test_events_beyond_their_bound_are_told_that_they_are_lost() -> None:
    backlog = Backlog()
    told = [backlog.announce(event(str(number))) for number in range(EVENT_CAPACITY + 2)]
    assert [future.done() for future in told[:3]] == [True, True, False]
    assert told[0].result() is told[1].result() is False
    assert backlog.dropped == 2
    batch = backlog.take()
    assert len(batch.events) == EVENT_CAPACITY
    backlog.announce(event("one more"))
    backlog.put_back(batch)
    assert backlog.dropped == 3
    assert len(backlog) == EVENT_CAPACITY
    assert told[2].result(0) is False


def test_a_result_waits_for_company_but_news_does_not() -> None:
    backlog = Backlog()
    assert waits(backlog)
    put(backlog, 1)
    began = time.monotonic()
    backlog.wait(began + 1800, retrying=False)
    assert 0.1 < time.monotonic() - began < 30
    backlog.announce(event())
    assert not waits(backlog)


def test_a_full_batch_does_not_wait() -> None:
    backlog = Backlog()
    put(backlog, BATCH)
    assert not waits(backlog)


def test_between_attempts_only_those_who_ask_are_answered_at_once() -> None:
    backlog = Backlog()
    put(backlog, BATCH)
    backlog.announce(event())
    assert waits(backlog, retrying=True)
    backlog.transact(lambda _: None)
    assert not waits(backlog, retrying=True)
    backlog.put_back(backlog.take())
    assert waits(backlog, retrying=True)
    backlog.settle()
    assert not waits(backlog, retrying=True)
    backlog.stop()
    assert not waits(backlog, retrying=True)


def test_who_waits_for_all_results_is_told_with_the_last_of_them() -> None:
    backlog = Backlog()
    put(backlog, BATCH + 1)
    settled = backlog.settle()
    assert backlog.take().settling == []
    backlog.done()
    assert backlog.take().settling == [settled]


def test_who_waits_for_all_results_is_told_of_a_failed_attempt_too() -> None:
    backlog = Backlog()
    put(backlog, BATCH + 1)
    settled = backlog.settle()
    batch = backlog.take()
    backlog.put_back(batch)
    assert batch.settling == [settled]
    # Or else the writer would try without a pause.
    assert waits(backlog, retrying=True)


def test_work_is_taken_once() -> None:
    backlog = Backlog()
    done: Future[int] = backlog.transact(lambda _: 1)
    batch = backlog.take()
    assert [future for _, future in batch.works] == [done]
    backlog.put_back(batch)
    assert backlog.take().works == []


def test_nothing_is_promised_any_more_once_it_stops() -> None:
    backlog = Backlog()
    left = backlog.announce(event("left"))
    backlog.stop()
    with pytest.raises(HistoryUnavailableError, match="stopping"):
        backlog.transact(lambda _: 1).result(0)
    settled: Future[Any] = backlog.settle()
    assert settled.done()
    assert not left.done()
    assert [what.cause for what, _ in backlog.close().events] == ["left"]
    assert backlog.announce(event("too late")).result(0) is False
