"""What a kill -9 at a random moment takes from the history.

    python -m bench.kills [--kills 50] [--json FILE]

A process records results as fast as an exporter of thousands of targets would, announces transitions and
makes changes, and says on its standard output what it was told is on the disk. It is killed, its file is
looked at, and the next one goes on with the same file. Nothing that was announced may be missing, no
result but those of the last second, and the file must be whole. Every other process announces nothing
after the first time: what is announced takes the results that wait to the disk with it.
"""

import argparse
import asyncio
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from exporter.history import BreakerEvent, History, Retention
from exporter.outcome import Operation, Outcome, Phase

GOAL_SECONDS = 1.0
LONGEST_LIFE = 2.0
CHUNK = 20
PAUSE = 0.005
FOREVER = Retention(age=1000 * 86_400.0, size=1 << 50)


@dataclass(frozen=True)
class Killed:
    """One process, from its first result to the look at its file."""

    lived_seconds: float
    recorded: int
    lost: int
    lost_seconds: float
    """Between the newest result in the file and the last one that was recorded."""
    announced: int
    announced_lost: int
    whole: bool
    """Whether SQLite finds nothing wrong, the sums match the results, and none is missing in between."""


# --- the one that is killed ---


async def write(path: Path, run: str, pause: float) -> None:
    """Until it is killed, with so many seconds between one announcement and the next."""
    history = History(path, FOREVER)
    history.start()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(record(history, run))
        tasks.create_task(announce(history, run, pause))
        tasks.create_task(change(history, run, pause))


async def record(history: History, run: str) -> None:
    number = 0
    while True:
        for _ in range(CHUNK):
            operation = list(Operation)[number % len(Operation)]
            phases = {Phase.PROCESSING: 0.01, Phase.TRANSFER: 0.01}
            history.record(
                Outcome(f"target-{number % 100}", operation, 0.0, 0.02, phases, 200, f"{run}:{number}")
            )
            number += 1
        say("recorded", number, time.time())
        await asyncio.sleep(PAUSE)


async def announce(history: History, run: str, pause: float) -> None:
    number = 0
    while True:
        cause = f"{run}:{number}"
        event = BreakerEvent(time.time(), "target-0", "closed", "open", cause, "put", 10, 3, 1, 60.0)
        if await history.announce(event):
            say("announced", cause)
        number += 1
        await asyncio.sleep(pause)


async def change(history: History, run: str, pause: float) -> None:
    number = 0
    while True:
        name = f"{run}:{number}"
        await history.change(partial(alert_and_change, name=name))
        say("changed", name)
        number += 1
        await asyncio.sleep(pause)


def alert_and_change(connection: sqlite3.Connection, name: str) -> None:
    now = time.time()
    connection.execute(
        "INSERT INTO service_alerts (target, type, severity, message, created_at, updated_at) "
        "VALUES ('target-0', ?, 'HIGH', '', ?, ?)",
        (name, now, now),
    )
    connection.execute(
        "INSERT INTO health_check_config_changes (change, changed_at, changed_by, target, setting) "
        "VALUES (1, ?, 'somebody', '', ?)",
        (now, name),
    )


def say(*words: object) -> None:
    print(*words, flush=True)


# --- the one that kills ---


def kills(path: Path, times: int, chance: random.Random) -> Iterator[Killed]:
    """Lets that many processes write to the file, one after the other, and kills each."""
    for number in range(times):
        pause = PAUSE if number % 2 else 2 * LONGEST_LIFE
        yield kill_one(path, f"run-{number}", chance.uniform(0.0, LONGEST_LIFE), pause)


def kill_one(path: Path, run: str, seconds: float, pause: float) -> Killed:
    command = [sys.executable, __file__, "--victim", str(path), "--run", run, "--pause", str(pause)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline()]  # it has begun
            began = time.monotonic()
            try:
                process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                lived = time.monotonic() - began
            else:
                raise SystemExit(f"it ended by itself: {process.returncode}")
        finally:
            process.kill()
        lines += process.communicate()[0].splitlines()
    return look(path, run, lived, [line.split() for line in lines if line.strip()])


def look(path: Path, run: str, lived: float, said: Sequence[Sequence[str]]) -> Killed:
    """What is in the file of what was said."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT request_id, checked_at FROM r2_health_checks WHERE request_id LIKE ? || ':%' ORDER BY id",
            (run,),
        ).fetchall()
        present = {
            kind: {name for (name,) in connection.execute(f"SELECT {column} FROM {table}")}
            for kind, column, table in (
                ("announced", "cause", "circuit_breaker_events"),
                ("changed", "type", "service_alerts"),
                ("changes", "setting", "health_check_config_changes"),
            )
        }
        whole = (
            connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            and [name for name, _ in found] == [f"{run}:{number}" for number in range(len(found))]
            and present["changed"] == present["changes"]
            and sums(connection) == [("day", results(connection)), ("hour", results(connection))]
        )
    recorded = [(int(line[1]), float(line[2])) for line in said if line[0] == "recorded" and len(line) == 3]
    number, at = recorded[-1]
    announced = [line for line in said if line[0] in present and len(line) == 2]
    return Killed(
        lived_seconds=lived,
        recorded=number,
        lost=max(0, number - len(found)),
        lost_seconds=0.0 if len(found) >= number else at - (found[-1][1] if found else recorded[0][1]),
        announced=len(announced),
        announced_lost=sum(name not in present[kind] for kind, name in announced),
        whole=whole,
    )


def sums(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    return connection.execute(
        "SELECT period, sum(checks) FROM r2_operation_metrics GROUP BY period ORDER BY period"
    ).fetchall()


def results(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("SELECT count(*) FROM r2_health_checks").fetchone()
    return int(number)


def show(number: int, killed: Killed) -> None:
    print(
        f"{number:>4}{killed.lived_seconds:>8.3f}{killed.recorded:>10}{killed.lost:>8}"
        f"{killed.lost_seconds:>9.3f}{killed.announced:>11}{killed.announced_lost:>7}"
        f"  {'whole' if killed.whole else 'CORRUPT'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill processes that write the history.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--victim", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--pause", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.victim:
        asyncio.run(write(arguments.victim, arguments.run, arguments.pause))
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-kills-"))
    print(f"{'':>4}{'lived s':>8}{'recorded':>10}{'lost':>8}{'lost s':>9}{'announced':>11}{'lost':>7}")
    killed = []
    try:
        for one in kills(folder / "history.db", arguments.kills, random.Random(arguments.seed)):
            killed.append(one)
            show(len(killed), one)
    finally:
        shutil.rmtree(folder)
    announced, lost = sum(one.announced for one in killed), sum(one.announced_lost for one in killed)
    print(
        f"{len(killed)} kills: {sum(not one.whole for one in killed)} corrupt files, "
        f"{lost} of {announced} announced lost, "
        f"{sum(one.lost for one in killed)} of {sum(one.recorded for one in killed)} results lost, "
        f"at most {max(one.lost_seconds for one in killed):.3f} s (goal {GOAL_SECONDS:g} s)"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in killed], indent=2) + "\n")


if __name__ == "__main__":
    main()
