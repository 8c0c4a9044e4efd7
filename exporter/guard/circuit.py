"""The circuit breaker as callers use it: decorator, context manager and call, from threads and tasks."""

import functools
import inspect
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from types import CoroutineType, MappingProxyType
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakSet

from exporter.breaker import Breaker, Policy, State, Status, Transition
from exporter.guard.one_call import Guard
from exporter.guard.verdict import (
    CircuitOpenError,
    Judge,
    Verdict,
    every_exception,
    judge_of,
    verdict_on,
)

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)


Listener = Callable[[Transition], None]


WITHIN = 0
"""The permit of a call within a trial: no state ever gives it, so its result changes nothing."""

_trials: ContextVar[Mapping["CircuitBreaker", int]] = ContextVar("_trials", default=MappingProxyType({}))
"""The trials that this task or thread is in the middle of, or was: only those under way matter."""

_circuits: WeakSet["CircuitBreaker"] = WeakSet()


class CircuitBreaker:
    """One breaker for any number of threads and tasks; calls run side by side.

    `failures` says which exceptions count: classes (any other is the caller's, and the service did its
    part), or a function from the exception to a Verdict. By default all do, and for a bucket or a boto3
    client those of the storage (`judge_storage_error`). What is no Exception, such as a cancellation
    or KeyboardInterrupt, never counts. Each listener is told of each transition, in order and never two
    at once, with its Unix time; one that raises is logged. `clock` gives seconds and never goes back.
    """

    def __init__(
        self,
        name: str,
        policy: Policy | None = None,
        *,
        failures: type[Exception] | tuple[type[Exception], ...] | Judge | None = None,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.own_judge = None if failures is None else judge_of(failures)
        """What `failures` says; None without it, and then whoever guards a call decides."""
        self.clock = clock
        self._breaker = Breaker(policy or Policy(), clock())
        # Reentrant, for a signal handler or a finalizer may make a guarded call of its own.
        self._lock = threading.RLock()
        self._listeners = list(listeners)
        self._announcing = False
        self._call = self._wrap_sync(_apply, None)
        self._call_async = self._wrap_async(_apply_async, None)
        _circuits.add(self)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorates a function, sync or async; raises TypeError for a generator function."""
        return self._wrap(function, None)

    def or_else(self, fallback: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """The same, with a fallback that gets the arguments of a rejected call and answers in its place.

        Raises TypeError if one of the two is async and the other is not.
        """
        return lambda function: self._wrap(function, fallback)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls a function. Raises CircuitOpenError if it was not called, or what it raises."""
        try:
            return cast(R, self._call(function, *args, **kwargs))
        except _NeverAwaitedError:
            raise TypeError("call() takes no async function: use `await call_async(...)`") from None

    async def call_async(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Awaits an async function. Raises CircuitOpenError if it was not called, or what it raises."""
        return cast(R, await self._call_async(function, *args, **kwargs))

    def guard(self, judge: Judge | None = None) -> Guard:
        """A context manager around one call, for `with` and `async with`; each serves once.

        `judge` decides about its exceptions in place of `failures`.
        """
        return Guard(self, judge or self.own_judge or every_exception)

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
        outer = _trials.get()
        with self._lock:
            if outer and breaker.is_trial(outer.get(self)):
                return WITHIN  # a part of the trial, which its permit covers
            now = self.clock()
            permit = breaker.admit(now)
            if permit is None and not breaker.transitions:
                raise CircuitOpenError(self.name, breaker.state, breaker.retry_after(now))
        try:
            if breaker.transitions:
                self._announce()
        except BaseException:
            self.settle(permit or WITHIN, 0.0, Verdict.NEITHER)
            raise
        if permit is None:
            raise CircuitOpenError(self.name, breaker.state, breaker.retry_after(now))
        _trials.set({**outer, self: permit})
        return permit

    def check(self) -> None:
        """Raises CircuitOpenError if a call made now is rejected for sure; takes no permit."""
        breaker = self._breaker
        if breaker.passing is not None:
            return
        with self._lock:
            retry_after = breaker.retry_after(self.clock())
            if retry_after > 0 and not breaker.is_trial(_trials.get().get(self)):
                breaker.rejected += 1
                raise CircuitOpenError(self.name, breaker.state, retry_after)

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

    def renew(self) -> None:
        """Unlocks it in a process that was just forked."""
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]  # the closures hold this very lock
        self._announcing = False

    def _by_hand(self, change: Callable[[float], None]) -> None:
        with self._lock:
            change(self.clock())
        self._announce()

    def _wrap(self, function: Callable[P, R], fallback: Callable[P, R] | None) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("a generator's work is done while it is read: use `with breaker.guard():` there")
        is_async = _is_async(function)
        if fallback is not None and _is_async(fallback) != is_async:
            raise TypeError("the fallback must be async exactly if the function is")
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
        self.settle(permit, self.clock() - began, verdict_on(error, self.own_judge or every_exception))

    def _announce(self) -> None:
        """Tells the listeners outside the lock. Whoever is at it already takes later transitions along."""
        with self._lock:
            if self._announcing:
                return
            self._announcing = True
        try:
            while (transition := self._next_transition()) is not None:
                _log(self.name, transition)
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


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - its kind is asked, not whether it is there
    )


class _NeverAwaitedError(BaseException):
    """Says nothing of the service, so that no breaker counts it."""


def _log(name: str, transition: Transition) -> None:
    level = logging.WARNING if transition.to_state is State.OPEN else logging.INFO
    log.log(level, "circuit breaker %s is %s: %s", name, transition.to_state, transition.cause)


def _apply(function: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
    result = function(*args, **kwargs)
    if isinstance(result, CoroutineType):
        result.close()
        raise _NeverAwaitedError
    return result


async def _apply_async(function: Callable[..., Awaitable[R]], /, *args: Any, **kwargs: Any) -> R:
    return await function(*args, **kwargs)


def _after_fork() -> None:
    """A thread that held a lock, or was telling listeners, is not there in the child."""
    for circuit in list(_circuits):
        circuit.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
