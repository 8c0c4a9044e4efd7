"""GuardedBucket against moto and faults, with the requests counted at the server."""

import io
from collections.abc import Callable

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from exporter.guard import (
    CircuitBreaker,
    CircuitOpenError,
    Counts,
    GuardedBucket,
    Policy,
    State,
    guard_client,
)
from tests.guard.rig import GOOD, NOTHING, RECOVERY, Rig, answers, broken, cut, through_the_bucket


def test_the_operations_of_a_bucket(rig: Rig) -> None:
    bucket = GuardedBucket(rig.client(), rig.outside.name)
    assert bucket.put("report", b"42", ContentType="text/plain")["ETag"]
    assert bucket.put("file", io.BytesIO(b"of a file"))["ETag"]
    assert rig.outside.get("report") == b"42"
    assert bucket.get("file") == b"of a file"
    assert bucket.get("report", Range="bytes=1-1") == b"2"
    head = bucket.head("report")
    assert (head["ContentLength"], head["ContentType"]) == (2, "text/plain")
    assert [(item["Key"], item["Size"]) for item in bucket.list()] == [("file", 9), ("report", 2)]
    assert [item["Key"] for item in bucket.list("rep")] == ["report"]
    bucket.delete("report")
    bucket.delete("report")
    assert rig.outside.keys() == ["file"]
    with pytest.raises(ClientError, match="404"):
        bucket.head("report")

    status = bucket.breaker_status()
    assert (status.state, status.counts) == (State.CLOSED, Counts(calls=rig.requests()))
    assert bucket.breaker.name == bucket.bucket == rig.outside.name


def test_each_page_of_a_listing_is_a_call(rig: Rig) -> None:
    keys = [f"{number:02}" for number in range(7)]
    for key in keys:
        rig.outside.put(key)
    breaker = rig.breaker(failure_threshold=1)
    bucket = rig.bucket(breaker)
    assert [item["Key"] for item in bucket.list(MaxKeys=3)] == keys
    assert [item["Key"] for item in bucket.list(MaxKeys=7)] == keys
    assert [item["Key"] for item in bucket.list(MaxKeys=3, StartAfter="03")] == keys[4:]
    assert list(bucket.list("nothing")) == []
    assert (breaker.status().counts, rig.requests()) == (Counts(calls=6), 6)

    listing = bucket.list(MaxKeys=3)
    assert [next(listing)["Key"] for _ in range(3)] == keys[:3]
    rig.clock.now += 3  # what the caller does between pages is not the storage's time
    rig.front.before = answers(503, "SlowDown")
    with pytest.raises(ClientError, match="SlowDown"):
        next(listing)
    with pytest.raises(CircuitOpenError):
        next(bucket.list())
    assert (breaker.status().counts, rig.requests()) == (Counts(calls=8, failures=1), 8)


def test_a_listing_goes_on_where_another_ended(rig: Rig) -> None:
    for number in range(5):
        rig.outside.put(f"{number}")
    client = rig.client()
    page = client.list_objects_v2(Bucket=rig.outside.name, MaxKeys=1)
    bucket = GuardedBucket(client, rig.outside.name)
    rest = bucket.list(MaxKeys=2, ContinuationToken=page["NextContinuationToken"])
    assert [item["Key"] for item in rest] == list("1234")


def test_every_operation_of_a_bucket_asks_its_breaker(rig: Rig) -> None:
    bucket = GuardedBucket(rig.client(), rig.outside.name, policy=Policy(failure_threshold=5))
    calls: list[Callable[[], object]] = [
        lambda: bucket.put("report", b"42"),
        lambda: bucket.get("report"),
        lambda: bucket.delete("report"),
        lambda: bucket.head("report"),
        lambda: list(bucket.list()),
    ]
    rig.front.before = answers(503, "SlowDown")
    for call in calls:
        with pytest.raises(ClientError):
            call()
    assert bucket.breaker_status().counts == Counts(calls=5, failures=5)
    for call in calls:
        with pytest.raises(CircuitOpenError) as rejected:
            call()
        assert 0 < rejected.value.retry_after <= RECOVERY
    status = bucket.breaker_status()
    assert (status.state, status.rejected, rig.requests()) == (State.OPEN, 5, 5)

    rig.front.before = None
    bucket.reset_breaker()
    assert (bucket.breaker_status().state, bucket.breaker_status().counts) == (State.CLOSED, NOTHING)
    bucket.put("report", b"42")
    assert bucket.get("report") == b"42"


def test_a_body_cut_in_the_middle_keeps_a_trial_from_closing(rig: Rig) -> None:
    breaker, get = broken(rig, through_the_bucket, rig.client())
    rig.front.before = cut
    with pytest.raises(BotoCoreError):
        get("report")
    assert breaker.status().state is State.OPEN


def test_buckets_may_share_a_breaker(rig: Rig) -> None:
    breaker = rig.breaker(failure_threshold=2)
    buckets = [rig.bucket(breaker), rig.bucket(breaker)]
    rig.front.before = answers(500, "InternalError")
    for bucket in buckets:
        with pytest.raises(ClientError):
            bucket.get("report")
    for bucket in buckets:
        with pytest.raises(CircuitOpenError):
            bucket.get("report")
    with pytest.raises(ValueError, match="not both"):
        rig.bucket(breaker, policy=Policy())


def test_a_guarded_client_may_have_any_breaker_but_the_buckets_own(rig: Rig) -> None:
    breaker, another = rig.breaker(), CircuitBreaker("another")
    client = guard_client(rig.client(), breaker)
    with pytest.raises(ValueError, match="each call would count twice"):
        GuardedBucket(client, rig.outside.name, breaker=breaker)
    bucket = GuardedBucket(client, rig.outside.name, breaker=another)
    bucket.put("report", b"42")
    assert breaker.status().counts == another.status().counts == GOOD
