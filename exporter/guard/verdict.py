"""Whose fault an exception is: does it count against the service that was called?"""

import logging
from collections.abc import Callable
from enum import Enum

log = logging.getLogger(__name__)


class Verdict(Enum):
    """What a call says of the service it went to."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEITHER = "neither"


Judge = Callable[[Exception], Verdict]


def every_exception(_error: Exception) -> Verdict:
    """The judge that counts every exception as a failure."""
    return Verdict.FAILURE


def judge_by_class(counted: type[Exception] | tuple[type[Exception], ...]) -> Judge:
    """A judge that counts these as failures, and takes any other for the caller's own."""
    return lambda error: Verdict.FAILURE if isinstance(error, counted) else Verdict.SUCCESS


def verdict_on(error: BaseException, judge: Judge) -> Verdict:
    """What an exception says of the service; cancellations and interrupts say nothing."""
    if not isinstance(error, Exception):
        return Verdict.NEITHER
    try:
        return judge(error)
    except Exception:
        log.exception("cannot judge whose fault a failure is, and count it")
        return Verdict.FAILURE
