"""Scrapes that come at once share the work, and none gets what is older than its question."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator

import pytest

from exporter.exposition import Registry
from exporter.series import Format
from exporter.web.pages import BATCH_BYTES, Pages


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


async def test_a_page_of_many_batches_is_the_registry_s(registry: Counting, pages: Pages) -> None:
    gauge = registry.gauge("up", "Up.", ("target",))
    for number in range(3 * BATCH_BYTES // 30):
        gauge.labels(f"target-{number}").set(number)
    for fmt in Format:
        expected = b"".join(registry.render(fmt)).decode()
        assert len(expected) > 3 * BATCH_BYTES
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
