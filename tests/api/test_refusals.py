"""Bad parameters and bodies are answered with their field and what is allowed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.rig import Api, wrong_fields
from tests.running import Running, running, target, write

HISTORY, METRICS = "/api/health/history", "/api/health/metrics"
READS = (HISTORY, METRICS, "/api/health", "/api/health/circuit-breaker", "/api/health/alerts")
TIME = "must be a time in RFC 3339 such as 2026-01-31T12:00:00Z, or in Unix seconds from 0 to 253402300799"
LIMIT = "must be a whole number from 1 to 1000"
OPERATIONS = "put, get, head, list, delete"


@pytest.fixture
async def exporter(config: Path, storage: str) -> AsyncIterator[Running]:
    write(config, target("media", storage, "media"))
    async with running(config) as it:
        yield it


async def test_each_bad_parameter_is_named_with_the_range_that_is_allowed(exporter: Running) -> None:
    api = Api(exporter.url)
    for value in ("0", "1001", "abc", "", "5.0", "1_0", "%205", "99999999999999999999", "NaN"):
        assert await api.refused(f"{HISTORY}?limit={value}") == {"limit": LIMIT}
    expected = "must be a whole number from 0 to 1000000000"
    assert await api.refused(f"{HISTORY}?offset=-1") == {"offset": expected}
    assert await api.refused(f"{METRICS}?hours=0") == {"hours": "must be a whole number from 1 to 87600"}
    assert await api.refused(f"{HISTORY}?operation=copy") == {"operation": f"must be one of {OPERATIONS}"}
    assert await api.refused(f"{HISTORY}?success=1") == {"success": "must be true or false"}
    name = "must be text from 1 to 128 characters long"
    assert await api.refused(f"{HISTORY}?target=") == {"target": name}
    assert await api.refused("/api/health/alerts?resolved=yes") == {"resolved": "must be true or false"}
    several = await api.refused(f"{HISTORY}?limit=0&success=maybe")
    assert several == {"limit": LIMIT, "success": "must be true or false"}


@pytest.mark.parametrize(
    "since",
    ["yesterday", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31T12:00:00", "-1", "1e999", "nan", ""],
)
async def test_what_is_no_time_is_refused(exporter: Running, since: str) -> None:
    assert await Api(exporter.url).refused(f"{HISTORY}?since={since}") == {"since": TIME}


@pytest.mark.parametrize(
    "since",
    [
        "0",
        "1764000000.5",
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00.123456789z",
        "2016-12-31T23:59:60Z",
        "2026-01-31T12:00:00+02:00",
        "2026-01-31T12:00:00%2B02:00",
        "9999-12-31T23:59:59-23:59",
    ],
)
async def test_times_are_taken_as_rfc_3339_and_as_unix_seconds(exporter: Running, since: str) -> None:
    assert (await Api(exporter.url).get(f"{HISTORY}?since={since}"))["items"] == []


@pytest.mark.parametrize("path", READS)
async def test_a_parameter_that_is_unknown_or_given_twice_is_refused(exporter: Running, path: str) -> None:
    api = Api(exporter.url)
    [(field, message)] = (await api.refused(f"{path}?lmit=5")).items()
    assert field == "lmit"
    assert message.startswith("unknown parameter; known here: ")
    assert await api.refused(f"{path}?a=1&a=2") == {"a": "is given more than once"}


async def test_an_unknown_target_is_not_found(exporter: Running) -> None:
    api = Api(exporter.url)
    answers = [
        await api.get("/api/health/circuit-breaker?target=gone", 404),
        await api.check(query="?target=gone", status=404),
        await api.check({"target": "gone"}, status=404),
    ]
    assert [each["error"]["code"] for each in answers] == ["unknown_target"] * 3


async def test_a_bad_body_is_refused_field_by_field(exporter: Running) -> None:
    api = Api(exporter.url)
    operations = f"must be a list from 1 to 5 long, without repetition, of one of {OPERATIONS}"
    bad = {
        "operations": ({"operations": []}, operations),
        "operations.1": ({"operations": ["put", "copy"]}, f"must be one of {OPERATIONS}"),
        "target": ({"target": 7}, "must be text from 1 to 128 characters long"),
        "force": ({"force": True}, "unknown field; known here: target, operations"),
        "body": ([], "must be an object such as {}"),
    }
    for field, (body, message) in bad.items():
        assert wrong_fields(await api.check(body, status=400)) == {field: message}
    twice = await api.check({"operations": ["put", "put"]}, status=400)
    assert wrong_fields(twice) == {"operations": operations}
