"""guard_client against moto and faults, with the requests counted at the server."""

import io
from collections.abc import Callable

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError, WaiterError
from botocore.stub import Stubber

from exporter.guard import CircuitBreaker, CircuitOpenError, Counts, GuardMetrics, State, guard_client
from tests.guard.rig import GOOD, NOTHING, RECOVERY, Rig, Way, answers, both_ways

# --- opening and recovering ---


@both_ways
def test_it_opens_rejects_without_a_request_and_recovers(rig: Rig, way: Way) -> None:
    rig.outside.put("report", b"42")
    breaker = rig.breaker()
    get = way(rig.client(), rig.outside.name, breaker)
    assert get("report") == b"42"

    rig.front.before = answers(503, "SlowDown")
    for state in (State.CLOSED, State.CLOSED, State.OPEN):
        with pytest.raises(ClientError, match="SlowDown"):
            get("report")
        assert breaker.status().state is state
    assert rig.requests() == 4

    rig.clock.now += RECOVERY - 1
    for _ in range(5):
        with pytest.raises(CircuitOpenError) as rejected:
            get("report")
        assert rejected.value.retry_after == 1
    assert (rig.requests(), breaker.status().rejected) == (4, 5)

    rig.clock.now += 1
    with pytest.raises(ClientError, match="SlowDown"):
        get("report")
    with pytest.raises(CircuitOpenError):
        get("report")
    assert rig.requests() == 5

    rig.front.before = None
    rig.clock.now += RECOVERY
    assert get("report") == b"42"
    assert get("report") == b"42"
    assert (breaker.status().state, rig.requests()) == (State.CLOSED, 7)


def test_an_open_breaker_stops_every_call_of_a_client(rig: Rig) -> None:
    client, name = rig.client(), rig.outside.name
    breaker = rig.breaker()
    assert guard_client(client, breaker) is client
    where = {"Bucket": name, "Key": "report"}
    calls: list[Callable[[], object]] = [
        lambda: client.put_object(**where, Body=b"42"),
        lambda: client.get_object(**where),
        lambda: client.head_object(**where),
        lambda: client.delete_object(**where),
        lambda: client.copy_object(**where, CopySource="elsewhere/report"),
        lambda: client.create_multipart_upload(**where),
        lambda: client.list_objects_v2(Bucket=name),
        client.list_buckets,
        lambda: list(client.get_paginator("list_objects_v2").paginate(Bucket=name)),
        lambda: client.get_waiter("object_exists").wait(**where),
        lambda: client.upload_fileobj(io.BytesIO(b"42"), name, "report"),
        lambda: client.download_fileobj(name, "report", io.BytesIO()),
    ]
    breaker.force_open()
    for call in calls:
        with pytest.raises(CircuitOpenError):
            call()
    assert (rig.requests(), breaker.status().rejected) == (0, len(calls))
    # Signing a URL sends nothing, and so needs no storage.
    assert client.generate_presigned_url("get_object", where).startswith(rig.front.url)

    breaker.reset()
    assert client.list_objects_v2(Bucket=name)["KeyCount"] == 0
    assert rig.requests() == 1


def test_other_clients_of_a_session_stay_as_they_are(rig: Rig) -> None:
    session = boto3.Session("somebody", "somebodys-secret", region_name="us-east-1")
    resource = session.resource("s3", endpoint_url=rig.front.url)
    other = session.client("s3", endpoint_url=rig.front.url)
    rig.clients += [resource.meta.client, other]
    breaker = rig.breaker()
    guard_client(resource.meta.client, breaker)
    breaker.force_open()
    with pytest.raises(CircuitOpenError):
        list(resource.Bucket(rig.outside.name).objects.all())
    assert other.list_objects_v2(Bucket=rig.outside.name)["KeyCount"] == 0


def test_a_client_is_guarded_once(rig: Rig) -> None:
    client, breaker = rig.client(), rig.breaker()
    guard_client(client, breaker)
    for another in (breaker, CircuitBreaker("another")):
        with pytest.raises(ValueError, match="guarded already"):
            guard_client(client, another)
    client.list_objects_v2(Bucket=rig.outside.name)
    assert breaker.status().counts == GOOD


def test_a_client_whose_breaker_is_refused_stays_free(rig: Rig) -> None:
    client, metrics = rig.client(), GuardMetrics(None)
    metrics.watch(CircuitBreaker("media"))
    with pytest.raises(ValueError, match="two circuit breakers are named 'media'"):
        guard_client(client, rig.breaker(), metrics=metrics)
    breaker = CircuitBreaker("another")
    guard_client(client, breaker, metrics=metrics)
    client.list_objects_v2(Bucket=rig.outside.name)
    assert breaker.status().counts == GOOD


# --- what is made of calls ---


def test_each_page_of_a_paginator_is_a_call(rig: Rig) -> None:
    for number in range(5):
        rig.outside.put(f"{number}")
    breaker = rig.breaker()
    client = guard_client(rig.client(), breaker)
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=rig.outside.name, PaginationConfig={"PageSize": 2}
    )
    assert [item["Key"] for page in pages for item in page["Contents"]] == list("01234")
    assert (breaker.status().counts, rig.requests()) == (Counts(calls=3), 3)


def test_each_look_of_a_waiter_is_a_call(rig: Rig) -> None:
    breaker = rig.breaker(failure_threshold=1)
    client = guard_client(rig.client(), breaker)
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        client.get_waiter("object_exists").wait(
            Bucket=rig.outside.name, Key="nothing", WaiterConfig={"Delay": 0, "MaxAttempts": 2}
        )
    assert (breaker.status().counts, rig.requests()) == (Counts(calls=2), 2)


# S3 takes no smaller parts, and the server in front is not meant to be fast.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_transfers_are_made_of_calls(rig: Rig) -> None:
    content = bytes(range(256)) * (6 * 4096)
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    breaker = rig.breaker()
    client = guard_client(rig.client(), breaker)
    client.upload_fileobj(io.BytesIO(content), rig.outside.name, "large", Config=parts)
    assert rig.outside.get("large") == content
    assert [request.method for request in rig.front.seen] == ["POST", "PUT", "PUT", "POST"]
    assert breaker.status().counts == Counts(calls=4)

    received = io.BytesIO()
    client.download_fileobj(rig.outside.name, "large", received)
    assert received.getvalue() == content
    assert rig.requests() > 4
    assert breaker.status().counts == Counts(calls=rig.requests())

    rig.front.before = answers(500, "InternalError")
    for _ in range(3):
        with pytest.raises(ClientError):
            client.upload_fileobj(io.BytesIO(b"42"), rig.outside.name, "small")
    sent = rig.requests()
    with pytest.raises(CircuitOpenError):
        client.upload_fileobj(io.BytesIO(b"42"), rig.outside.name, "small")
    assert rig.requests() == sent


def test_a_stubbed_client_stays_usable(rig: Rig) -> None:
    breaker = rig.breaker()
    client = guard_client(rig.client(), breaker)
    with Stubber(client) as stubber:
        stubber.add_response("list_buckets", {"Buckets": []})
        assert client.list_buckets()["Buckets"] == []
    assert (breaker.status().counts, rig.requests()) == (NOTHING, 0)
