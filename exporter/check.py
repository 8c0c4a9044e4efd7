"""`check`: every target probed once, as a table for people or JSON for scripts."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from exporter.config import Settings, TargetSettings
from exporter.outcome import Outcome
from exporter.s3.connections import Connections
from exporter.s3.credentials import ChainCredentials
from exporter.storage import Reply
from exporter.targets import TlsContexts, make_probe

CLEANUP_GRACE = 10.0


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
    targets = [target for target in settings.targets if not names or target.name in names]
    outcomes = await _probe_all(targets, settings)
    if output == "json":
        print(json.dumps([_as_json(outcome) for outcome in outcomes], indent=2))
    else:
        _print(outcomes, len(targets))
    return 0 if all(outcome.success for outcome in outcomes) else 1


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
    """A progress bar on a terminal, and nothing elsewhere; call what it gives once for each target."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("probing", total=total)
        yield lambda: progress.advance(bar)


def _print(outcomes: Sequence[Outcome], targets: int) -> None:
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(_table(outcomes))
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


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("target", "operation", "result", "time", "detail"):
        table.add_column(column, justify="right" if column == "time" else "left")
    for outcome in outcomes:
        # As Text, for a storage's message is no markup, whatever brackets it holds.
        table.add_row(*map(Text, _cells(outcome)), style=None if outcome.success else "red")
    return table


def _cells(outcome: Outcome) -> list[str]:
    failure = outcome.failure
    result = "ok" if failure is None else failure.reason.value
    detail = failure.message if failure else ""
    return [outcome.target, outcome.operation.value, result, f"{outcome.duration * 1000:.1f} ms", detail]


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
