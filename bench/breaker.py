"""What a circuit breaker adds to a call, here and with four other libraries, interleaved in one run.

    python -m bench.breaker [--rounds 200] [--calls 2000] [--json FILE]

Each round times every candidate once, so that all of them meet the same moments of the machine. A good
call is one in the closed state, and its nanoseconds are what the breaker adds: the guarded call less the
bare one of the same round. Of a rejected call they are the whole of it, with the `try` around it or with
the fallback's answer. The median is over the rounds; the minimum is the fastest round less the fastest
bare one. Every library has its defaults; only ours watches the window and slow calls with them.
"""

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from exporter.guard import CircuitBreaker, CircuitOpenError

try:
    import aiobreaker
    import circuitbreaker
    import purgatory
    import pybreaker
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing.name} is not installed: run `make bench`, which installs it") from None

OURS = "r2-exporter"
SYNC, ASYNC = "sync", "async"
DECORATED = "decorated"
KEY = "report.pdf"
ATTEMPTS = 50

LOOP = """
{define} loop(calls):
    began = clock()
    for _ in repeat(None, calls):
{statement}
    return clock() - began
"""
REJECTED = """
try:
    guarded(KEY)
except CircuitOpenError:
    pass
"""

Decorate = Callable[[Callable[[str], Any]], Callable[[str], Any]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to make a call: a statement, and what its names stand for; no statement: not supported."""

    kind: str
    call: str
    library: str
    statement: str | None
    names: Mapping[str, Any]
    goal: float | None = None
    whole: bool = False
    """Whether its whole time counts, without taking the bare call off."""


@dataclass(frozen=True)
class Row:
    """One measured candidate; None where a library has no such call, or there is no goal or ratio."""

    kind: str
    call: str
    library: str
    version: str
    median_nanoseconds: float | None
    minimum_nanoseconds: float | None
    goal_nanoseconds: float | None
    ours_to_its: float | None
    """Our median as a share of this one's."""


def work(key: str) -> str:
    return key


async def work_async(key: str) -> str:
    return key


BARE = {
    SYNC: Candidate(SYNC, "bare", "", "work(KEY)", {"work": work}),
    ASYNC: Candidate(ASYNC, "bare", "", "await work(KEY)", {"work": work_async}),
}
GOALS = {SYNC: 500.0, ASYNC: 450.0}
GOAL_REJECTED = 1000.0


# What makes a decorator with a new breaker.
LIBRARIES: Mapping[str, Mapping[str, Callable[[], Decorate]]] = {
    OURS: {SYNC: lambda: CircuitBreaker("storage"), ASYNC: lambda: CircuitBreaker("storage")},
    "pybreaker": {SYNC: pybreaker.CircuitBreaker},  # its async calls are Tornado's
    "circuitbreaker": {SYNC: circuitbreaker.circuit, ASYNC: circuitbreaker.circuit},
    "aiobreaker": {SYNC: aiobreaker.CircuitBreaker, ASYNC: aiobreaker.CircuitBreaker},
    "purgatory": {
        SYNC: lambda: purgatory.SyncCircuitBreakerFactory()("storage"),
        ASYNC: lambda: purgatory.AsyncCircuitBreakerFactory()("storage"),
    },
}


def candidates(runner: asyncio.Runner) -> Iterator[Candidate]:
    for kind, library in itertools.product(BARE, LIBRARIES):
        goal = GOALS[kind] if library == OURS else None
        new = LIBRARIES[library].get(kind)
        if new is None:
            yield Candidate(kind, DECORATED, library, None, {}, goal)
            continue
        if not opens(new(), kind, runner):
            raise SystemExit(f"{library} never rejected a call ({kind}): that is no breaker to compare with")
        bare = BARE[kind].names["work"]
        yield Candidate(kind, DECORATED, library, BARE[kind].statement, {"work": new()(bare)}, goal)
    yield from other_calls()


def other_calls() -> Iterator[Candidate]:
    """Our other ways to make a call, and calls that are rejected."""
    names = {"breaker": CircuitBreaker("storage"), "work": work}
    yield Candidate(SYNC, "call()", OURS, "breaker.call(work, KEY)", names)
    yield Candidate(SYNC, "with guard()", OURS, "with breaker.guard():\n    work(KEY)", names)
    forced = CircuitBreaker("storage")
    forced.force_open()
    names = {"guarded": forced(work), "CircuitOpenError": CircuitOpenError}
    yield Candidate(SYNC, "rejected", OURS, REJECTED, names, GOAL_REJECTED, whole=True)
    names = {"guarded": forced.or_else(work)(work)}
    yield Candidate(SYNC, "rejected, fallback", OURS, "guarded(KEY)", names, whole=True)


def opens(decorate: Decorate, kind: str, runner: asyncio.Runner) -> bool:
    """Whether it stops calling a function that always fails."""
    reached = 0

    def fail(_key: str) -> None:
        nonlocal reached
        reached += 1
        raise ConnectionError

    async def fail_async(key: str) -> None:
        fail(key)

    guarded = decorate(fail if kind == SYNC else fail_async)
    for _ in range(ATTEMPTS):
        with contextlib.suppress(Exception):
            answer = guarded(KEY)
            if kind == ASYNC:
                runner.run(answer)
    return 0 < reached < ATTEMPTS


def timer(candidate: Candidate, runner: asyncio.Runner) -> Callable[[int], float]:
    """Gives the seconds that so many calls take.

    The loop's code is compiled for this candidate alone: the interpreter adapts code to what runs in it.
    """
    statement = textwrap.indent(str(candidate.statement).strip(), " " * 8)
    source = LOOP.format(define="def" if candidate.kind == SYNC else "async def", statement=statement)
    names = {"clock": time.perf_counter, "repeat": itertools.repeat, "KEY": KEY, **candidate.names}
    exec(source, names)
    loop = names["loop"]
    return loop if candidate.kind == SYNC else lambda calls: runner.run(loop(calls))


def measure(
    listed: Sequence[Candidate], rounds: int, calls: int, runner: asyncio.Runner
) -> dict[Candidate, list[float]]:
    """Nanoseconds a call in each round, the bare calls' among them."""
    timed = [one for one in (*BARE.values(), *listed) if one.statement]
    timers = [timer(one, runner) for one in timed]
    for run in timers:  # lets the interpreter adapt before the first round
        run(calls)
    gc.collect()
    gc.disable()
    try:
        measured = [[run(calls) / calls * 1e9 for run in timers] for _ in range(rounds)]
    finally:
        gc.enable()
    return dict(zip(timed, map(list, zip(*measured, strict=True)), strict=True))


def rows(listed: Sequence[Candidate], measured: Mapping[Candidate, Sequence[float]]) -> Iterator[Row]:
    added = {one: overhead(one, measured) for one in listed if one in measured}
    baseline = {one.kind: added[one][0] for one in added if (one.library, one.call) == (OURS, DECORATED)}
    for one in listed:
        median, minimum = added.get(one, (None, None))
        compared = median is not None and one.call == DECORATED
        yield Row(
            kind=one.kind,
            call=one.call,
            library=one.library,
            version=version(one.library),
            median_nanoseconds=median,
            minimum_nanoseconds=minimum,
            goal_nanoseconds=one.goal,
            ours_to_its=baseline[one.kind] / median if compared else None,
        )


def overhead(one: Candidate, measured: Mapping[Candidate, Sequence[float]]) -> tuple[float, float]:
    """Median and minimum."""
    times = measured[one]
    if one.whole:
        return statistics.median(times), min(times)
    bare = measured[BARE[one.kind]]
    differences = [guarded - alone for guarded, alone in zip(times, bare, strict=True)]
    return statistics.median(differences), min(times) - min(bare)


def show(measured: Sequence[Row]) -> None:
    print(
        f"{'kind':<7}{'call':<20}{'library':<16}{'version':<9}"
        f"{'median ns':>10}{'minimum ns':>12}{'goal ns':>9}{'ours/its':>10}"
    )
    for row in measured:
        print(
            f"{row.kind:<7}{row.call:<20}{row.library:<16}{row.version:<9}"
            f"{cell(row.median_nanoseconds):>10}{cell(row.minimum_nanoseconds):>12}"
            f"{cell(row.goal_nanoseconds):>9}{cell(row.ours_to_its, 2):>10}"
        )
    for kind in BARE:
        shares = [
            f"{row.ours_to_its:.2f} of {row.library}"
            for row in measured
            if row.kind == kind and row.library != OURS and row.ours_to_its is not None
        ]
        print(f"{kind}: a good call of ours adds {', '.join(shares)}")


def cell(number: float | None, digits: int = 0) -> str:
    return "-" if number is None else f"{number:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a circuit breaker adds to a call.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--calls", type=int, default=2000, help="calls of each candidate in a round")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    with asyncio.Runner() as runner:
        listed = list(candidates(runner))
        nanoseconds = measure(listed, arguments.rounds, arguments.calls, runner)
    measured = list(rows(listed, nanoseconds))
    show(measured)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in measured], indent=2) + "\n")


if __name__ == "__main__":
    main()
