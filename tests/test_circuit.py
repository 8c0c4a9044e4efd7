"""The breaker in callers' hands: every way to call, threads and tasks, cancellations, listeners."""

import asyncio
import copy
import functools
import inspect
import logging
import pickle
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import NoReturn, assert_type

import pytest

from exporter.guard import Cause, CircuitBreaker, CircuitOpenError, Counts, Policy, State, Transition, Verdict

Call = Callable[[CircuitBreaker, "Service"], Awaitable[int]]
DeepRead = Callable[[str], int]


class Interrupted(BaseException):
    """Such as KeyboardInterrupt, but pytest does not stop for it."""


@dataclass
class Clock:
    """A clock that only the test moves."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Service:
    """Something to call, which does as it is told."""

    error: BaseException | None = None
    calls: list[str] = field(default_factory=list)

    def read(self, key: str) -> int:
        """How long a key is."""
        self.calls.append(key)
        if self.error is not None:
            raise self.error
        return len(key)

    async def aread(self, key: str) -> int:
        await asyncio.sleep(0)
        return self.read(key)


def once(clock: Clock, **policy: float) -> CircuitBreaker:
    """A breaker that opens at the first failure."""
    return CircuitBreaker("once", replace(Policy(failure_threshold=1), **policy), clock=clock)  # type: ignore[arg-type]


def half_open(breaker: CircuitBreaker, clock: Clock) -> None:
    """Opens a breaker, and lets its recovery timeout pass."""
    with pytest.raises(OSError, match="down"), breaker.guard():
        raise OSError("down")
    assert breaker.status().state is State.OPEN
    clock.now += 60


async def call_decorated(breaker: CircuitBreaker, service: Service) -> int:
    return breaker(service.read)("abc")


async def call_by_call(breaker: CircuitBreaker, service: Service) -> int:
    return breaker.call(service.read, "abc")


async def call_in_context(breaker: CircuitBreaker, service: Service) -> int:
    with breaker.guard():
        return service.read("abc")


async def call_decorated_async(breaker: CircuitBreaker, service: Service) -> int:
    return await breaker(service.aread)("abc")


async def call_by_call_async(breaker: CircuitBreaker, service: Service) -> int:
    return await breaker.call_async(service.aread, key="abc")


async def call_in_async_context(breaker: CircuitBreaker, service: Service) -> int:
    async with breaker.guard():
        return await service.aread("abc")


EVERY_WAY = [
    call_decorated,
    call_by_call,
    call_in_context,
    call_decorated_async,
    call_by_call_async,
    call_in_async_context,
]
every_way = pytest.mark.parametrize("call", EVERY_WAY)


@every_way
async def test_a_good_call_gives_its_result_and_is_counted(call: Call) -> None:
    breaker, service = once(Clock()), Service()
    assert await call(breaker, service) == 3
    assert breaker.status().counts == Counts(1, 0, 0)


@every_way
async def test_a_failure_opens_and_the_next_call_is_not_made(call: Call) -> None:
    clock = Clock()
    breaker, service = once(clock), Service(OSError("down"))
    with pytest.raises(OSError, match="down"):
        await call(breaker, service)
    clock.now += 20
    with pytest.raises(
        CircuitOpenError, match=r"circuit breaker once is open; next try in 40\.0 s"
    ) as caught:
        await call(breaker, service)
    assert (caught.value.name, caught.value.state, caught.value.retry_after) == ("once", State.OPEN, 40.0)
    assert len(service.calls) == 1
    assert breaker.status().rejected == 1


@every_way
@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        Interrupted(),
        SystemExit(),
        GeneratorExit(),
        pytest.param(KeyError("the caller's"), id="neither"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_says_nothing_of_the_service_loses_no_permit(call: Call, error: BaseException) -> None:
    def judge(error: Exception) -> Verdict:
        return Verdict.NEITHER if isinstance(error, KeyError) else Verdict.FAILURE

    clock = Clock()
    breaker = CircuitBreaker("once", Policy(failure_threshold=1), failures=judge, clock=clock)
    half_open(breaker, clock)
    service = Service(error)
    for _ in range(3):
        with pytest.raises(type(error)):
            await call(breaker, service)
        assert breaker.status().state is State.HALF_OPEN
    service.error = None
    assert await call(breaker, service) == 3
    assert breaker.status().state is State.CLOSED


async def test_a_task_cancelled_or_timed_out_from_outside_loses_no_permit() -> None:
    clock = Clock()
    breaker = once(clock)
    half_open(breaker, clock)

    @breaker
    async def hang() -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(hang())
    await asyncio.sleep(0)
    with pytest.raises(CircuitOpenError):
        await hang()
    task.cancel()
    await asyncio.wait({task})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await hang()
    never_awaited = hang()
    never_awaited.close()
    dropped = asyncio.create_task(hang())
    await asyncio.sleep(0)
    dropped.get_coro().close()  # as at the end of a loop
    assert breaker.status().retry_after == 0
    dropped.cancel()


def test_exceptions_that_do_not_count_are_successes() -> None:
    clock = Clock()
    breaker = CircuitBreaker(
        "some", Policy(failure_threshold=1), failures=(OSError, TimeoutError), clock=clock
    )
    with pytest.raises(LookupError), breaker.guard() as guard:
        raise LookupError
    assert guard.verdict is Verdict.SUCCESS
    assert breaker.status().counts == Counts(1, 0, 0)
    with pytest.raises(ConnectionError), breaker.guard() as guard:
        raise ConnectionError
    assert guard.verdict is Verdict.FAILURE
    assert breaker.status().state is State.OPEN


def test_a_judge_that_fails_counts_the_failure(caplog: pytest.LogCaptureFixture) -> None:
    def judge(_error: Exception) -> Verdict:
        raise ZeroDivisionError

    breaker = CircuitBreaker("odd", Policy(failure_threshold=1), failures=judge)
    with pytest.raises(OSError, match="down"), breaker.guard():
        raise OSError("down")
    assert breaker.status().state is State.OPEN
    assert "cannot judge" in caplog.text


def test_a_guard_says_how_long_the_call_took_and_serves_once() -> None:
    clock = Clock()
    with once(clock).guard() as guard:
        clock.now += 2.5
    assert guard.duration == 2.5
    assert guard.verdict is Verdict.SUCCESS
    with pytest.raises(RuntimeError, match="a guard serves one call"), guard:
        pass


def test_slow_calls_and_the_average_use_the_measured_time() -> None:
    clock = Clock()
    breaker = once(clock)

    @breaker
    def slow(seconds: float) -> None:
        clock.now += seconds

    slow(1.0)
    slow(3.0)
    status = breaker.status()
    assert status.counts == Counts(2, 0, 1)
    assert status.mean_duration == pytest.approx(2.0)
    assert status.seconds_in[State.CLOSED] == 4.0


def test_a_fallback_answers_for_rejected_calls_only() -> None:
    breaker, service = once(Clock()), Service(OSError("down"))
    read = breaker.or_else(lambda key: -len(key))(service.read)
    with pytest.raises(OSError, match="down"):
        read("abc")
    assert read("abcd") == -4
    assert service.calls == ["abc"]


async def test_a_fallback_of_an_async_function_is_async() -> None:
    async def cached(key: str) -> int:
        return -len(key)

    breaker, service = once(Clock()), Service()
    read = breaker.or_else(cached)(service.aread)
    assert await read("abc") == 3
    breaker.force_open()
    assert await read("abc") == -3


def test_what_is_wrapped_keeps_its_signature() -> None:
    breaker = CircuitBreaker("any")

    @breaker
    def read(key: str, *, deep: bool = False) -> int:
        """Reads."""
        return len(key) + deep

    @breaker
    async def aread(key: str) -> bytes:
        return key.encode()

    assert_type(read("key", deep=True), int)
    assert asyncio.run(aread("key")) == b"key"
    with pytest.raises(TypeError):
        read(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        read("key", depth=True)  # type: ignore[call-arg]
    breaker.reset()
    with pytest.raises(TypeError):
        breaker.call(read)  # type: ignore[call-arg]
    assert_type(breaker.call(read, "key"), int)
    assignable: DeepRead = read
    assert assignable is read
    assert (read.__name__, read.__doc__) == ("read", "Reads.")
    assert str(inspect.signature(read)) == "(key: str, *, deep: bool = False) -> int"
    assert inspect.iscoroutinefunction(aread)


def test_methods_partials_and_callable_objects_can_be_wrapped() -> None:
    breaker = once(Clock())

    class Store:
        name = "store"

        @breaker
        def read(self, key: str) -> str:
            return f"{self.name}: {key}"

        async def __call__(self, key: str) -> str:
            return self.read(key)

    assert Store().read("a") == "store: a"
    assert breaker(functools.partial(Store().read, key="b"))() == "store: b"
    assert asyncio.run(breaker(Store())("c")) == "store: c"
    breaker.force_open()
    with pytest.raises(CircuitOpenError):
        asyncio.run(breaker(Store())("c"))


def test_generators_are_refused_with_the_way_out() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def more_numbers() -> AsyncIterator[int]:
        yield 1

    for function in (numbers, more_numbers):
        with pytest.raises(TypeError, match=r"with breaker\.guard\(\)"):
            once(Clock())(function)


def test_call_refuses_an_async_function() -> None:
    with pytest.raises(TypeError, match="call_async"):
        _never_awaited = once(Clock()).call(Service().aread, "abc")


def test_an_argument_may_be_named_function() -> None:
    def apply(function: str) -> str:
        return function

    assert once(Clock()).call(apply, function="f") == "f"


def test_a_rejection_can_be_copied_and_sent_to_another_process() -> None:
    error = CircuitOpenError("media", State.FORCED_OPEN, 1.5)
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(copied) == str(error) == "circuit breaker media is forced_open; next try in 1.5 s"
    assert "until it is reset" in str(CircuitOpenError("media", State.FORCED_OPEN, float("inf")))


def test_listeners_learn_of_each_transition_in_order() -> None:
    clock, heard = Clock(), list[Transition]()
    breaker = CircuitBreaker("heard", Policy(failure_threshold=1), listeners=[heard.append], clock=clock)
    half_open(breaker, clock)
    breaker.call(Service().read, "abc")
    breaker.force_open()
    breaker.force_open()
    breaker.disable()
    breaker.reset()
    assert [(event.from_state, event.to_state, event.cause) for event in heard] == [
        (State.CLOSED, State.OPEN, Cause.FAILURE_THRESHOLD),
        (State.OPEN, State.HALF_OPEN, Cause.RECOVERY_TIMEOUT),
        (State.HALF_OPEN, State.CLOSED, Cause.TRIALS_SUCCEEDED),
        (State.CLOSED, State.FORCED_OPEN, Cause.BY_HAND),
        (State.FORCED_OPEN, State.DISABLED, Cause.BY_HAND),
        (State.DISABLED, State.CLOSED, Cause.BY_HAND),
    ]
    assert heard[0].counts == Counts(1, 1, 0)
    assert all(abs(event.at - time.time()) < 120 for event in heard)
    last = breaker.status().last_transition
    assert last is not None
    assert last.cause is Cause.BY_HAND


def test_a_listener_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard = list[State]()

    def broken(_event: Transition) -> None:
        raise ZeroDivisionError

    breaker = once(Clock())
    breaker.listen(broken)
    breaker.listen(lambda event: heard.append(event.to_state))
    with pytest.raises(OSError, match="down"):
        breaker.call(Service(OSError("down")).read, "abc")
    assert heard == [State.OPEN]
    assert "a listener of circuit breaker once failed" in caplog.text


def test_a_listener_may_steer_the_breaker_itself() -> None:
    heard = list[State]()

    def close_again(event: Transition) -> None:
        heard.append(event.to_state)
        if event.to_state is State.OPEN:
            breaker.reset()

    breaker = once(Clock())
    breaker.listen(close_again)
    with pytest.raises(OSError, match="down"):
        breaker.call(Service(OSError("down")).read, "abc")
    assert heard == [State.OPEN, State.CLOSED]
    assert breaker.call(Service().read, "abc") == 3


def test_an_interrupted_listener_does_not_silence_the_others() -> None:
    heard = list[State]()

    def interrupted(event: Transition) -> None:
        if event.to_state is State.FORCED_OPEN:
            raise Interrupted

    breaker = once(Clock())
    breaker.listen(interrupted)
    breaker.listen(lambda event: heard.append(event.to_state))
    with pytest.raises(Interrupted):
        breaker.force_open()
    breaker.reset()
    assert heard == [State.CLOSED]


def test_calls_are_never_serialised() -> None:
    breaker, together = once(Clock()), threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        waits = [pool.submit(breaker.call, together.wait, 30) for _ in range(8)]
        assert sorted(wait.result() for wait in waits) == list(range(8))


class Crowd:
    """Counts who is inside at the same time."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.ends: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        with self._lock:
            self.inside -= 1
            self.ends[kind.__name__ if kind else "success"] += 1


PERMITTED = 3
FOR_EVER = 10**9
HALF_OPEN_FOR_EVER = {"half_open_max_calls": PERMITTED, "half_open_successes": FOR_EVER}
"""So that whoever is inside got in half-open; time stands still, so that nobody is given up."""


def permits_left(breaker: CircuitBreaker) -> int:
    """How many calls a half-open breaker still admits."""
    admitted = 0
    while breaker.status().retry_after == 0:
        copy_context().run(breaker.admit)  # as somebody else would: within a trial the trial's permit serves
        admitted += 1
    return admitted


def test_64_threads_never_exceed_the_permitted_trials_and_lose_none(
    record_property: Callable[[str, object], None],
) -> None:
    clock, crowd, rejected = Clock(), Crowd(), Counter[str]()
    breaker = once(clock, **HALF_OPEN_FOR_EVER)
    half_open(breaker, clock)

    def trial(chance: random.Random) -> None:
        with crowd:
            time.sleep(chance.random() / 5000)
            if chance.random() < 0.3:
                raise Interrupted

    guarded = breaker(trial)

    def hammer(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(400):
            try:
                guarded(chance)
            except Interrupted:
                pass
            except CircuitOpenError:
                rejected["times"] += 1
                time.sleep(chance.random() / 2000)

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(64) as pool:
            list(pool.map(hammer, range(64)))
    finally:
        sys.setswitchinterval(switching)
    made = sum(crowd.ends.values())
    assert crowd.most == PERMITTED
    assert made + breaker.status().rejected == 64 * 400
    assert made > 1000
    assert breaker.status().counts.calls == crowd.ends["success"] + 1  # and the failure that opened it
    assert permits_left(breaker) == PERMITTED
    record_property("calls made, rejected, most inside", (made, breaker.status().rejected, crowd.most))


async def test_1000_tasks_never_exceed_the_permitted_trials_and_lose_none(
    record_property: Callable[[str, object], None],
) -> None:
    clock, crowd = Clock(), Crowd()
    breaker = once(clock, **HALF_OPEN_FOR_EVER)
    half_open(breaker, clock)
    chance = random.Random(1)

    @breaker
    async def trial() -> None:
        with crowd:
            await asyncio.sleep(chance.random() / 5000)
            if chance.random() < 0.2:
                raise Interrupted

    async def hammer() -> None:
        for _ in range(20):
            try:
                async with asyncio.timeout(0.00005 if chance.random() < 0.3 else 10):
                    await trial()
            except (Interrupted, TimeoutError):
                pass
            except CircuitOpenError:
                await asyncio.sleep(chance.random() / 100)

    tasks = [asyncio.create_task(hammer()) for _ in range(1000)]
    for task in tasks[::10]:
        asyncio.get_running_loop().call_later(chance.random() / 20, task.cancel)
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [end for end in ended if end is not None and not isinstance(end, asyncio.CancelledError)]
    assert crowd.most == PERMITTED
    assert min(crowd.ends[end] for end in ("success", "Interrupted", "CancelledError")) > 0
    assert breaker.status().counts.calls == crowd.ends["success"] + 1
    assert permits_left(breaker) == PERMITTED
    made = sum(crowd.ends.values())
    record_property("calls made, rejected, most inside", (made, breaker.status().rejected, crowd.most))


def test_64_threads_through_open_and_half_open_again_and_again() -> None:
    clock, crowd, changes = Clock(), Crowd(), Counter[tuple[State, State]]()
    breaker = once(clock, half_open_max_calls=PERMITTED)
    breaker.listen(lambda event: changes.update([(event.from_state, event.to_state)]))
    half_open(breaker, clock)
    over = threading.Event()

    @breaker
    def fail() -> None:
        with crowd:
            time.sleep(0.0002)
            raise OSError("down")

    def hammer() -> None:
        while not over.is_set():
            try:
                fail()
            except OSError:
                pass
            except CircuitOpenError:
                time.sleep(0.0005)

    with ThreadPoolExecutor(64) as pool:
        hammering = [pool.submit(hammer) for _ in range(64)]
        try:
            deadline = time.monotonic() + 60
            while changes[State.HALF_OPEN, State.OPEN] < 100:
                assert time.monotonic() < deadline
                # The next recovery begins when the trials of the last one are out.
                if crowd.inside == 0 and breaker.status().state is State.OPEN:
                    clock.now += 60
                time.sleep(0.0002)
        finally:
            over.set()
    for hammer_end in hammering:
        hammer_end.result()
    assert crowd.most <= PERMITTED
    assert changes[State.OPEN, State.HALF_OPEN] - changes[State.HALF_OPEN, State.OPEN] in (0, 1)
    assert changes[State.HALF_OPEN, State.CLOSED] == 0


def test_each_transition_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    breaker = once(clock)
    half_open(breaker, clock)
    breaker.call(Service().read, "abc")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "circuit breaker once is open: failure_threshold"),
        ("INFO", "circuit breaker once is half_open: recovery_timeout"),
        ("INFO", "circuit breaker once is closed: trials_succeeded"),
    ]


def test_failures_that_are_no_exceptions_are_refused() -> None:
    for wrong in (OSError("down"), [OSError], KeyboardInterrupt, "OSError", ()):
        with pytest.raises(TypeError, match="failures must be Exception classes"):
            CircuitBreaker("wrong", failures=wrong)  # type: ignore[arg-type]


def test_a_judge_that_gives_no_verdict_counts_the_failure(caplog: pytest.LogCaptureFixture) -> None:
    breaker = CircuitBreaker("odd", Policy(failure_threshold=1), failures=lambda _: True)  # type: ignore[arg-type, return-value]
    with pytest.raises(OSError, match="down"), breaker.guard():
        raise OSError("down")
    assert breaker.status().state is State.OPEN
    assert "no Verdict" in caplog.text


def test_a_fallback_is_async_exactly_if_the_function_is() -> None:
    breaker, service = once(Clock()), Service()
    with pytest.raises(TypeError, match="async exactly"):
        breaker.or_else(service.read)(service.aread)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="async exactly"):
        breaker.or_else(service.aread)(service.read)  # type: ignore[arg-type]


def test_a_share_alone_can_open_it() -> None:
    policy = Policy(failure_threshold=None, failure_rate_threshold=0.5, minimum_calls=4)
    breaker = CircuitBreaker("busy", policy)
    for error in (OSError("down"), None, OSError("down")):
        with suppress(OSError):
            breaker.call(Service(error).read, "abc")
    assert breaker.status().state is State.CLOSED
    breaker.call(Service().read, "abc")
    assert breaker.status().state is State.OPEN
