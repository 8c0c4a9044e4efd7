"""What the history costs: writing it, asking it, and how long either holds an event loop.

    python -m bench.history [--rows 10000000] [--asked 200] [--folder /tmp] [--json FILE]

The rows lie over 30 days: 10 targets, 5 operations each, one failure in 200, and one target that failed
for three days. They are written as the exporter writes them, through its queue and its thread. A query's
time is that of an API answer's part of it: a new connection, the query, its rows. How long the loop is
held is the delay of a callback that is due every millisecond, beyond that millisecond; each of these rows
is measured with Python's own switch interval of 5 ms and with a short one, and idle to compare with; all
but one of them after gc.freeze(). On a machine with other work the longest says nothing: read p99.
"""

import argparse
import asyncio
import gc
import itertools
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from exporter.history.backlog import Backlog
from exporter.history.database import open_for_writing, size_of
from exporter.history.entries import BreakerEvent, Check
from exporter.history.queries import (
    Filter,
    breaker_events,
    check_page,
    last_breaker_events,
    sums_between,
)
from exporter.history.reader import Reader
from exporter.history.retention import Retention, trim
from exporter.history.writer import Writer
from exporter.outcome import Failure, Operation, Outcome, Phase, Reason

DAY = 86_400.0
DAYS = 30
TARGETS = [f"target-{number}" for number in range(10)]
BROKEN = TARGETS[3]
EVENTS = 10_000
GOAL_RATE = 20_000
GOAL_MILLISECONDS = 50.0
GOAL_HELD = 2.0
SWITCH_INTERVALS = (0.005, 0.0005)
LIMIT = 50
WAITING = 20_000
WRITING_SECONDS = 10.0
QUERYING_SECONDS = 3.0

Query = Callable[[Any], Any]


@dataclass(frozen=True)
class Row:
    """One measured figure, and its goal where it has one. Times have a median and a p99."""

    measured: str
    unit: str
    median: float | None
    p99: float | None
    value: float
    goal: float | None


# --- what is written ---


def pool(target: str, operation: Operation, chance: random.Random) -> list[Outcome]:
    """Some results of one operation of one target, used again and again."""
    return [outcome(target, operation, chance, failed=chance.random() < 0.005) for _ in range(200)]


def outcome(target: str, operation: Operation, chance: random.Random, *, failed: bool) -> Outcome:
    phases = list(Phase) if chance.random() < 0.05 else [Phase.PROCESSING, Phase.TRANSFER]
    seconds = {phase: chance.lognormvariate(-4, 1) for phase in phases}
    message = "the storage answered 503: Please reduce your request rate."
    return Outcome(
        target,
        operation,
        0.0,
        sum(seconds.values()),
        seconds,
        status=503 if failed else 200,
        request_id=f"{chance.getrandbits(64):016x}-AMS",
        failure=Failure(Reason.THROTTLED, message, "SlowDown", "Probe less often.") if failed else None,
    )


def checks(rows: int, end: float, chance: random.Random) -> Iterator[Check]:
    """As many results, evenly over the days before `end`."""
    pairs = [(target, operation) for target in TARGETS for operation in Operation]
    good = {pair: itertools.cycle(pool(*pair, chance)) for pair in pairs}
    bad = {pair: outcome(*pair, chance, failed=True) for pair in pairs}
    step = DAYS * DAY / rows
    outage = (end - 10 * DAY, end - 7 * DAY)
    for number, pair in zip(range(rows), itertools.cycle(pairs), strict=False):
        at = end - (rows - number) * step
        failing = pair[0] == BROKEN and outage[0] <= at < outage[1]
        yield Check(at, bad[pair] if failing else next(good[pair]))


def events(end: float) -> Iterator[BreakerEvent]:
    """Ten thousand changes of state, over the same days."""
    for number, target in zip(range(EVENTS), itertools.cycle(TARGETS), strict=False):
        at = end - (EVENTS - number) * DAYS * DAY / EVENTS
        yield BreakerEvent(at, target, "closed", "open", "failures", "put", 10, 3, 1, 60.0)


def fill(path: Path, rows: int, end: float) -> tuple[float, float]:
    """Writes them all; rows per second in all, and while the writer was at it."""
    backlog = Backlog()
    writer = Writer(path, backlog, Retention(age=400 * DAY, size=1 << 50))
    writer.start()
    began = time.perf_counter()
    for check in checks(rows, end, random.Random(1)):
        while len(backlog) >= WAITING:
            time.sleep(0.01)
        backlog.put(check)
    for event in events(end):
        backlog.announce(event)
    if not writer.stop(600.0) or writer.state().dropped:
        raise SystemExit(f"not everything was written: {writer.state()}")
    return rows / (time.perf_counter() - began), rows / writer.state().write_seconds


# --- what is asked ---


def queries(rows: int, end: float, chance: random.Random) -> dict[str, Callable[[], Query]]:
    """What the API asks; each call gives the next of its kind."""

    def page(wanted: Filter, deepest: int = 1) -> Callable[[], Query]:
        return lambda: partial(check_page, wanted=wanted, limit=LIMIT, offset=chance.randrange(deepest))

    def target() -> str:
        return chance.choice(TARGETS)

    one, pair, op = rows // 10, rows // 50, Operation.GET.value
    t = TARGETS[5]
    return {
        "first page": page(Filter()),
        "deep page": page(Filter(), rows),
        "page of a target": page(Filter(target=t), one),
        "page of an operation": page(Filter(operation=op), rows // 5),
        "page of both": page(Filter(target=t, operation=op), pair),
        "page of failures": page(Filter(success=False), rows // 200),
        "page of a target's failures": page(Filter(target=t, success=False), one // 250),
        "page of both's failures": page(Filter(target=t, operation=op, success=False), 1),
        "page of successes": page(Filter(success=True), rows * 9 // 10),
        "page of a target's successes": page(Filter(target=BROKEN, success=True), one * 8 // 10),
        "page of 24 hours": page(Filter(since=end - DAY), rows // 30),
        "page of 29 days' failures": page(Filter(since=end - 29 * DAY, success=False), rows // 250),
        "page of nothing (target)": page(Filter(target="unknown")),
        "page of nothing (operation)": page(Filter(operation="unknown")),
        "sums of 24 hours": lambda: partial(sums_between, start=end - DAY, end=end),
        "sums of a week": lambda: partial(sums_between, start=end - 7 * DAY, end=end),
        "sums of 720 hours": lambda: partial(sums_between, start=end - DAYS * DAY, end=end),
        "sums of 720 hours, a target": lambda: partial(
            sums_between, start=end - DAYS * DAY, end=end, target=target()
        ),
        "last results": lambda: latest,
        "breaker events": lambda: partial(breaker_events, target=None, limit=LIMIT),
        "breaker events of a target": lambda: partial(breaker_events, target=target(), limit=LIMIT),
        "last breaker events": lambda: partial(last_breaker_events, targets=TARGETS),
    }


def latest(connection: Any) -> list[Any]:
    found: list[Any] = connection.execute("SELECT * FROM latest_health_checks").fetchall()
    return found


def timed(ask: Callable[[], Query], reader: Reader, times: int) -> list[float]:
    """Milliseconds of each."""
    taken = []
    for query in [ask() for _ in range(times)]:
        began = time.perf_counter()
        reader.run_now(query)
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def trimmed(path: Path, end: float, times: int) -> list[float]:
    """Milliseconds of each slice that retention removes."""
    taken = []
    with closing(open_for_writing(path)) as connection:
        for _ in range(times):
            began = time.perf_counter()
            trim(connection, Retention(age=29 * DAY, size=1 << 50), end)
            taken.append((time.perf_counter() - began) * 1e3)
    return taken


# --- how long the loop is held ---


async def ticked(until: Callable[[], bool]) -> list[float]:
    """Milliseconds by which callbacks came late, until `until()`, which is called at each."""
    loop = asyncio.get_running_loop()
    late = []
    while not until():
        began = loop.time()
        await asyncio.sleep(0.001)
        late.append((loop.time() - began) * 1e3 - 1.0)
    return late


async def idle() -> list[float]:
    give_up = time.monotonic() + QUERYING_SECONDS
    return await ticked(lambda: time.monotonic() > give_up)


@contextmanager
def frozen() -> Iterator[None]:
    """The garbage collector is spared what is there for good."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


async def while_writing(path: Path, end: float, *, freeze: bool) -> list[float]:
    """While the writer never runs out of results."""
    backlog = Backlog()
    writer = Writer(path, backlog, Retention(age=400 * DAY, size=1 << 50))
    writer.start()
    source = checks(1_000_000, end, random.Random(2))
    backlog.put(next(source))  # makes what the others are made of
    give_up = time.monotonic() + WRITING_SECONDS

    def feed() -> bool:
        if len(backlog) < WAITING:
            for check in itertools.islice(source, 200):
                backlog.put(check)
        return time.monotonic() > give_up

    with frozen() if freeze else nullcontext():
        late = await ticked(feed)
    await asyncio.to_thread(writer.stop, 600.0)
    return late


async def while_asking(ask: Callable[[], Query], reader: Reader) -> list[float]:
    """While a query runs, and then the next."""
    give_up = time.monotonic() + QUERYING_SECONDS

    async def keep_asking() -> None:
        while time.monotonic() < give_up:
            await reader.run(ask())

    with frozen():
        asking = asyncio.create_task(keep_asking())
        late = await ticked(asking.done)
    await asking
    return late


# --- the figures ---


def row_of(measured: str, times: Sequence[float], goal: float | None, *, longest: bool = False) -> Row:
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    return Row(measured, "ms", statistics.median(times), p99, max(times) if longest else p99, goal)


def held(path: Path, end: float, asked: dict[str, Callable[[], Query]], reader: Reader) -> Iterator[Row]:
    """`value` is the longest."""
    try:
        for seconds in SWITCH_INTERVALS:
            sys.setswitchinterval(seconds)
            kinds: dict[str, Callable[[], Coroutine[Any, Any, list[float]]]] = {
                "idle": idle,
                "writing, unfrozen": partial(while_writing, path, end, freeze=False),
                "writing": partial(while_writing, path, end, freeze=True),
            }
            kinds |= {f"asking: {name}": partial(while_asking, ask, reader) for name, ask in asked.items()}
            for name, run in kinds.items():
                label = f"held, {name} ({seconds * 1e3:g} ms)"
                yield row_of(label, asyncio.run(run()), None if name == "idle" else GOAL_HELD, longest=True)
    finally:
        sys.setswitchinterval(SWITCH_INTERVALS[0])


def measure(path: Path, rows: int, asked: int) -> Iterator[Row]:
    end = time.time()
    fed, written = fill(path, rows, end)
    yield Row("written, with the making of them", "rows/s", None, None, fed, GOAL_RATE)
    yield Row("written, the writer's own time", "rows/s", None, None, written, GOAL_RATE)
    yield Row("size", "bytes/row", None, None, size_of(path) / rows, None)
    reader = Reader(path, lambda: None)
    kinds = queries(rows, end, random.Random(3))
    for name, ask in kinds.items():
        yield row_of(name, timed(ask, reader, asked), GOAL_MILLISECONDS)
    yield from held(path, end, kinds, reader)
    reader.close()
    yield row_of("a slice of retention", trimmed(path, end, asked), None)


def show(row: Row) -> None:
    print(
        f"{row.measured:<52}{row.value:>12,.1f} {row.unit:<10}"
        f"{cell(row.median):>10}{cell(row.p99):>10}{cell(row.goal):>10}",
        flush=True,
    )


def cell(number: float | None) -> str:
    return "-" if number is None else f"{number:,.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the history's file.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--asked", type=int, default=200, help="how often each query is asked")
    parser.add_argument("--folder", type=Path, help="where the file is made, and removed again")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-history-", dir=arguments.folder))
    print(f"{'':<52}{'':>12} {'':<10}{'median':>10}{'p99':>10}{'goal':>10}")
    measured = []
    try:
        for row in measure(folder / "history.db", arguments.rows, arguments.asked):
            measured.append(row)
            show(row)
    finally:
        shutil.rmtree(folder)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in measured], indent=2) + "\n")


if __name__ == "__main__":
    main()
