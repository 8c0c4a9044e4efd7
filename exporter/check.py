"""`check`: every target probed once, as a table for people or JSON for scripts."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from urllib.request import getproxies_environment

from exporter.config import Settings, TargetSettings
from exporter.masking import register_secrets
from exporter.outcome import Outcome
from exporter.s3.connections import Connections
from exporter.s3.credentials import ChainCredentials
from exporter.s3.printable import printable
from exporter.storage import Reply
from exporter.targets import TlsContexts, make_probe, secrets_of
from exporter.threads import blocking_threads, leave_stuck_threads

CLEANUP_GRACE = 10.0
CELL_LIMIT = 500
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"


async def check(settings: Settings, names: Sequence[str], output: str) -> int:
    """Probes the targets (those in `names`, or all) and prints what came of it.

    Returns 0 if all are healthy, 1 if some are not, 2 for an unknown name.
    """
    known = {target.name for target in settings.targets}
    if unknown := [name for name in names if name not in known]:
        print(
            f"no target is named {', '.join(unknown)}; there are {', '.join(sorted(known))}", file=sys.stderr
        )
        return 2
    threads = blocking_threads(asyncio.get_running_loop())
    targets = [target for target in settings.targets if not names or target.name in names]
    register_secrets(secrets_of(settings, getproxies_environment()))
    outcomes = await _probe_all(targets, settings)
    if output == "json":
        print(json.dumps([_as_json(outcome) for outcome in outcomes], indent=2))
    else:
        _print(outcomes, len(targets))
    status = 0 if all(outcome.success for outcome in outcomes) else 1
    await leave_stuck_threads(threads, status)
    return status


async def _probe_all(targets: Sequence[TargetSettings], settings: Settings) -> list[Outcome]:
    chain, connections, contexts = ChainCredentials(), Connections(), TlsContexts()
    slots = asyncio.Semaphore(settings.exporter.probes_in_flight)
    with _progress(len(targets)) as advance:

        async def one(target: TargetSettings) -> list[Outcome]:
            found: list[Outcome] = []

            def record(outcome: Outcome, _reply: Reply) -> None:
                found.append(outcome)

            tls = await asyncio.to_thread(contexts.get, target.ca_file)
            probe = make_probe(target, tls, chain, connections, instance=settings.exporter.instance)
            async with slots:
                try:
                    await probe.run(record)
                finally:
                    await probe.close(CLEANUP_GRACE)
            advance()
            return found

        return [outcome for found in await asyncio.gather(*map(one, targets)) for outcome in found]


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """How far it is, on a terminal, and nothing elsewhere; call what it gives once for each target."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    done = count()

    def advance() -> None:
        print(f"\rprobing: {next(done)} of {total} targets", end="", file=sys.stderr, flush=True)

    advance()
    try:
        yield advance
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _print(outcomes: Sequence[Outcome], targets: int) -> None:
    if sys.stdout.isatty():
        for line in _table(outcomes):
            print(line)
    else:
        for outcome in outcomes:
            print(" ".join([outcome.target, *_cells(outcome)[1:]]).rstrip())
    unhealthy = len({outcome.target for outcome in outcomes if not outcome.success})
    print(f"{targets - unhealthy} of {targets} targets healthy")
    hints = dict.fromkeys(
        (outcome.target, outcome.failure.hint)
        for outcome in outcomes
        if outcome.failure and outcome.failure.hint
    )
    for target, hint in hints:
        print(f"{target}: {hint}")


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    rows = [("target", "operation", "result", "time", "detail"), *map(_cells, outcomes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, (target, operation, result, time, detail) in enumerate(rows):
        left = (cell.ljust(width) for cell, width in zip((target, operation, result), widths, strict=False))
        line = "  ".join([*left, time.rjust(widths[3]), detail]).rstrip()
        failed = number > 0 and not outcomes[number - 1].success
        yield f"{_RED}{line}{_PLAIN}" if failed else line


def _cells(outcome: Outcome) -> tuple[str, ...]:
    failure = outcome.failure
    result = "ok" if failure is None else failure.reason.value
    detail = failure.message if failure else ""
    cells = (outcome.target, outcome.operation.value, result, f"{outcome.duration * 1000:.1f} ms", detail)
    # A storage's message must not steer the terminal.
    return tuple(printable(cell, CELL_LIMIT) for cell in cells)


def _as_json(outcome: Outcome) -> dict[str, object]:
    failure = outcome.failure
    return {
        "target": outcome.target,
        "operation": outcome.operation.value,
        "success": outcome.success,
        "durationSeconds": outcome.duration,
        "phasesSeconds": {phase.value: seconds for phase, seconds in outcome.phases.items()},
        "status": outcome.status,
        "requestId": outcome.request_id or None,
        "reason": failure.reason.value if failure else None,
        "s3Code": (failure.s3_code or None) if failure else None,
        "message": failure.message if failure else None,
        "hint": (failure.hint or None) if failure else None,
    }
