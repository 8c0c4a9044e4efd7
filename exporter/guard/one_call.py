"""One call under a circuit breaker, for `with` and for those who learn of its end by other means."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from exporter.guard.verdict import Judge, Verdict, verdict_on

if TYPE_CHECKING:
    from exporter.guard.circuit import CircuitBreaker


class Guard:
    """One call under a circuit breaker. Entering raises CircuitOpenError.

    After the call `verdict` says how it counted and `duration` how many seconds it took.
    """

    duration = 0.0
    verdict: Verdict | None = None
    _began = 0.0
    _permit: int | None = None

    def __init__(self, circuit: "CircuitBreaker", judge: Judge) -> None:
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
