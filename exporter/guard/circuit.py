"""The circuit breaker as callers use it: decorator, context manager and call, from threads and tasks."""

import functools
import inspect
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import CoroutineType, TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from exporter.breaker import Breaker, Policy, State, Status, Transition
from exporter.guard.verdict import Judge, Verdict, every_exception, judge_by_class, verdict_on

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)


class CircuitOpenError(Exception):
    """The call was not made. `retry_after` is in how many seconds the next one can be admitted.

    It is infinite while the breaker is forced open; while trials are under way it is the longest
    that they may take.
    """

    __slots__ = ("name", "retry_after", "state")

    def __init__(self, name: str, state: State, retry_after: float) -> None:
        # BaseException's __new__ keeps the arguments; its __init__ would only cost time.
        self.name = name
        self.state = state
        self.retry_after = retry_after

    def __str__(self) -> str:
        wait = (
            "until it is reset" if math.isinf(self.retry_after) else f"next try in {self.retry_after:.1f} s"
        )
        return f"circuit breaker {self.name} is {self.state}; {wait}"


Listener = Callable[[Transition], None]


class CircuitBreaker:
    """One breaker for any number of threads and tasks; calls run side by side.

    `failures` says which exceptions count: classes (any other is the caller's, and the service did its
    part), or a function from the exception to a Verdict. What is no Exception, such as a cancellation
    or KeyboardInterrupt, never counts. Each listener is told of each transition, in order and never two
    at once, with its Unix time; one that raises is logged. `clock` gives seconds and never goes back.
    """

    def __init__(
        self,
        name: str,
        policy: Policy | None = None,
        *,
        failures: type[Exception] | tuple[type[Exception], ...] | Judge = every_exception,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.judge = judge_by_class(failures) if isinstance(failures, type | tuple) else failures
        self.clock = clock
        self._breaker = Breaker(policy or Policy(), clock())
        # Reentrant, for a signal handler or a finalizer may make a guarded call of its own.
        self._lock = threading.RLock()
        self._listeners = list(listeners)
        self._announcing = False
        self._call = self._wrap_sync(_apply, None)
        self._call_async = self._wrap_async(_apply, None)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorates a function, sync or async; raises TypeError for a generator function."""
        return self._wrap(function, None)

    def or_else(self, fallback: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """The same, with a fallback that gets the arguments of a rejected call and answers in its place."""
        return lambda function: self._wrap(function, fallback)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls a function. Raises CircuitOpenError if it was not called, or what it raises."""
        result = self._call(function, *args, **kwargs)
        if isinstance(result, CoroutineType):
            result.close()
            raise TypeError("call() takes no async function: use `await call_async(...)`")
        return cast(R, result)

    async def call_async(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Awaits an async function. Raises CircuitOpenError if it was not called, or what it raises."""
        return cast(R, await self._call_async(function, *args, **kwargs))

    def guard(self, judge: Judge | None = None) -> "Guard":
        """A context manager around one call, for `with` and `async with`; each serves once.

        `judge` decides about its exceptions in place of `failures`.
        """
        return Guard(self, judge or self.judge)

    def status(self) -> Status:
        """The breaker as it is now; its times are Unix times."""
        with self._lock:
            now = self.clock()
            status = self._breaker.status(now)
        shift = time.time() - now
        last = status.last_transition
        return replace(
            status,
            since=status.since + shift,
            last_transition=replace(last, at=last.at + shift) if last else None,
        )

    def reset(self) -> None:
        """Close it, and forget the failures so far."""
        self._by_hand(self._breaker.reset)

    def force_open(self) -> None:
        """Reject every call until `reset` or `disable`."""
        self._by_hand(self._breaker.force_open)

    def disable(self) -> None:
        """Admit every call, until `reset` or `force_open`; measuring goes on."""
        self._by_hand(self._breaker.disable)

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of each transition from now on."""
        with self._lock:
            self._listeners = [*self._listeners, listener]

    def admit(self) -> int:
        """A permit for one call, to be given back to `settle`. Raises CircuitOpenError."""
        breaker = self._breaker
        if (permit := breaker.passing) is not None:
            return permit
        try:
            with self._lock:
                now = self.clock()
                if (permit := breaker.admit(now)) is None:
                    raise CircuitOpenError(self.name, breaker.state, breaker.retry_after(now))
        finally:
            if breaker.transitions:
                self._announce()
        return permit

    def settle(self, permit: int, duration: float, verdict: Verdict) -> None:
        """Gives a permit back, with what the call said and how long it took (seconds)."""
        changed = False
        with self._lock:
            if verdict is Verdict.SUCCESS:
                changed = self._breaker.succeed(permit, self.clock(), duration)
            elif verdict is Verdict.FAILURE:
                changed = self._breaker.fail(permit, self.clock(), duration)
            else:
                self._breaker.release(permit)
        if changed:
            self._announce()

    def _by_hand(self, change: Callable[[float], None]) -> None:
        with self._lock:
            change(self.clock())
        self._announce()

    def _wrap(self, function: Callable[P, R], fallback: Callable[P, R] | None) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("a generator's work is done while it is read: use `with breaker.guard():` there")
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - its kind is asked, not whether it is there
        )
        wrap = self._wrap_async if is_async else self._wrap_sync
        guarded: Callable[P, R] = wrap(function, fallback)
        return guarded

    def _wrap_sync(self, function: Callable[..., Any], fallback: Callable[..., Any] | None) -> Any:
        breaker, clock, lock = self._breaker, self.clock, self._lock
        succeed, admit, failed = breaker.succeed, self.admit, self._failed

        # Nearly all calls go through here with the circuit closed: no step that can be saved.
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            permit = breaker.passing
            if permit is None:
                if fallback is None:
                    permit = admit()
                else:
                    try:
                        permit = admit()
                    except CircuitOpenError:
                        return fallback(*args, **kwargs)
            began = clock()
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                failed(permit, began, error)
                raise
            now = clock()
            with lock:
                changed = succeed(permit, now, now - began)
            if changed:
                self._announce()
            return result

        return guarded

    def _wrap_async(self, function: Callable[..., Any], fallback: Callable[..., Any] | None) -> Any:
        breaker, clock, lock = self._breaker, self.clock, self._lock
        succeed, admit, failed = breaker.succeed, self.admit, self._failed

        @functools.wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            permit = breaker.passing
            if permit is None:
                if fallback is None:
                    permit = admit()
                else:
                    try:
                        permit = admit()
                    except CircuitOpenError:
                        return await fallback(*args, **kwargs)
            began = clock()
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                failed(permit, began, error)
                raise
            now = clock()
            with lock:
                changed = succeed(permit, now, now - began)
            if changed:
                self._announce()
            return result

        return guarded

    def _failed(self, permit: int, began: float, error: BaseException) -> None:
        self.settle(permit, self.clock() - began, verdict_on(error, self.judge))

    def _announce(self) -> None:
        """Tells the listeners outside the lock. Whoever is at it already takes later transitions along."""
        with self._lock:
            if self._announcing:
                return
            self._announcing = True
        try:
            while (transition := self._next_transition()) is not None:
                for listener in self._listeners:
                    self._tell(listener, transition)
        except BaseException:
            self._announcing = False
            raise

    def _next_transition(self) -> Transition | None:
        with self._lock:
            if not self._breaker.transitions:
                self._announcing = False
                return None
            transition = self._breaker.transitions.pop(0)
            return replace(transition, at=transition.at + time.time() - self.clock())

    def _tell(self, listener: Listener, transition: Transition) -> None:
        try:
            listener(transition)
        except Exception:
            log.exception("a listener of circuit breaker %s failed", self.name)


class Guard:
    """One call under a circuit breaker. Entering raises CircuitOpenError.

    After the call `verdict` says how it counted and `duration` how many seconds it took.
    """

    duration = 0.0
    verdict: Verdict | None = None
    _began = 0.0
    _permit: int | None = None

    def __init__(self, circuit: CircuitBreaker, judge: Judge) -> None:
        self._circuit = circuit
        self._judge = judge

    def __enter__(self) -> Self:
        if self._permit is not None:
            raise RuntimeError("a guard serves one call: get the next from breaker.guard()")
        self._permit = self._circuit.admit()
        self._began = self._circuit.clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(Verdict.SUCCESS if error is None else verdict_on(error, self._judge))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def end(self, verdict: Verdict) -> None:
        """What `__exit__` does, for those who learn of the call's end by other means; once only."""
        if self.verdict is None and self._permit is not None:
            self.verdict = verdict
            self.duration = self._circuit.clock() - self._began
            self._circuit.settle(self._permit, self.duration, verdict)


def _apply(function: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
    return function(*args, **kwargs)
