"""A reader of the status page: a browser's page that notes whatever goes wrong in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Request, expect

from tests.running import DEADLINE, Client, target, write

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TOKEN = "token-of-the-page"
HOSTILE = """<script>alert(1)</script>"'&--><img src=x onerror=alert(2)>"""

PATIENCE = DEADLINE * 500
expect.set_options(timeout=PATIENCE)


@dataclass
class Reader:
    """An open page. `trouble` is what the console and the policy had to say, `asked` every request."""

    page: Page
    url: str
    trouble: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def target(self, name: str) -> Locator:
        """A target's row with everything in it."""
        return self.page.locator("details.target").filter(has=self.page.get_by_text(name, exact=True))

    def button(self, words: str, name: str) -> Locator:
        return self.page.get_by_role("button", name=f"{words}: {name}", exact=True)

    async def refresh(self) -> None:
        """As the page does by itself every ten seconds; it is over when this returns."""
        async with self.page.expect_response(lambda answer: "open=" in answer.url):
            await self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    def said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.trouble.append(message.text)

    def sent(self, request: Request) -> None:
        self.asked.append(request.url)


@asynccontextmanager
async def reading(
    browser: Browser, url: str, path: str = "/", *, expected: str = "", **options: Any
) -> AsyncIterator[Reader]:
    """The page in a profile of its own. At the end nothing may have gone wrong but what holds `expected`,
    and nothing may have been asked of anybody else."""
    context = await browser.new_context(**options)
    try:
        page = await context.new_page()
        page.set_default_timeout(PATIENCE)
        reader = Reader(page, url)
        page.on("console", reader.said)
        page.on("pageerror", lambda error: reader.trouble.append(str(error)))
        page.on("request", reader.sent)
        await page.add_init_script(
            "addEventListener('securitypolicyviolation', (v) => console.error('policy', v.violatedDirective))"
        )
        await page.goto(url + path)
        yield reader
        hosts = {urlsplit(asked).netloc for asked in reader.asked}
        assert hosts == {urlsplit(url).netloc}
        assert [each for each in reader.trouble if not expected or expected not in each] == []
    finally:
        await context.close()


def two_targets(config: Path, failing: str, storage: str, bucket: str, **sections: object) -> Path:
    """`media` fails, and its breaker opens for long; `backups` works. Neither is probed but when asked."""
    once = {"failure_threshold": 3, "recovery_timeout": "1d"}
    return write(
        config,
        target("media", failing, "media", breaker=once),
        target("backups", storage, bucket),
        **sections,
    )


async def probe(exporter: Client, *names: str) -> None:
    """One run of each."""
    for name in names:
        assert (await exporter.get(f"/probe?target={name}"))[0] == 200
