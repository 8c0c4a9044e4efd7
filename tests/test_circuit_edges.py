"""The breaker where callers do what they should not, or cannot help: nesting, forks, interrupts, misuse."""

import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from exporter.guard import CircuitBreaker, CircuitOpenError, GuardedBucket, Policy, State, Transition
from tests.test_circuit import Clock, Interrupted, Service, half_open, once


def test_a_call_within_a_trial_is_part_of_it() -> None:
    clock = Clock()
    breaker, service = once(clock), Service()
    inner = breaker(service.read)
    outer = breaker(lambda key: inner(key) + inner(key))
    half_open(breaker, clock)
    assert outer("abc") == 6
    assert breaker.status().state is State.CLOSED
    assert breaker.status().rejected == 0


def test_who_is_not_within_the_trial_waits() -> None:
    clock = Clock()
    breaker = once(clock)
    half_open(breaker, clock)
    with breaker.guard(), ThreadPoolExecutor(1) as another, pytest.raises(CircuitOpenError):
        another.submit(breaker.call, Service().read, "abc").result()
    assert breaker.status().state is State.CLOSED


def test_a_trial_that_is_over_covers_nothing() -> None:
    clock = Clock()
    breaker = once(clock)
    half_open(breaker, clock)
    with pytest.raises(OSError, match="down"):
        breaker.call(Service(OSError("down")).read, "abc")
    with pytest.raises(CircuitOpenError):
        breaker.call(Service().read, "abc")


def test_a_rejection_by_another_breaker_says_nothing_of_the_service() -> None:
    inner, outer = once(Clock()), CircuitBreaker("outer", Policy(failure_threshold=1))
    inner.force_open()
    with pytest.raises(CircuitOpenError):
        outer.call(inner(Service().read), "abc")
    assert outer.status().state is State.CLOSED
    assert outer.status().counts.calls == 0


def test_call_with_an_async_function_counts_nothing() -> None:
    clock = Clock()
    breaker = once(clock)
    half_open(breaker, clock)
    with pytest.raises(TypeError, match="call_async"):
        _never_awaited = breaker.call(Service().aread, "abc")
    assert breaker.status().state is State.HALF_OPEN
    assert breaker.call(Service().read, "abc") == 3


def test_an_interrupt_in_a_listener_costs_no_permit() -> None:
    clock = Clock()
    breaker = once(clock)
    half_open(breaker, clock)

    def interrupted(event: Transition) -> None:
        if event.to_state is State.HALF_OPEN:
            raise Interrupted

    breaker.listen(interrupted)
    with pytest.raises(Interrupted):
        breaker.call(Service().read, "abc")
    assert copy_context().run(breaker.call, Service().read, "abc") == 3


def test_buckets_without_metrics_leave_nothing_with_a_breaker_they_share() -> None:
    breaker = once(Clock())
    for _ in range(10):
        GuardedBucket(object(), "media", breaker=breaker)  # type: ignore[arg-type]  # never called
    assert breaker._listeners == []


def test_a_rejection_made_by_keywords_can_be_sent_to_another_process() -> None:
    error = CircuitOpenError(name="media", state=State.OPEN, retry_after=1.5)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forked_while_the_lock_is_held_can_call() -> None:
    breaker = once(Clock())
    locked, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with breaker._lock:
            locked.set()
            let_go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if breaker.call(Service().read, "abc") == 3 else 1)
    let_go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
