"""Scrapes that come at once share the work, and none gets what is older than its question."""

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.openmetrics import parser

from exporter.exposition import CHUNK_BYTES, Registry
from exporter.series import Exemplar, Format
from exporter.web.pages import Pages

# Not annotated in prometheus_client.
parse_openmetrics: Callable[[str], Iterable[Any]] = parser.text_string_to_metric_families


class Counting(Registry):
    """Counts how often it is rendered."""

    def __init__(self) -> None:
        super().__init__("target")
        self.rendered = 0

    def render(self, fmt: Format, owner: str | None = None) -> Iterator[bytes]:
        self.rendered += 1
        return super().render(fmt, owner)


async def read(pages: Pages, fmt: Format = Format.TEXT) -> str:
    return gzip.decompress(b"".join([chunk async for chunk in pages.read(fmt)])).decode()


@pytest.fixture
def registry() -> Counting:
    return Counting()


@pytest.fixture
async def pages(registry: Counting) -> AsyncIterator[Pages]:
    pages = Pages(registry)
    yield pages
    await pages.close()


async def test_a_page_of_many_chunks_is_the_registry_s(registry: Counting, pages: Pages) -> None:
    gauge = registry.gauge("up", "Up.", ("target",))
    for number in range(3 * CHUNK_BYTES // 30):
        gauge.labels(f"target-{number}").set(number)
    for fmt in Format:
        expected = b"".join(registry.render(fmt)).decode()
        assert len(expected) > 3 * CHUNK_BYTES
        assert await read(pages, fmt) == expected


async def test_those_who_come_at_once_share_one_page(registry: Counting, pages: Pages) -> None:
    registry.gauge("up", "Up.").labels().set(1)
    got = await asyncio.gather(*[read(pages) for _ in range(50)], *[read(pages, Format.OPENMETRICS)])
    assert len(set(got)) == 2
    assert registry.rendered == 2


async def test_who_comes_while_a_page_is_made_gets_the_next(registry: Counting, pages: Pages) -> None:
    gauge = registry.gauge("up", "Up.", ("target",))
    for number in range(20_000):
        gauge.labels(f"target-{number}").set(0)
    first = asyncio.ensure_future(read(pages))
    while not registry.rendered:
        await asyncio.sleep(0)
    gauge.labels("target-0").set(1)
    late = [asyncio.ensure_future(read(pages)) for _ in range(10)]
    await asyncio.sleep(0)
    assert not first.done()
    assert 'up{target="target-0"} 1.0' in (await late[0]).splitlines()
    assert len({await page for page in late}) == 1
    assert registry.rendered == 2
    assert (await first).count("\n") == 20_002


async def test_what_keeps_a_page_from_being_made_reaches_all_who_wait(
    registry: Counting, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_fmt: Format, _owner: str | None = None) -> Iterator[bytes]:
        yield b"x"
        raise ValueError("no page")

    with monkeypatch.context() as patched:
        patched.setattr(registry, "render", broken)
        got = await asyncio.gather(read(pages), read(pages), return_exceptions=True)
        assert [str(error) for error in got] == ["no page", "no page"]
    assert await read(pages) == ""


async def test_who_goes_away_in_the_middle_costs_the_others_nothing(registry: Counting, pages: Pages) -> None:
    gauge = registry.gauge("up", "Up.", ("target",))
    for number in range(20_000):
        gauge.labels(f"target-{number}").set(0)
    leaving, staying = asyncio.ensure_future(read(pages)), asyncio.ensure_future(read(pages))
    while not registry.rendered:
        await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).count("\n") == 20_002
    assert registry.rendered == 1


async def test_a_page_is_made_while_everything_changes(registry: Counting, pages: Pages) -> None:
    """Each histogram is that of one moment, and no line is torn."""
    duration = registry.histogram("d_seconds", "D.", ("target", "operation"), buckets=(0.1, 1.0))
    errors = registry.counter("e_total", "E.", ("target", "reason"))
    seen = Exemplar({"request_id": "abc"}, 1.0)
    going = True

    async def change() -> None:
        number = 0
        while going:
            for _ in range(200):
                number += 1
                target = f"target-{number % 100}"
                duration.labels(target, f"operation-{number % 7}").observe(number % 3, seen)
                errors.labels(target, f"reason-{number % 11}").inc(exemplar=seen)
                if number % 97 == 0:
                    registry.remove(target)
                if number % 89 == 0:
                    registry.remove(target, operation="operation-3")
            await asyncio.sleep(0)

    changing = asyncio.ensure_future(change())
    for _ in range(12):
        page = await read(pages, Format.OPENMETRICS)
        for family in parse_openmetrics(page):
            counts = {
                s.labels["operation"] + s.labels["target"]: s.value
                for s in family.samples
                if s.name == "d_seconds_count"
            }
            for sample in family.samples:
                if sample.labels.get("le") == "+Inf":
                    assert sample.value == counts[sample.labels["operation"] + sample.labels["target"]]
    going = False
    await changing


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_threads")
def test_no_page_shows_half_an_observation(registry: Counting) -> None:
    edges = tuple(float(edge) for edge in range(1, 40))
    histogram = registry.histogram("d_seconds", "D.", buckets=edges).labels()
    with ThreadPoolExecutor(1) as thread:
        rendering = thread.submit(lambda: [b"".join(registry.render(Format.TEXT)) for _ in range(2000)])
        while not rendering.done():
            histogram.observe(0.0)  # which every bucket counts
    for page in rendering.result():
        counts = {line.rsplit(b" ", 1)[1] for line in page.splitlines() if line.startswith(b"d_seconds_b")}
        assert len(counts) == 1
