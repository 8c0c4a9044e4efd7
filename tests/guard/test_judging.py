"""Which calls count for or against the storage, which do neither, and that these cost no permit."""

import asyncio
import io
import socket
from contextlib import suppress
from xml.etree.ElementTree import ParseError

import boto3
import pytest
from aiohttp import web
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
)

from exporter.guard import Counts, GuardedBucket, State, guard_client
from tests.guard.rig import (
    BAD,
    FAULTS_OF_THE_STORAGE,
    GOOD,
    IMPATIENT,
    NO_ANSWER,
    REFUSALS,
    Rig,
    Way,
    answers,
    both_ways,
    broken,
    garble,
    through_the_client,
)
from tests.stores import Before, Seen, s3_error

# --- what counts ---


@pytest.mark.parametrize(
    "fault", [*FAULTS_OF_THE_STORAGE.values(), garble], ids=[*FAULTS_OF_THE_STORAGE, "garbled"]
)
def test_a_fault_of_the_storage_counts_for_a_client(rig: Rig, fault: Before) -> None:
    breaker = rig.breaker()
    client = guard_client(rig.client(), breaker)
    rig.front.before = fault
    with pytest.raises(NO_ANSWER):
        client.list_objects_v2(Bucket=rig.outside.name)
    assert (breaker.status().counts, rig.requests()) == (BAD, 1)


@pytest.mark.parametrize("fault", FAULTS_OF_THE_STORAGE.values(), ids=FAULTS_OF_THE_STORAGE)
def test_a_fault_of_the_storage_counts_for_a_bucket(rig: Rig, fault: Before) -> None:
    breaker = rig.breaker()
    bucket = rig.bucket(breaker)
    rig.front.before = fault
    with pytest.raises(NO_ANSWER):
        bucket.get("report")
    assert (breaker.status().counts, rig.requests()) == (BAD, 1)


@pytest.mark.parametrize("fault", IMPATIENT.values(), ids=IMPATIENT)
def test_a_timeout_counts(rig: Rig, fault: Before) -> None:
    breaker = rig.breaker()
    client = rig.client(read_timeout=0.2)
    bucket = GuardedBucket(client, rig.outside.name, breaker=breaker)
    rig.front.before = fault
    with pytest.raises(BotoCoreError, match=r"(?i)timed? ?out"):
        bucket.get("report")
    assert breaker.status().counts == BAD
    guard_client(client, breaker)
    with pytest.raises(BotoCoreError, match=r"(?i)timed? ?out"):
        client.list_objects_v2(Bucket=rig.outside.name)
    assert (breaker.status().counts, rig.requests()) == (Counts(calls=2, failures=2), 2)


@both_ways
def test_a_refused_connection_counts(rig: Rig, way: Way) -> None:
    breaker = rig.breaker()
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        get = way(rig.client(f"http://127.0.0.1:{bound.getsockname()[1]}"), rig.outside.name, breaker)
        with pytest.raises(BotoCoreError, match="Could not connect"):
            get("report")
    assert breaker.status().counts == BAD


@both_ways
@pytest.mark.parametrize(("status", "code"), REFUSALS)
def test_a_refusal_is_the_callers(rig: Rig, way: Way, status: int, code: str) -> None:
    breaker = rig.breaker(failure_threshold=1)
    get = way(rig.client(), rig.outside.name, breaker)
    rig.front.before = answers(status, code)
    with pytest.raises(ClientError, match=str(status) if status == 304 else code):
        get("report")
    assert (breaker.status().counts, rig.requests()) == (GOOD, 1)


@both_ways
def test_what_is_not_there_stays_the_error_of_boto3(rig: Rig, way: Way) -> None:
    breaker = rig.breaker(failure_threshold=1)
    client = rig.client()
    get = way(client, rig.outside.name, breaker)
    with pytest.raises(client.exceptions.NoSuchKey):
        get("nothing")
    nowhere = GuardedBucket(rig.client(), "no-such-bucket", breaker=breaker)
    with pytest.raises(client.exceptions.NoSuchBucket):
        nowhere.get("nothing")
    assert (breaker.status().counts, rig.requests()) == (Counts(calls=2), 2)


def test_an_error_in_an_answer_of_200_counts(rig: Rig) -> None:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html: "the error ... in a 200 OK"
    breaker = rig.breaker()
    client = guard_client(rig.client(), breaker)
    rig.front.before = answers(200, "InternalError")
    with pytest.raises(ClientError, match="InternalError"):
        client.copy_object(Bucket=rig.outside.name, Key="copy", CopySource="elsewhere/report")
    assert breaker.status().counts == BAD


def test_an_answer_that_is_no_xml_counts(rig: Rig) -> None:
    breaker = rig.breaker()
    client = guard_client(rig.client(), breaker)
    rig.front.before = garble
    with pytest.raises(NO_ANSWER):
        client.list_objects_v2(Bucket=rig.outside.name)
    assert breaker.status().counts == BAD


def test_an_answer_that_botocore_chokes_on_after_the_call_counts(rig: Rig) -> None:
    # Its own handler of this operation parses the answer in the event after the call.
    breaker = rig.breaker()
    client = guard_client(rig.client(), breaker)
    rig.front.before = garble
    with pytest.raises(ParseError):
        client.get_bucket_location(Bucket=rig.outside.name)
    assert breaker.status().counts == BAD


@pytest.mark.parametrize("event", ["after-call", "after-call.s3", "after-call.s3.ListObjectsV2"])
def test_a_call_counts_before_the_application_hears_of_its_end(rig: Rig, event: str) -> None:
    def refuse(**_: object) -> None:
        raise LookupError

    client, breaker = rig.client(), rig.breaker()
    client.meta.events.register(event, refuse)
    guard_client(client, breaker)
    with pytest.raises(LookupError):
        client.list_objects_v2(Bucket=rig.outside.name)
    assert breaker.status().counts == GOOD


def test_content_with_a_wrong_checksum_counts(rig: Rig) -> None:
    async def flip(request: Seen) -> web.Response:
        return web.Response(body=b"43", headers={"x-amz-checksum-crc32": "AAAAAA=="})

    breaker = rig.breaker()
    bucket = rig.bucket(breaker)
    rig.front.before = flip
    with pytest.raises(FlexibleChecksumError):
        bucket.get("report")
    assert breaker.status().counts == BAD


@both_ways
def test_a_slow_answer_counts_as_slow(rig: Rig, way: Way) -> None:
    async def take_three_seconds(request: Seen) -> None:
        rig.clock.now += 3

    rig.outside.put("report", b"42")
    breaker = rig.breaker(slow_call_rate_threshold=0.5, minimum_calls=2)
    get = way(rig.client(), rig.outside.name, breaker)
    assert get("report") == b"42"
    rig.front.after = take_three_seconds
    assert get("report") == b"42"
    status = breaker.status()
    assert (status.state, status.counts) == (State.OPEN, Counts(calls=2, slow_calls=1))
    assert status.mean_duration == pytest.approx(1.5)


@both_ways
def test_retries_of_botocore_are_one_call(rig: Rig, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail_twice(request: Seen) -> web.Response | None:
        return s3_error(503, "SlowDown") if rig.requests() <= 5 else None

    monkeypatch.setattr("time.sleep", lambda _: None)  # its pauses between tries
    rig.outside.put("report", b"42")
    breaker = rig.breaker()
    client = rig.client(retries={"total_max_attempts": 3, "mode": "standard"})
    get = way(client, rig.outside.name, breaker)
    rig.front.before = fail_twice
    with pytest.raises(ClientError, match="SlowDown"):
        get("report")
    assert (breaker.status().counts, rig.requests()) == (BAD, 3)
    assert get("report") == b"42"
    assert (breaker.status().counts, rig.requests()) == (Counts(calls=2, failures=1), 6)


# --- calls that say nothing of the storage ---


@both_ways
def test_wrong_parameters_cost_no_permit(rig: Rig, way: Way) -> None:
    breaker, get = broken(rig, way, rig.client())
    before = breaker.status().counts
    for _ in range(3):
        with pytest.raises(ParamValidationError):
            get("")
    assert (breaker.status().counts, rig.requests()) == (before, 1)
    assert get("report") == b"42"
    assert breaker.status().state is State.CLOSED


@both_ways
def test_missing_credentials_cost_no_permit(rig: Rig, way: Way) -> None:
    breaker, get = broken(rig, way, rig.client())
    before = breaker.status().counts
    poor = boto3.client("s3", endpoint_url=rig.front.url, region_name="us-east-1")
    rig.clients.append(poor)
    get_unsigned = way(poor, rig.outside.name, breaker)
    for _ in range(3):
        with pytest.raises(NoCredentialsError):
            get_unsigned("report")
        assert breaker.status().state is State.HALF_OPEN
    assert (breaker.status().counts, rig.requests()) == (before, 1)
    assert get("report") == b"42"
    assert breaker.status().state is State.CLOSED


@both_ways
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interrupted_call_costs_no_permit(rig: Rig, way: Way, interruption: type[BaseException]) -> None:
    interrupted = []

    def interrupt(**_: object) -> None:
        interrupted.append(breaker.status().state)
        raise interruption

    client = rig.client()
    breaker, get = broken(rig, way, client)
    before = breaker.status().counts
    client.meta.events.register("before-send.s3", interrupt)
    for _ in range(3):
        # pytest.raises would hold the traceback, and with it the call's frames.
        with suppress(interruption):
            get("report")
    client.meta.events.unregister("before-send.s3", interrupt)
    # Each of them had the one permit, so each gave it back.
    assert interrupted == [State.HALF_OPEN] * 3
    assert (breaker.status().counts, rig.requests()) == (before, 1)
    assert get("report") == b"42"
    assert breaker.status().state is State.CLOSED


@both_ways
def test_a_handler_of_the_application_that_raises_costs_no_permit(rig: Rig, way: Way) -> None:
    def refuse(**_: object) -> None:
        raise LookupError

    client = rig.client()
    breaker, get = broken(rig, way, client)
    for event in ("before-parameter-build.s3", "before-call.s3", "before-sign.s3", "before-send.s3"):
        client.meta.events.register(event, refuse)
        with pytest.raises((LookupError, BotoCoreError)):
            get("report")
        client.meta.events.unregister(event, refuse)
    assert rig.requests() == 1
    assert get("report") == b"42"
    assert breaker.status().state is State.CLOSED


@both_ways
@pytest.mark.parametrize("wrong", [{"Range": "bytes=\n"}, {"IfMatch": "a\nb"}])
def test_a_header_that_cannot_be_sent_is_the_callers(rig: Rig, way: Way, wrong: dict[str, str]) -> None:
    breaker, client = rig.breaker(failure_threshold=1), rig.client()
    if way is through_the_client:
        guard_client(client, breaker)
        with pytest.raises(HTTPClientError):
            client.get_object(Bucket=rig.outside.name, Key="report", **wrong)
    else:
        with pytest.raises(HTTPClientError):
            GuardedBucket(client, rig.outside.name, breaker=breaker).get("report", **wrong)
    assert (breaker.status().counts, rig.requests()) == (Counts(), 0)


class Unreadable(io.BytesIO):
    """A body that fails on its way out."""

    def read(self, _size: int | None = -1, /) -> bytes:
        raise ZeroDivisionError


def test_a_body_that_cannot_be_read_costs_no_permit_even_if_its_error_is_kept(rig: Rig) -> None:
    client, kept = rig.client(), list[Exception]()
    breaker, get = broken(rig, through_the_client, client)
    for _ in range(3):
        try:
            client.put_object(Bucket=rig.outside.name, Key="report", Body=Unreadable(b"42"))
        except (ZeroDivisionError, HTTPClientError) as error:
            kept.append(error)
    assert len(kept) == 3
    assert get("report") == b"42"
    assert breaker.status().state is State.CLOSED
