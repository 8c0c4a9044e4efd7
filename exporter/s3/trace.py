"""When each phase of one request began and ended, by the monotonic clock."""

import ssl
import time
from contextvars import ContextVar
from operator import itemgetter
from typing import Any

from exporter.outcome import Phase

_current: ContextVar["Trace | None"] = ContextVar("current_trace", default=None)


class Trace:
    """The marks of one request, in seconds of the monotonic clock.

    A phase runs from its mark to the next one that was set, so a request that failed midway
    has the time spent in its last phase, and a phase that was never entered is absent. One that is
    `fresh` is to have a connection of its own making.
    """

    __slots__ = ("_duration", "_marks", "certificate_expiry", "fresh", "reconnected", "reused", "started")

    def __init__(self, *, fresh: bool = False) -> None:
        self.started = time.perf_counter()
        self.fresh = fresh
        self.reused = False
        self.reconnected = False
        self.certificate_expiry: float | None = None
        self._duration: float | None = None
        self._marks: dict[Phase, float] = {}

    def enter(self, phase: Phase, at: float | None = None) -> None:
        """A phase begins, now or then."""
        self._marks[phase] = time.perf_counter() if at is None else at

    def leave(self, phase: Phase) -> None:
        """Takes back a mark."""
        self._marks.pop(phase, None)

    def connected(self) -> None:
        """A connection is there, and the storage's turn has come."""
        self.reused = Phase.CONNECT not in self._marks
        self.enter(Phase.PROCESSING)

    def restart(self) -> None:
        """Begins anew on a fresh connection, after a kept one turned out to be closed."""
        self.reused = False
        self.reconnected = True
        self._marks.clear()

    def finish(self, at: float | None = None, *, at_least: float = 0.0) -> None:
        """Ends the request, now or then, with a duration of `at_least` so many seconds."""
        ended = time.perf_counter() if at is None else at
        self._duration = max(ended - self.started, at_least)

    @property
    def duration(self) -> float:
        """Seconds from the start to the end of the request."""
        return time.perf_counter() - self.started if self._duration is None else self._duration

    @property
    def last_phase(self) -> Phase | None:
        return max(self._marks, key=self._marks.__getitem__, default=None)

    def phases(self) -> dict[Phase, float]:
        """Seconds spent in each phase that was entered."""
        if not self._marks:
            return {}
        marks = sorted(self._marks.items(), key=itemgetter(1))
        ends = [at for _, at in marks[1:]] + [self.started + self.duration]
        return {phase: end - at for (phase, at), end in zip(marks, ends, strict=True)}


class TimedSSLContext(ssl.SSLContext):
    """An SSLContext that marks where connecting ends and the TLS handshake begins.

    aiohttp reports both as one; the event loop calls `wrap_bio` between them, once the socket
    is connected and before the first handshake message.
    """

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        trace = _current.get()
        if trace is not None:
            trace.enter(Phase.TLS)
        return super().wrap_bio(*args, **kwargs)


def watch(trace: Trace) -> None:
    """Makes `trace` the one of this task's request."""
    _current.set(trace)


def current() -> Trace:
    """The trace of this task's request. Raises LookupError outside one."""
    trace = _current.get()
    if trace is None:
        raise LookupError("no request is being traced")
    return trace
