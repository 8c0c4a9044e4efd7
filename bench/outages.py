"""R2's two outages of 2025, played again: how soon somebody is told, how often, and how soon all is over.

    python -m bench.outages [--speed 20] [--only 2025-02-06] [--minutes M] [--push] [--seed 1] [--json FILE]

A storage that fails as R2 did stands on loopback; the exporter probes it; a real Prometheus scrapes it and
evaluates rules/; a real Alertmanager routes by rules/alertmanager.yml to receivers that note each
notification. With --speed 20 every duration is a twentieth of what it is: those of the exporter, of the
scrapes, of the rules (their ranges and `for`), of Alertmanager and of the outage; what is printed is
converted back. --speed 1 runs in real time; with --minutes an outage is ended early. With --push the
exporter pushes its own alerts as well, as it does in real time alone: then both have to be one.
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from exporter.outcome import Operation
from tests.faults.server import Behaviour, Call, FaultServer, fault_server, s3_error

ROOT = Path(__file__).parent.parent
WRITES = (Operation.PUT, Operation.DELETE)
WARM_UP = 600.0
"""Seconds of health before, so that every window is full."""

SHORT = 300.0
"""The same, before and after an outage that is ended early."""

AFTER = 900.0
"""Seconds after the end in which all has to be over, and nothing may come."""

GOAL_FIRST, GOAL_CRITICAL, GOAL_OVER = 60.0, 90.0, 300.0

_DURATION = re.compile(r"\b([0-9]+)(ms|s|m|h|d|w)\b")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

Chance = Callable[[float, Operation], float]
"""How likely an operation fails, by the seconds since the outage began."""


@dataclass(frozen=True)
class Outage:
    """What failed, for how many seconds, and what was left of it for how many more."""

    name: str
    seconds: float
    residue_seconds: float
    chance: Chance


def all_fail(seconds: float, _operation: Operation) -> float:
    return 1.0 if seconds < 59 * 60 else 0.008


def writes_fail(seconds: float, operation: Operation) -> float:
    """It rose over the first three minutes."""
    risen = min(1.0, seconds / 180)
    return risen * (1.0 if operation in WRITES else 0.35) if seconds < 67 * 60 else 0.0


OUTAGES = (
    Outage("2025-02-06", 59 * 60, 23 * 60, all_fail),
    Outage("2025-03-21", 67 * 60, 0, writes_fail),
)


@dataclass(frozen=True)
class Notification:
    """What a receiver was told, and when (monotonic seconds)."""

    at: float
    receiver: str
    status: str
    severities: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What came of one outage; seconds are those of the outage, whatever the speed."""

    outage: str
    speed: float
    first_notification: float | None
    first_critical: float | None
    page_firing: int
    page_resolved: int
    all_firing: int
    all_resolved: int
    over_after: float | None
    names: list[str]


@dataclass
class Noted:
    """The receivers, and what they were told."""

    notifications: list[Notification] = field(default_factory=list)
    first_failure: float | None = None
    began: float = 0.0


# --- the parts, each at its speed ---


def quicker(text: str, speed: float) -> str:
    """Text with every duration divided; none becomes shorter than a millisecond."""

    def divided(found: re.Match[str]) -> str:
        return f"{max(1, round(int(found[1]) * _UNITS[found[2]] / speed))}ms"

    return _DURATION.sub(divided, text)


def rules(folder: Path, speed: float) -> Path:
    """The rules with ranges, offsets, intervals and `for` divided; texts stay as they are."""
    into = folder / "rules"
    into.mkdir()
    for path in sorted((ROOT / "rules").glob("*.yml")):
        read = yaml.safe_load(path.read_text())
        if not isinstance(read, dict) or "groups" not in read:
            continue
        for group in read["groups"]:
            if "interval" in group:
                group["interval"] = quicker(group["interval"], speed)
            for rule in group["rules"]:
                for key in ("expr", "for", "keep_firing_for"):
                    if key in rule:
                        rule[key] = quicker(rule[key], speed)
        (into / path.name).write_text(yaml.safe_dump(read))
    return into


def routing(folder: Path, speed: float, receiver_url: str) -> Path:
    """rules/alertmanager.yml with its waits divided, and each receiver a webhook of ours."""
    read = yaml.safe_load((ROOT / "rules" / "alertmanager.yml").read_text())

    def divide(route: dict[str, Any]) -> None:
        for key in ("group_wait", "group_interval", "repeat_interval"):
            if key in route:
                route[key] = quicker(route[key], speed)
        for below in route.get("routes", []):
            divide(below)

    divide(read["route"])
    read.pop("templates", None)
    read["receivers"] = [
        {
            "name": each["name"],
            "webhook_configs": [{"url": f"{receiver_url}/{each['name']}", "send_resolved": True}],
        }
        for each in read["receivers"]
    ]
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(read))
    return path


def seconds(value: float, speed: float) -> str:
    return f"{max(1, round(value * 1000 / speed))}ms"


def settings(folder: Path, endpoint: str, speed: float, alertmanagers: Sequence[str]) -> Path:
    """The defaults, divided; and to whom the exporter pushes alerts of its own."""
    path = folder / "exporter.yaml"
    target = {
        "name": "media",
        "endpoint": endpoint,
        "bucket": "media",
        "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": "bench",
    }
    sections = {
        "probe": {"interval": seconds(30, speed), "timeout": seconds(5, speed)},
        "breaker": {
            "monitoring_window": seconds(300, speed),
            "recovery_timeout": seconds(60, speed),
            "half_open_max_wait": seconds(60, speed),
        },
    }
    pushing = {"alertmanager": {"urls": list(alertmanagers)}}
    path.write_text(yaml.safe_dump({**sections, **pushing, "targets": [target]}))
    return path


@asynccontextmanager
async def receivers(noted: Noted) -> AsyncIterator[str]:
    async def take(request: web.Request) -> web.Response:
        body = await request.json()
        firing = [each for each in body["alerts"] if each["status"] == "firing"]
        told = firing or body["alerts"]
        noted.notifications.append(
            Notification(
                time.monotonic(),
                request.match_info["receiver"],
                body["status"],
                tuple(sorted({each["labels"]["severity"] for each in told})),
                tuple(sorted({each["labels"]["alertname"] for each in told})),
            )
        )
        return web.Response()

    application = web.Application()
    application.router.add_post("/{receiver}", take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def process(*command: str, log: Path) -> AsyncIterator[None]:
    with log.open("wb") as said:
        started = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=said)
        try:
            yield
        finally:
            if started.returncode is None:
                started.terminate()
            await started.wait()


async def address(log: Path, pattern: str) -> str:
    """Where a program says that it listens."""
    async with asyncio.timeout(30):
        while True:
            said = await asyncio.to_thread(log.read_text, errors="replace")
            if found := re.search(pattern, said):
                return found[1]
            await asyncio.sleep(0.05)


def program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise SystemExit(f"{names[0]} is not installed: `make test` installs it")
    return found


@asynccontextmanager
async def monitored(
    folder: Path, storage: FaultServer, noted: Noted, speed: float, push: bool
) -> AsyncIterator[str]:
    """Exporter, Prometheus and Alertmanager at work; Alertmanager's URL."""
    async with AsyncExitStack() as stack:
        hook = await stack.enter_async_context(receivers(noted))
        log = folder / "alertmanager.log"
        alertmanager = [
            program("prometheus-alertmanager", "alertmanager"),
            f"--config.file={routing(folder, speed, hook)}",
            f"--storage.path={folder / 'alertmanager'}",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
        ]
        await stack.enter_async_context(process(*alertmanager, log=log))
        notified = await address(log, r'msg="Listening on" address=(\S+)')

        log = folder / "exporter.log"
        pushed = [f"http://{notified}"] if push else []
        exporter = [sys.executable, "-m", "exporter", "serve", "--web.listen-address=127.0.0.1:0"]
        exporter += [
            f"--config.file={settings(folder, storage.endpoint, speed, pushed)}",
            f"--storage.path={folder / 'history.db'}",
        ]
        await stack.enter_async_context(process(*exporter, log=log))
        scraped = (await address(log, r"url=\"?(http://[^\s\"]+)")).removeprefix("http://")

        scrape = {
            "global": {"scrape_interval": seconds(15, speed), "evaluation_interval": seconds(15, speed)},
            "rule_files": [f"{rules(folder, speed)}/*.yml"],
            "scrape_configs": [{"job_name": "r2", "static_configs": [{"targets": [scraped]}]}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [notified]}]}]},
        }
        scrape["global"]["scrape_timeout"] = seconds(10, speed)  # type: ignore[index]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(scrape))
        log = folder / "prometheus.log"
        prometheus = [
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            "--web.listen-address=127.0.0.1:0",
            f"--rules.alert.resend-delay={seconds(60, speed)}",
        ]
        await stack.enter_async_context(process(*prometheus, log=log))
        await address(log, r'msg="Listening on" address=(\S+)')
        yield f"http://{notified}"


def failing(storage: FaultServer, outage: Outage, noted: Noted, speed: float, seed: int) -> Behaviour:
    """What the storage does with each request; the first failure is noted."""
    chance = random.Random(seed)

    async def behave(call: Call) -> None:
        assert call.request is not None
        since = (time.monotonic() - noted.began) * speed
        if chance.random() >= outage.chance(since, call.request.operation):
            await storage.healthy(call)
            return
        noted.first_failure = noted.first_failure or time.monotonic()
        call.writer.write(
            s3_error(500, "InternalError", "We encountered an internal error. Please try again.")
        )
        await call.writer.drain()

    return behave


async def active_alerts(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/v2/alerts") as answer:
        return sum(each["labels"]["severity"] != "info" for each in await answer.json())


async def play(outage: Outage, speed: float, minutes: float | None, seed: int, push: bool) -> Row:
    """One outage from health to health."""
    noted = Noted()
    before, after = (WARM_UP, AFTER) if minutes is None else (SHORT, SHORT)
    lasts = outage.seconds + outage.residue_seconds if minutes is None else minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="bench-outages-"))
    try:
        async with fault_server() as storage, monitored(folder, storage, noted, speed, push) as manager:
            await asyncio.sleep(before / speed)
            if noted.notifications:
                raise SystemExit(f"told of something before anything failed: {noted.notifications}")
            noted.began = time.monotonic()
            behave = failing(storage, outage, noted, speed, seed)
            storage.script.update(dict.fromkeys(Operation, behave))
            await asyncio.sleep((lasts - (outage.residue_seconds if minutes is None else 0)) / speed)
            ended = time.monotonic()
            if minutes is not None:
                storage.heal()
            over = None
            while time.monotonic() < ended + (outage.residue_seconds * (minutes is None) + after) / speed:
                await asyncio.sleep(min(0.5, 5 / speed))
                if over is None and await active_alerts(manager) == 0:
                    over = time.monotonic()
            return row(outage, noted, speed, over - ended if over else None)
    finally:
        shutil.rmtree(folder)


def row(outage: Outage, noted: Noted, speed: float, over: float | None) -> Row:
    first = noted.first_failure or 0.0
    for each in noted.notifications:
        print(
            f"   {(each.at - first) * speed:>7.0f} s  {each.receiver:<12}{each.status:<10}"
            f"{', '.join(each.severities):<18}{', '.join(each.names)}",
            flush=True,
        )

    def after(notifications: Sequence[Notification]) -> float | None:
        return (notifications[0].at - first) * speed if notifications else None

    told = [each for each in noted.notifications if each.status == "firing"]
    pages = [each for each in noted.notifications if {"high", "critical"} & set(each.severities)]
    return Row(
        outage.name,
        speed,
        after(told),
        after([each for each in told if "critical" in each.severities]),
        sum(each.status == "firing" and each.receiver == "page" for each in pages),
        sum(each.status == "resolved" and each.receiver == "page" for each in pages),
        len(told),
        len(noted.notifications) - len(told),
        None if over is None else over * speed,
        sorted({name for each in told for name in each.names}),
    )


def shown(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} s"


async def run(arguments: argparse.Namespace) -> list[Row]:
    rows = []
    for outage in OUTAGES:
        if arguments.only in (None, outage.name):
            print(f"{outage.name}, {arguments.speed:g} times as fast", flush=True)
            rows.append(
                await play(outage, arguments.speed, arguments.minutes, arguments.seed, arguments.push)
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Play R2's outages again.")
    parser.add_argument("--speed", type=float, default=20.0)
    parser.add_argument("--only", choices=[outage.name for outage in OUTAGES])
    parser.add_argument("--minutes", type=float, help="end the outage after so long")
    parser.add_argument("--push", action="store_true", help="let the exporter push its alerts too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    rows = asyncio.run(run(arguments))
    print(f"{'outage':<12}{'first':>8}{'critical':>10}{'pages':>7}{'resolved':>10}{'over':>8}")
    for each in rows:
        print(
            f"{each.outage:<12}{shown(each.first_notification):>8}{shown(each.first_critical):>10}"
            f"{each.page_firing:>7}{each.page_resolved:>10}{shown(each.over_after):>8}"
        )
    print(f"{'goal':<12}{GOAL_FIRST:>6.0f} s{GOAL_CRITICAL:>8.0f} s{1:>7}{1:>10}{GOAL_OVER:>6.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
