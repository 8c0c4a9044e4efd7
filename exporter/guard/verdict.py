"""Whose fault an exception is: does it count against the service that was called?"""

import logging
import math
from collections.abc import Callable
from enum import Enum
from typing import cast

from exporter.breaker import State

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
        if math.isinf(self.retry_after):
            wait = "until it is reset"
        elif self.state is State.HALF_OPEN:
            wait = f"a trial is under way, for at most {self.retry_after:.1f} s"
        else:
            wait = f"next try in {self.retry_after:.1f} s"
        return f"circuit breaker {self.name} is {self.state}; {wait}"

    def __reduce__(self) -> tuple[type["CircuitOpenError"], tuple[str, State, float]]:
        return CircuitOpenError, (self.name, self.state, self.retry_after)


class Verdict(Enum):
    """What a call says of the service it went to."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEITHER = "neither"


Judge = Callable[[Exception], Verdict]


def every_exception(_error: Exception) -> Verdict:
    """The judge that counts every exception as a failure."""
    return Verdict.FAILURE


def judge_of(failures: object) -> Judge:
    """A judge from what `CircuitBreaker(failures=...)` takes. Raises TypeError for anything else."""
    classes = failures if isinstance(failures, tuple) else (failures,)
    if classes and all(isinstance(each, type) and issubclass(each, Exception) for each in classes):
        return judge_by_class(cast(tuple[type[Exception], ...], classes))
    if callable(failures) and not isinstance(failures, type):
        return cast(Judge, failures)
    raise TypeError(
        f"failures must be Exception classes, or a function from an exception to a Verdict, got {failures!r}"
    )


def judge_by_class(counted: type[Exception] | tuple[type[Exception], ...]) -> Judge:
    """A judge that counts these as failures, and takes any other for the caller's own."""
    return lambda error: Verdict.FAILURE if isinstance(error, counted) else Verdict.SUCCESS


def verdict_on(error: BaseException, judge: Judge) -> Verdict:
    """What an exception says of the service; cancellations, interrupts and rejections say nothing."""
    if not isinstance(error, Exception) or isinstance(error, CircuitOpenError):
        return Verdict.NEITHER
    try:
        verdict = judge(error)
    except Exception:
        log.exception("cannot judge whose fault a failure is, and count it")
        return Verdict.FAILURE
    if not isinstance(verdict, Verdict):
        log.error("a failure counts, for the judge said %r, which is no Verdict", verdict)
        return Verdict.FAILURE
    return verdict
