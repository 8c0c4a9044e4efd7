"""Sweeps where much, or something odd, is in the way of what earlier runs left behind."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from aiohttp import web

from exporter.outcome import Operation, Reason
from exporter.sweep import LEFTOVER_AGE, SWEEP_PAGES, Sweep
from tests.stores import (
    PREFIX,
    Bucket,
    Seen,
    Watched,
    front,
    key_at,
    listing,
    moto,
    s3_error,
    target,
    watched,
)

LIST, DELETE = Operation.LIST, Operation.DELETE
PAGE = 3


@dataclass
class Shelf:
    """Lists a page of a few keys at a time, and refuses to delete some."""

    keys: set[str]
    refused: frozenset[str] = frozenset()
    knows_start_after: bool = True
    date: float | None = None
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: Seen) -> web.Response:
        url = urlsplit(request.path)
        headers = {"Date": formatdate(self.date or time.time(), usegmt=True)}
        if request.operation is DELETE:
            key = unquote(url.path).removeprefix("/media/")
            if key in self.refused:
                return s3_error(403, "AccessDenied")
            self.keys.discard(key)
            return web.Response(status=204, headers=headers)
        query = parse_qs(url.query)
        after = query.get("start-after", [""])[0]
        self.asked.append(after)
        if after and not self.knows_start_after:
            return s3_error(400, "InvalidArgument")
        after = query.get("continuation-token", [after])[0]
        page = sorted(key for key in self.keys if key > after)[: PAGE + 1]
        answer = listing(page[:PAGE], page[PAGE - 1] if len(page) > PAGE else None)
        answer.headers.update(headers)
        return answer


@asynccontextmanager
async def sweeping(shelf: Shelf) -> AsyncIterator[Watched]:
    async with front() as server, watched(target(server.url)) as it:
        server.before = shelf.answer
        yield it


def foreign(number: int) -> set[str]:
    """Keys of others that a listing has before ours."""
    return {f"{PREFIX}a/{each:04}" for each in range(number)}


def old(number: int, instance: str) -> set[str]:
    return {key_at(0, instance=instance) for _ in range(number)}


async def test_a_sweep_begins_where_the_last_one_ended_and_then_at_the_top() -> None:
    others = foreign(SWEEP_PAGES * PAGE)
    shelf = Shelf(others | old(4, "z"))
    async with sweeping(shelf) as it:
        assert await it.probe.sweep() == Sweep(deleted=0, pages=SWEEP_PAGES)
        shelf.keys |= old(2, "0")
        assert await it.probe.sweep() == Sweep(deleted=6, pages=SWEEP_PAGES)
        assert shelf.keys == others
        assert await it.probe.sweep() == Sweep(deleted=0, pages=SWEEP_PAGES)
    begun = [each for each in shelf.asked if each]
    assert len(begun) == 2, "one for each sweep; a token is enough for its further pages"
    assert begun[0] == max(others)


async def test_what_the_storage_refuses_to_delete_keeps_nothing_else() -> None:
    refused = frozenset(old(2, "a"))
    shelf = Shelf({*refused} | old(5, "0") | old(5, "b"), refused)
    async with sweeping(shelf) as it:
        swept = [await it.probe.sweep() for _ in range(3)]
        assert shelf.keys == refused
        assert [each.failure is not None and each.failure.reason for each in swept] == [Reason.AUTH] * 3
        shelf.refused = frozenset()
        for _ in range(2):
            assert (await it.probe.sweep()).failure is None
    assert not shelf.keys


async def test_a_storage_that_cannot_begin_in_the_middle_is_asked_from_the_top() -> None:
    shelf = Shelf(foreign(SWEEP_PAGES * PAGE + 1), knows_start_after=False)
    async with sweeping(shelf) as it:
        await it.probe.sweep()
        refused = await it.probe.sweep()
        assert refused.failure is not None
        assert refused.pages == 1
        shelf.keys |= (mine := old(1, "0"))
        assert await it.probe.sweep() == Sweep(deleted=1, pages=SWEEP_PAGES)
    assert not shelf.keys & mine


@pytest.mark.parametrize("odd", ["a b+c", "]]><&", "a\u00e9/%2e", "x" * 900])
async def test_a_real_storage_begins_after_any_key(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.sweep.SWEEP_PAGES", 1)
    with moto() as store:
        bucket = Bucket(store)
        bucket.put(first := PREFIX + odd)
        bucket.put(key_at(0, instance="zzz"))

        async def first_alone(request: Seen) -> web.Response | None:
            return listed_alone(first)

        async with front(store) as server, watched(target(server.url, bucket.name)) as it:
            server.before = first_alone
            assert await it.probe.sweep() == Sweep(deleted=0, pages=1)
            server.before = None
            assert await it.probe.sweep() == Sweep(deleted=1, pages=1)
        assert bucket.keys() == [first]


def listed_alone(key: str) -> web.Response:
    """A page with more to come."""
    parts = f"<EncodingType>url</EncodingType><Contents><Key>{quote(key)}</Key></Contents>"
    token = "<NextContinuationToken>more</NextContinuationToken>"
    return web.Response(text=f"<ListBucketResult>{parts}{token}</ListBucketResult>")


@pytest.mark.parametrize("hours", [-1000, -2, 2, 1000])
async def test_nothing_is_taken_that_is_young_by_the_clock_of_the_storage_or_by_ours(hours: int) -> None:
    """It may be another exporter's, whose clock is right."""
    now = time.time()
    young = {key_at(min(now, now + hours * 3600) - age) for age in (0, LEFTOVER_AGE - 60)}
    shelf = Shelf(young | old(1, "a"), date=now + hours * 3600)
    async with sweeping(shelf) as it:
        assert await it.probe.sweep() == Sweep(deleted=1, pages=1)
    assert shelf.keys == young


async def test_a_storage_that_deletes_slowly_holds_up_no_sweep_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each takes so long at most, and the next one does what was left."""
    monkeypatch.setattr("exporter.sweep.SWEEP_SECONDS", 0.0)
    shelf = Shelf(old(3, "z") | foreign(2 * PAGE))
    async with sweeping(shelf) as it:
        swept = [await it.probe.sweep() for _ in range(5)]
    assert [each.deleted for each in swept] == [0, 0, 1, 1, 1]
    assert {each.pages for each in swept} == {1}
    assert shelf.keys == foreign(2 * PAGE)
