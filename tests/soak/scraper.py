"""Scrapes each second as cheaply as it can: who soaks must not take the processor from what is soaked."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp

GROWING = ("_total", "_count", "_bucket", "_sum")


@dataclass
class Scraper:
    """Reads pages as lines of a name with its labels and a value; no counter may go back, none be lost."""

    url: str
    session: aiohttp.ClientSession
    seconds: list[float] = field(default_factory=list)
    lines: int = 0
    _before: dict[str, float] = field(default_factory=dict)

    async def scrape(self, patience: float) -> None:
        began = time.monotonic()
        async with asyncio.timeout(patience), self.session.get(f"{self.url}/metrics") as answer:
            text = await answer.text()
            assert answer.status == 200, text
        self.seconds.append(time.monotonic() - began)
        counters = growing(text)
        fewer = [series for series, value in self._before.items() if counters.get(series, -1.0) < value]
        assert not fewer, fewer[:3]
        self._before = counters
        self.lines = len(counters)


def growing(text: str) -> dict[str, float]:
    """The counters of a page, by name and labels as they stand there."""
    counters = {}
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if series.startswith("r2_") and series.partition("{")[0].endswith(GROWING):
            counters[series] = float(value)
    return counters
