#!/usr/bin/env python
"""Makes the README's pictures of the status page: `python -m tools.screenshot [FOLDER]`.

The demo's storage plays its failing and its throttled scene; a day of results from before is made up.
Debian's chromium takes the pictures, in light and in dark.
"""

import asyncio
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.async_api import Browser, ViewportSize, async_playwright

from exporter.app import App
from exporter.config import load_settings
from exporter.demo import DemoStorage
from exporter.history.backlog import Batch
from exporter.history.database import upgrade
from exporter.history.entries import Check
from exporter.history.sums import RunningSums
from exporter.history.transaction import commit
from exporter.outcome import Failure, Operation, Outcome, Phase, Reason
from exporter.web.server import Server

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
SIZE: ViewportSize = {"width": 1040, "height": 1080}
SCALE, COLOURS = 1.5, 255
FOLDER = Path("docs/images")
PICTURES: tuple[tuple[Literal["light", "dark"], str], ...] = (
    ("light", "status.png"),
    ("dark", "status-dark.png"),
)
PATIENCE = 90.0

HOURS, EVERY = 23, 30.0
USUAL = {"put": 0.046, "get": 0.021, "head": 0.012, "list": 0.034, "delete": 0.018}
SHARES = {Phase.PROCESSING: 0.9, Phase.TRANSFER: 0.1}

SETTINGS = """\
probe: {{interval: 3s, timeout: 3s, operations: [put, get, head, list, delete]}}
breaker: {{failure_threshold: 20, monitoring_window: 20s, recovery_timeout: 15s}}
targets:
  - {{name: media, endpoint: "{failing}", bucket: media, region: us-east-1, {keys}}}
  - {{name: thumbnails, endpoint: "{throttled}", bucket: media, region: us-east-1, {keys}}}
  - {{name: backups, endpoint: "{failing}", bucket: backups, region: us-east-1, {keys}}}
  - {{name: invoices, endpoint: "{throttled}", bucket: backups, region: us-east-1, {keys}}}
"""
KEYS = "access_key_id: demo, secret_access_key: demo-needs-no-secret"


async def main(folder: Path) -> None:
    """Both pictures."""
    async with DemoStorage(scene="failing") as failing, DemoStorage(scene="throttled") as throttled:
        with tempfile.TemporaryDirectory() as temporary:
            config, history = Path(temporary, "exporter.yaml"), Path(temporary, "r2-exporter.db")
            prepare(config, history, failing.endpoint, throttled.endpoint)
            app = App(partial(load_settings, config, {}), history)
            server = Server(app, [("127.0.0.1", 0)], None)
            await app.start()
            try:
                await server.start()
                await picture(server.urls[0], folder)
            finally:
                await app.stop()
                await server.stop()


def prepare(config: Path, history: Path, failing: str, throttled: str) -> None:
    """What the exporter finds at its start."""
    config.write_text(SETTINGS.format(failing=failing, throttled=throttled, keys=KEYS))
    remember(history, time.time())


async def picture(url: str, folder: Path) -> None:
    """Once the outage is told, and one of its failures opened."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            await until_alerting(browser, url)
            for scheme, name in PICTURES:
                page = await browser.new_page(viewport=SIZE, device_scale_factor=SCALE, color_scheme=scheme)
                await page.goto(url)
                await page.uncheck("#follow")
                await page.locator("details.target[open] ~ details.target[open] > summary").first.click()
                await page.locator("details.probe:has(.unhealthy) > summary").first.click()
                await page.mouse.move(0, 0)
                await page.evaluate("scrollTo(0, 0)")
                save(await page.screenshot(animations="disabled"), folder / name)
        finally:
            await browser.close()


async def until_alerting(browser: Browser, url: str) -> None:
    page = await browser.new_page()
    async with asyncio.timeout(PATIENCE):
        while True:
            await page.goto(url)
            if (
                await page.locator(".alert.critical").count()
                and await page.locator(".target.degraded").count()
            ):
                break
            await asyncio.sleep(1)
    await page.close()


def save(shot: bytes, file: Path) -> None:
    """Few colours suffice, and keep the file small."""
    file.parent.mkdir(parents=True, exist_ok=True)
    few = (
        Image.open(BytesIO(shot))
        .convert("RGB")
        .quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    few.save(file, optimize=True)
    sys.stdout.write(f"{file}: {few.width} x {few.height}, {file.stat().st_size:,} bytes\n")


def remember(history: Path, now: float) -> None:
    """A day of results, as an exporter would have kept them."""
    with closing(sqlite3.connect(history, isolation_level=None)) as connection:
        upgrade(connection, str(history))
        commit(connection, RunningSums(), Batch(checks=list(a_day(now))))


def a_day(now: float) -> Iterator[Check]:
    """Busier by day than by night; one short spell of throttling in the morning."""
    chance = random.Random(7)  # noqa: S311 - the same picture each time
    for turn in range(int(HOURS * 3600 / EVERY), 1, -1):
        at = now - turn * EVERY
        load = 1 + 0.7 * abs(12 - turn * EVERY / 3600) / 12
        for name in ("media", "thumbnails", "backups", "invoices"):
            throttled = name != "backups" and 900 < turn <= 930
            for operation in Operation:
                took = USUAL[operation] * load * chance.lognormvariate(0, 0.18)
                refused = throttled and chance.random() < 0.4
                yield Check(at, outcome(name, operation, at, took, f"{chance.getrandbits(64):016X}", refused))


def outcome(
    name: str, operation: Operation, at: float, took: float, request_id: str, refused: bool
) -> Outcome:
    phases = {phase: took * share for phase, share in SHARES.items()}
    failure = None
    if refused:
        hint = "The storage asks for fewer requests: lengthen `interval`, or see who else uses the bucket."
        message = "the storage answered 503 SlowDown: Please reduce your request rate."
        failure = Failure(Reason.THROTTLED, message, "SlowDown", hint)
    status = 503 if refused else 204 if operation is Operation.DELETE else 200
    return Outcome(name, operation, at, took, phases, status, request_id, failure)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
