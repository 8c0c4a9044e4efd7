"""The operations on a real S3 server, and the promise to leave nothing behind and touch nothing of others."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.outcome import BillingClass, Operation, Outcome, Phase, Reason
from exporter.storage import Reply
from exporter.sweep import LEFTOVER_AGE, SWEEP_PAGES, Sweep
from tests.stores import (
    ALL,
    PREFIX,
    Bucket,
    Front,
    Seen,
    Watched,
    environment,
    front,
    key_at,
    listing,
    moto,
    near_misses,
    s3_error,
    target,
    watched,
)

PUT, GET, HEAD, LIST, DELETE = ALL
OURS = re.compile(r"/media/\.r2-exporter/[a-z0-9-]{1,63}/[0-9]{8}T[0-9]{6}Z-[0-9a-f]{32}", re.ASCII)
LOOK_ALIKES = [
    f"{PREFIX}here/20200101T000000Z-{'0' * 31}",
    f"{PREFIX}here/20200101T000000Z-{'A' * 32}",
    f"{PREFIX}here/20201301T000000Z-{'0' * 32}",
    f"{PREFIX}Here/20200101T000000Z-{'0' * 32}",
    f"{PREFIX}here/20200101T000000Z-{'0' * 32}.bak",
    f"{PREFIX}here/deeper/20200101T000000Z-{'0' * 32}",
    f"{PREFIX}20200101T000000Z-{'0' * 32}",
    f"backup/{PREFIX}here/20200101T000000Z-{'0' * 32}",
    f".r2-exporter-old/here/20200101T000000Z-{'0' * 32}",
    "index.html",
]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with environment(), moto() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(store: str) -> Bucket:
    return Bucket(store)


def key_of(request: Seen) -> str:
    return request.path.partition("?")[0].split("/", 2)[2]


def reasons(outcomes: list[Outcome]) -> dict[Operation, Reason | None]:
    return {outcome.operation: outcome.failure.reason if outcome.failure else None for outcome in outcomes}


# The operations


async def test_the_five_operations_succeed_in_order_and_leave_nothing(store: str, bucket: Bucket) -> None:
    async with front(store) as server, watched(target(server.url, bucket.name)) as probe:
        outcomes = await probe.run()
        assert (
            [outcome.operation for outcome in outcomes]
            == server.operations()
            == [PUT, GET, HEAD, LIST, DELETE]
        )
        assert reasons(outcomes) == dict.fromkeys(ALL)
        assert [outcome.status for outcome in outcomes] == [200, 200, 200, 200, 204]
        assert bucket.keys() == []
    assert probe.cleaned == [], "a run that deleted its object has nothing to clean up"


@pytest.mark.parametrize("size", [1, 1024, 1024 * 1024])
async def test_the_object_has_the_size_that_was_asked_for(store: str, bucket: Bucket, size: int) -> None:
    stored: list[int] = []

    async def look(request: Seen) -> None:
        if request.operation is PUT:
            stored.append(len(bucket.get(key_of(request))))

    async with front(store) as server, watched(target(server.url, bucket.name, object_size=size)) as probe:
        server.after = look
        assert reasons(await probe.run()) == dict.fromkeys(ALL)
    assert stored == [size]
    assert bucket.keys() == []


async def test_every_run_has_its_own_key_and_its_own_bytes(store: str, bucket: Bucket) -> None:
    async with front(store) as server, watched(target(server.url, bucket.name, operations=(PUT,))) as probe:
        for _ in range(5):
            await probe.run()
        puts = [request for request in server.seen if request.operation is PUT]
        assert len({request.path for request in puts}) == len({request.body for request in puts}) == 5
    assert probe.cleaned == [True] * 5
    assert bucket.keys() == []


async def test_without_delete_among_the_operations_the_object_is_removed_all_the_same(
    store: str, bucket: Bucket
) -> None:
    async with watched(target(store, bucket.name, operations=(PUT, GET))) as probe:
        assert reasons(await probe.run()) == {PUT: None, GET: None}
    assert probe.cleaned == [True]
    assert bucket.keys() == []


async def test_read_only_keys_suffice_without_put(store: str, bucket: Bucket) -> None:
    bucket.put("index.html")
    async with (
        front(store) as server,
        watched(target(server.url, bucket.name, operations=(GET, HEAD, LIST))) as probe,
    ):
        outcomes = await probe.run()
        assert reasons(outcomes) == {GET: None, HEAD: None, LIST: None}
        assert [outcome.status for outcome in outcomes] == [404, 404, 200]
    assert server.operations() == [GET, HEAD, LIST]
    assert probe.cleaned == []


async def test_a_run_on_demand_takes_the_operations_and_the_deadline_it_is_given(
    store: str, bucket: Bucket
) -> None:
    async with front(store) as server, watched(target(server.url, bucket.name)) as probe:
        assert reasons(await probe.run(LIST, GET)) == {GET: None, LIST: None}

        async def hold(request: Seen) -> None:
            await asyncio.Event().wait()

        server.after = hold
        assert reasons(await probe.run(HEAD, limit=0.05)) == {HEAD: Reason.TIMEOUT}


async def test_a_missing_bucket_is_not_mistaken_for_a_missing_object(store: str) -> None:
    async with watched(target(store, "no-such-bucket", operations=(GET, LIST))) as probe:
        outcomes = await probe.run()
    assert reasons(outcomes) == {GET: Reason.CLIENT, LIST: Reason.CLIENT}
    assert {outcome.failure.s3_code for outcome in outcomes if outcome.failure} == {"NoSuchBucket"}


async def test_a_head_without_a_body_is_told_by_the_others_that_the_bucket_is_missing(store: str) -> None:
    async with watched(target(store, "no-such-bucket", operations=tuple(ALL))) as probe:
        outcomes = await probe.run()
    assert reasons(outcomes) == dict.fromkeys(ALL, Reason.CLIENT)
    [head] = [outcome.failure for outcome in outcomes if outcome.operation is HEAD]
    assert head is not None
    assert head.s3_code == "NoSuchBucket"
    assert "HEAD" in head.message
    assert "`bucket`" in head.hint


@pytest.mark.parametrize("prefix", ["!_.*'()-/", "a/b/c/", "..a/", "x" * 199 + "/"])
async def test_odd_prefixes(store: str, bucket: Bucket, prefix: str) -> None:
    async with watched(target(store, bucket.name, key_prefix=prefix)) as probe:
        assert reasons(await probe.run()) == dict.fromkeys(ALL)
        bucket.put(leftover := key_at(0, prefix))
        assert bucket.keys() == [leftover]
        assert await probe.probe.sweep() == Sweep(deleted=1, pages=1)
    assert bucket.keys() == []


async def test_two_runs_at_once_do_not_disturb_each_other(store: str, bucket: Bucket) -> None:
    async with front(store) as server, watched(target(server.url, bucket.name)) as probe:
        runs = await asyncio.gather(*(probe.run() for _ in range(10)))
        assert [reasons(outcomes) for outcomes in runs] == [dict.fromkeys(ALL)] * 10
        assert len({request.path for request in server.seen if request.operation is PUT}) == 10
    assert probe.cleaned == []
    assert bucket.keys() == []


async def test_connect_is_measured_at_every_nth_run(store: str, bucket: Bucket) -> None:
    """Also when DELETE is no operation, so that a cleanup is the last request of a run."""
    async with front(store) as server:
        for operations in (ALL, (PUT, GET)):
            async with watched(
                target(server.url, bucket.name, operations=operations, fresh_connection_every=2)
            ) as probe:
                fresh = []
                for done in range(1, 6):
                    outcomes = await probe.run()
                    fresh.append(Phase.CONNECT in outcomes[0].phases)
                    assert all(Phase.CONNECT not in outcome.phases for outcome in outcomes[1:])
                    while len(probe.cleaned) < done and DELETE not in operations:
                        await asyncio.sleep(0)
            assert fresh == [True, False, True, False, True]


# Content


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"x" * 1024, {GET: Reason.INTEGRITY, HEAD: Reason.INTEGRITY}),
        (b"short", {GET: Reason.INTEGRITY, HEAD: Reason.INTEGRITY}),
        (b"", {GET: Reason.INTEGRITY, HEAD: Reason.INTEGRITY}),
        (b"x" * (2 << 20), {GET: Reason.INTEGRITY, HEAD: Reason.INTEGRITY}),
    ],
)
async def test_bytes_that_are_not_those_written_are_an_integrity_failure(
    store: str, bucket: Bucket, body: bytes, expected: dict[Operation, Reason]
) -> None:
    async def overwrite(request: Seen) -> None:
        if request.operation is PUT:
            bucket.put(key_of(request), body)

    async with front(store) as server, watched(target(server.url, bucket.name)) as probe:
        server.after = overwrite
        assert reasons(await probe.run()) == dict.fromkeys(ALL) | expected
    assert bucket.keys() == []


async def test_an_object_that_got_lost_is_an_integrity_failure(store: str, bucket: Bucket) -> None:
    async def lose(request: Seen) -> None:
        if request.operation is PUT:
            bucket.delete(key_of(request))

    async with front(store) as server, watched(target(server.url, bucket.name)) as probe:
        server.after = lose
        outcomes = await probe.run()
    lost = dict.fromkeys([GET, HEAD, LIST], Reason.INTEGRITY)
    assert reasons(outcomes) == dict.fromkeys(ALL) | lost
    assert outcomes[1].failure
    assert outcomes[1].failure.s3_code == "NoSuchKey"


async def test_after_a_failed_put_a_missing_object_is_no_failure(store: str, bucket: Bucket) -> None:
    async def refuse_put(request: Seen) -> web.Response | None:
        return s3_error(500, "InternalError") if request.operation is PUT else None

    async with front(store) as server, watched(target(server.url, bucket.name)) as probe:
        server.before = refuse_put
        outcomes = await probe.run()
    assert reasons(outcomes) == dict.fromkeys(ALL) | {PUT: Reason.SERVER}
    assert [outcome.status for outcome in outcomes] == [500, 404, 404, 200, 204]


async def test_after_a_failed_put_an_object_that_is_there_must_be_the_one_that_was_sent(
    store: str, bucket: Bucket
) -> None:
    async def store_something(request: Seen) -> web.Response | None:
        if request.operation is not PUT:
            return None
        bucket.put(key_of(request), stored or request.body)
        return s3_error(500, "InternalError")

    async with front(store) as server, watched(target(server.url, bucket.name)) as probe:
        server.before = store_something
        stored = b""
        assert reasons(await probe.run()) == dict.fromkeys(ALL) | {PUT: Reason.SERVER}
        stored = b"x" * 1024
        wrong = {PUT: Reason.SERVER, GET: Reason.INTEGRITY}
        assert reasons(await probe.run()) == dict.fromkeys(ALL) | wrong
    assert bucket.keys() == []


# One request for each operation


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (503, "SlowDown"), (403, "AccessDenied")]
)
async def test_a_refused_request_is_not_tried_again(status: int, code: str) -> None:
    async def refuse(request: Seen) -> web.Response:
        return s3_error(status, code)

    async with front() as server, watched(target(server.url)) as probe:
        server.before = refuse
        outcomes = await probe.run()
        assert None not in reasons(outcomes).values()
        assert server.operations() == list(ALL)


@pytest.mark.parametrize("operation", ALL)
async def test_a_request_lost_on_its_own_connection_is_not_tried_again(operation: Operation) -> None:
    async def hang_up(request: Seen) -> web.Response | None:
        assert request.connection.transport
        request.connection.transport.close()
        return web.Response()

    async with front() as server:
        server.before = hang_up
        async with watched(target(server.url, operations=(operation,))) as probe:
            assert reasons(await probe.run()) == {operation: Reason.CONNECT}
            assert server.operations() == [operation]
    cleanups = [DELETE] if operation in (PUT, DELETE) and probe.cleaned else []
    assert server.operations() == [operation, *cleanups]


# What is billed


async def test_requests_are_billed_by_their_class(store: str, bucket: Bucket) -> None:
    async with watched(target(store, bucket.name)) as probe:
        billed = {outcome.operation: outcome.billed for outcome in await probe.run()}
    assert billed == {
        PUT: BillingClass.A,
        GET: BillingClass.B,
        HEAD: BillingClass.B,
        LIST: BillingClass.A,
        DELETE: BillingClass.FREE,
    }


async def test_unsent_and_unauthorized_requests_are_not_billed(store: str) -> None:
    async def unauthorized(request: Seen) -> web.Response:
        return s3_error(401, "Unauthorized")

    async with front() as server:
        server.before = unauthorized
        async with watched(target(server.url)) as probe:
            assert {outcome.billed for outcome in await probe.run()} == {None}
    async with watched(target(server.url)) as probe:  # nobody listens there any more
        outcomes = await probe.run()
    assert reasons(outcomes) == dict.fromkeys(ALL, Reason.CONNECT)
    assert {outcome.billed for outcome in outcomes} == {None}


# Leaving nothing behind


@pytest.mark.parametrize("served", [False, True], ids=["as it arrives", "once it is served"])
@pytest.mark.parametrize("at", ALL)
async def test_a_run_cancelled_at_any_request_leaves_nothing(
    store: str, bucket: Bucket, at: Operation, served: bool
) -> None:
    async with front(store) as server, watched(target(server.url, bucket.name)) as probe:
        there_when_cancelled: list[str] = []

        async def cancel(request: Seen) -> web.Response | None:
            if request.operation is at and not run.cancelling():
                run.cancel()
                there_when_cancelled.extend(bucket.keys())
                return web.Response()
            return None

        async def cancel_served(request: Seen) -> None:
            await cancel(request)

        if served:
            server.after = cancel_served
        else:
            server.before = cancel
        run = asyncio.create_task(probe.run())
        with pytest.raises(asyncio.CancelledError):
            await run
        assert bool(there_when_cancelled) is not ((at is PUT and not served) or (at is DELETE and served))
        await probe.probe.close(20.0)
        assert server.operations()[-1] is DELETE
    assert probe.cleaned == [True]
    assert bucket.keys() == []


async def test_a_run_that_breaks_midway_leaves_nothing(store: str, bucket: Bucket) -> None:
    def record(outcome: Outcome, reply: Reply) -> None:
        raise RuntimeError("the history is full")

    async with watched(target(store, bucket.name)) as probe:
        with pytest.raises(RuntimeError, match="the history is full"):
            await probe.probe.run(record)
    assert probe.cleaned == [True]
    assert bucket.keys() == []


async def test_a_put_that_timed_out_but_was_stored_is_removed(store: str, bucket: Bucket) -> None:
    there: list[str] = []

    async def hold_put(request: Seen) -> None:
        if request.operation is PUT:
            there.extend(bucket.keys())
            await asyncio.Event().wait()

    settings_ = target(store, bucket.name, operations=(PUT,))
    async with (
        front(store) as server,
        watched(settings_.model_copy(update={"endpoint": server.url})) as probe,
    ):
        server.after = hold_put
        run = asyncio.create_task(probe.run(limit=2.0))
        assert reasons(await run) == {PUT: Reason.TIMEOUT}
        assert len(there) == 1
    assert probe.cleaned == [True]
    assert bucket.keys() == []


async def test_a_delete_that_failed_is_made_up_for(store: str, bucket: Bucket) -> None:
    async def refuse_first(request: Seen) -> web.Response | None:
        deletes = [seen for seen in server.seen if seen.operation is DELETE]
        return s3_error(503, "SlowDown") if deletes == [request] else None

    async with front(store) as server, watched(target(server.url, bucket.name)) as probe:
        server.before = refuse_first
        assert reasons(await probe.run()) == dict.fromkeys(ALL) | {DELETE: Reason.THROTTLED}
    assert probe.cleaned == [True]
    assert bucket.keys() == []


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket"), (307, "Redirect")]
)
async def test_a_put_that_was_refused_outright_needs_no_cleanup(status: int, code: str) -> None:
    async def refuse(request: Seen) -> web.Response:
        return s3_error(status, code)

    async with front() as server, watched(target(server.url, operations=(PUT,))) as probe:
        server.before = refuse
        await probe.run()
        await probe.probe.close(20.0)
        assert server.operations() == [PUT]
    assert probe.cleaned == []


async def test_a_put_that_was_never_sent_needs_no_cleanup() -> None:
    async with front() as server:
        nobody_there = server.url
    async with watched(target(nobody_there, operations=(PUT,))) as probe:
        assert reasons(await probe.run()) == {PUT: Reason.CONNECT}
    assert probe.cleaned == []


async def test_a_put_lost_with_a_kept_connection_may_be_stored() -> None:
    """Its second sending found nobody listening, but the first one may have been served."""

    async def serve_once_then_vanish(request: Seen) -> web.Response:
        if server.operations().count(PUT) == 2:
            assert server.stop_listening
            assert request.connection.transport
            await server.stop_listening()
            request.connection.transport.close()
        return web.Response(status=200)

    async with front() as server, watched(target(server.url, operations=(PUT, DELETE))) as probe:
        server.before = serve_once_then_vanish
        assert reasons(await probe.run()) == {PUT: None, DELETE: None}
        [put] = await probe.run(PUT)
        assert put.reconnected
        assert put.failure
        assert put.failure.reason is Reason.CONNECT
        await probe.probe.close(20.0)
        assert probe.cleaned == [False], "the cleanup was tried, and could not reach the server either"


async def test_closing_waits_for_cleanups_no_longer_than_its_grace() -> None:
    async def hold_deletes(request: Seen) -> web.Response:
        if request.operation is DELETE:
            await asyncio.Event().wait()
        return web.Response()

    async with front() as server, watched(target(server.url, operations=(PUT,), timeout=300)) as probe:
        server.before = hold_deletes
        assert reasons(await probe.run()) == {PUT: None}
        while DELETE not in server.operations():
            await asyncio.sleep(0)
        async with asyncio.timeout(60):  # well below the 300 s that the DELETE itself could take
            await probe.probe.close(0.05)
        assert probe.cleaned == [False]


# Sweeping


async def test_a_sweep_removes_our_old_keys_and_no_others(store: str, bucket: Bucket) -> None:
    now = time.time()
    old = [key_at(now - LEFTOVER_AGE - 1), key_at(0), key_at(now - 86_400, instance="another")]
    young = [key_at(now), key_at(now - LEFTOVER_AGE + 600), key_at(now + 86_400)]
    elsewhere = [key_at(0, "other/"), key_at(0, "")]
    for key in [*old, *young, *elsewhere, *LOOK_ALIKES]:
        bucket.put(key)
    async with watched(target(store, bucket.name)) as probe:
        assert await probe.probe.sweep() == Sweep(deleted=3, pages=1)
        assert await probe.probe.sweep() == Sweep(deleted=0, pages=1)
        assert reasons(await probe.run()) == dict.fromkeys(ALL)
    assert sorted(bucket.keys()) == sorted([*young, *elsewhere, *LOOK_ALIKES])


@pytest.mark.parametrize("odd", ["\x01\x1f", "a b+c", "%2e%41", "\u00e9\uffff", "]]><&"])
async def test_a_sweep_passes_over_keys_that_xml_cannot_hold(store: str, bucket: Bucket, odd: str) -> None:
    bucket.put(PREFIX + odd)
    bucket.put(key_at(0))
    async with watched(target(store, bucket.name)) as probe:
        assert await probe.probe.sweep() == Sweep(deleted=1, pages=1)
    assert bucket.keys() == [PREFIX + odd]


async def test_a_sweep_goes_on_to_the_next_page(store: str, bucket: Bucket) -> None:
    foreign = [f"{PREFIX}a-thousand-others/{number:04}" for number in range(1005)]
    old = [key_at(0, instance="z") for _ in range(5)]
    async with aiohttp.ClientSession() as http:

        async def put(key: str) -> None:
            async with http.put(f"{store}/{bucket.name}/{key}", data=b"x") as answer:
                assert answer.status == 200

        await asyncio.gather(*(put(key) for key in [*foreign, *old]))
    async with watched(target(store, bucket.name)) as probe:
        assert await probe.probe.sweep() == Sweep(deleted=5, pages=2)
    assert bucket.keys() == foreign


@pytest.mark.parametrize(
    ("at", "answer", "expected"),
    [
        (LIST, lambda: s3_error(503, "SlowDown"), (0, Reason.THROTTLED)),
        (LIST, lambda: web.Response(text="<html>hello</html>"), (0, Reason.INTEGRITY)),
        (LIST, lambda: web.Response(text="<ListBucketResult><Contents><Key>.r2"), (0, Reason.INTEGRITY)),
        (DELETE, lambda: s3_error(403, "AccessDenied"), (1, Reason.AUTH)),
    ],
)
async def test_a_sweep_says_why_it_ended_early(
    at: Operation, answer: Callable[[], web.Response], expected: tuple[int, Reason]
) -> None:
    async def serve(request: Seen) -> web.Response:
        first_delete = request.operation is DELETE and server.operations().count(DELETE) == 1
        if request.operation is at and not first_delete:
            return answer()
        return listing([key_at(0), key_at(0), key_at(0)]) if request.operation is LIST else web.Response()

    async with front() as server, watched(target(server.url)) as probe:
        server.before = serve
        swept = await probe.probe.sweep()
    assert swept.failure
    assert (swept.deleted, swept.failure.reason) == expected
    assert server.operations().count(LIST) == 1


async def test_a_sweep_ends_although_the_listing_does_not() -> None:
    async def endless(request: Seen) -> web.Response:
        return listing([], next_token="once more")

    async with front() as server, watched(target(server.url)) as probe:
        server.before = endless
        assert await probe.probe.sweep() == Sweep(deleted=0, pages=SWEEP_PAGES)
        assert server.operations() == [LIST] * SWEEP_PAGES


# Deleting nothing of others, whatever a server says

moments = st.floats(0, 2e9)
listed_keys = st.lists(
    st.one_of(
        near_misses(),
        moments.map(key_at),
        st.text(
            st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
        ),
        st.sampled_from(LOOK_ALIKES),
        st.text(max_size=5).map(lambda text: PREFIX + "".join(c for c in text if c.isprintable())),
    ),
    max_size=30,
)
answers = st.sampled_from([200, 204, 403, 404, 500, 503])
steps = st.lists(
    st.tuples(st.sampled_from(["run", "cancel", "sweep"]), st.integers(0, 60), listed_keys),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40)
@given(steps=steps, statuses=st.lists(answers, min_size=1, max_size=10), more=st.booleans())
async def test_no_delete_ever_names_a_key_outside_our_pattern(
    steps: list[tuple[str, int, list[str]]], statuses: list[int], more: bool
) -> None:
    async def answer(request: Seen) -> web.Response:
        if request.operation is LIST:
            return listing(listed, "more" if more else None)
        status = statuses[len(server.seen) % len(statuses)]
        return s3_error(status, "Anything") if status >= 300 else web.Response(status=status)

    async with front() as server, watched(target(server.url)) as probe:
        server.before = answer
        for step, turns, keys in steps:
            listed = keys
            await take(probe, step, turns, server)
        await probe.probe.close(20.0)
        written = {request.path for request in server.seen if request.operation is PUT}
        old = {f"/media/{key}" for _, _, keys in steps for key in keys}
        for request in server.seen:
            if request.method == "DELETE":
                assert OURS.fullmatch(request.path)
                assert request.path in written | old


async def take(probe: Watched, step: str, turns: int, server: Front) -> None:
    if step == "sweep":
        await probe.probe.sweep()
        return
    run = asyncio.create_task(probe.run())
    if step == "cancel":
        before = server.operations().count(PUT)
        while server.operations().count(PUT) == before:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        run.cancel()
    with suppress(asyncio.CancelledError):
        await run
