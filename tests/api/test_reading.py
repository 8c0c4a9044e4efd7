"""What the reading endpoints say of checks that were made, each answer checked against the document."""

import time
from pathlib import Path

from tests.api.rig import Api, execute
from tests.running import new_bucket, running, target, write

OPERATIONS = ["put", "get", "delete"]
HISTORY = "/api/health/history"
ALERT = (
    "INSERT INTO service_alerts (target, type, severity, message, created_at, updated_at, resolved_at) "
    "VALUES (?, 'high_error_rate', 'HIGH', 'half of all fails', ?, ?, ?)"
)


async def test_an_immediate_check_answers_its_results(config: Path, storage: str) -> None:
    write(config, *(target(name, storage, new_bucket(storage)) for name in ("a", "b")))
    async with running(config) as exporter:
        api = Api(exporter.url)
        whole = await api.check()
        one = await api.check({"target": "b", "operations": ["list", "put"]})
        by_query = await api.check(query="?target=a")
        by_both = await api.check({"target": "b"}, "?target=a")
    assert whole["success"]
    assert [each["target"] for each in whole["results"]] == ["a", "b"]
    for result in whole["results"]:
        assert [each["operation"] for each in result["operations"]] == OPERATIONS
        assert all(each["duration"] > 0 and each["phases"] for each in result["operations"])
    [result] = one["results"]
    assert [each["operation"] for each in result["operations"]] == ["put", "list"]
    assert [each["target"] for each in by_query["results"]] == ["a"]
    assert [each["target"] for each in by_both["results"]] == ["b"]


async def test_what_an_open_breaker_refuses_is_answered_as_skipped(config: Path, failing: str) -> None:
    write(config, target("media", failing, "media", breaker={"failure_threshold": 1}))
    async with running(config) as exporter:
        answer = await Api(exporter.url).check({"target": "media"})
    assert not answer["success"]
    [result] = answer["results"]
    found = [(each["operation"], each["result"], each["reason"]) for each in result["operations"]]
    skipped = [(each, "skipped", "circuit_open") for each in ("get", "delete")]
    assert found == [("put", "failure", "server"), *skipped]


async def test_the_history_is_read_page_by_page_and_by_filter(config: Path, storage: str) -> None:
    write(config, *(target(name, storage, new_bucket(storage)) for name in ("a", "ü & b")))
    async with running(config) as exporter:
        api = Api(exporter.url)
        for _ in range(2):
            await api.check()
        seen, path = [], f"{HISTORY}?limit=5&success=true"
        while path:
            page = await api.get(path)
            assert page["total"] == 12
            seen += page["items"]
            path = page["next"]
        assert len({each["id"] for each in seen}) == 12
        assert [each["checkedAt"] for each in seen] == sorted((e["checkedAt"] for e in seen), reverse=True)
        page = await api.get(f"{HISTORY}?target=%C3%BC%20%26%20b&operation=get&limit=1")
        assert page["total"] == 2
        rest = await api.get(page["next"])
        assert (rest["next"], rest["items"][0]["target"]) == (None, "ü & b")
        later = (await api.get(f"{HISTORY}?since={time.time() + 3600}"))["total"]
        failed = (await api.get(f"{HISTORY}?success=false"))["total"]
        assert (later, failed, (await api.get(f"{HISTORY}?target=gone"))["total"]) == (0, 0, 0)


async def test_metrics_sum_up_by_target_and_operation(config: Path, failing: str, storage: str) -> None:
    broken = target("broken", failing, "media", breaker={"failure_threshold": 1})
    write(config, broken, target("fine", storage, new_bucket(storage)))
    async with running(config) as exporter:
        api = Api(exporter.url)
        assert (await api.get("/api/health/metrics"))["items"] == []
        for _ in range(2):
            await api.check()
        metrics = await api.get("/api/health/metrics?hours=720")
        only = await api.get("/api/health/metrics?target=fine")
    found = {(each["target"], each["operation"]): each for each in metrics["items"]}
    assert set(found) == {(name, each) for name in ("broken", "fine") for each in OPERATIONS}
    assert {each["target"] for each in only["items"]} == {"fine"}
    put = found["broken", "put"]
    assert (put["checks"], put["skipped"], put["errorRate"], put["availability"]) == (1, 1, 1.0, 0.0)
    assert put["reasons"] == {"server": 1}
    unsent = found["broken", "get"]
    assert (unsent["checks"], unsent["p99"], unsent["errorRate"]) == (0, None, None)
    fine = found["fine", "get"]
    assert 0 < fine["p50"] <= fine["p95"] <= fine["p99"] <= fine["max"]
    assert fine["mean"] <= fine["max"]


async def test_breakers_are_shown_with_what_they_did(config: Path, failing: str) -> None:
    settings = {"failure_threshold": 1, "recovery_timeout": "1h"}
    write(config, target("a", failing, "media", breaker=settings), target("b", failing, "media"))
    async with running(config) as exporter:
        api = Api(exporter.url)
        before = await api.get("/api/health/circuit-breaker?target=a")
        await api.check({"target": "a"})
        both = await api.get("/api/health/circuit-breaker")
        other = await api.get("/api/health/circuit-breaker?target=b")
    [fresh] = before["items"]
    assert (fresh["state"], fresh["failureRatio"], fresh["averageResponseTime"]) == ("closed", None, None)
    assert before["events"] == other["events"] == []
    opened, closed = both["items"]
    assert (opened["state"], closed["state"]) == ("open", "closed")
    assert 3_590_000 < opened["retryAfter"] <= 3_600_000
    assert opened["failures"] == 1
    assert opened["lastTransition"]["cause"] == "failure_threshold"
    [event] = both["events"]
    assert (event["target"], event["operation"], event["toState"]) == ("a", "put", "open")


async def test_alerts_are_the_open_ones_unless_all_are_asked_for(config: Path, storage: str) -> None:
    write(config, target("media", storage, "media"))
    async with running(config) as exporter:
        api = Api(exporter.url)
        assert await api.get("/api/health/alerts") == {
            "items": [],
            "total": 0,
            "limit": 50,
            "offset": 0,
            "next": None,
        }
        execute(config, ALERT, "media", 1_000.0, 1_000.0, None)
        execute(config, ALERT, "other", 2_000.0, 2_500.0, 2_500.0)
        opened = await api.get("/api/health/alerts")
        whole = await api.get("/api/health/alerts?resolved=true")
        paged = await api.get("/api/health/alerts?resolved=true&limit=1")
        rest = await api.get(paged["next"])
        none = await api.get("/api/health/alerts?target=other")
    assert [(each["target"], each["severity"]) for each in opened["items"]] == [("media", "HIGH")]
    assert opened["items"][0]["createdAt"] == "1970-01-01T00:16:40Z"
    assert [each["target"] for each in whole["items"]] == ["other", "media"]
    assert (paged["total"], none["total"]) == (2, 0)
    assert [each["target"] for each in rest["items"]] == ["media"]


async def test_head_answers_without_a_body(config: Path, storage: str) -> None:
    write(config, target("media", storage, "media"))
    async with running(config) as exporter:
        for path in ("/api/health", HISTORY, "/api/health/metrics", "/api/health/alerts?resolved=true"):
            assert await exporter.ask("HEAD", path) == (200, "")
        assert await exporter.ask("HEAD", f"{HISTORY}?limit=0") == (400, "")
