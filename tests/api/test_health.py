"""The status of everything, and why; also while the history cannot be read."""

from pathlib import Path
from typing import Any

from aiohttp import web

from tests.api.rig import Api
from tests.running import eventually, new_bucket, running, target, write
from tests.stores import Seen, front, s3_error


async def test_the_status_follows_what_is_known_of_each_target(
    config: Path, storage: str, failing: str
) -> None:
    fine = target("fine", storage, new_bucket(storage))
    broken = target("broken", failing, "media", breaker={"failure_threshold": 1})
    write(config, fine, broken)
    async with running(config) as exporter:
        api = Api(exporter.url)
        unknown = await api.get("/api/health")
        await api.check({"target": "fine"})
        healthy = await api.get("/api/health")
        await api.check({"target": "broken"})
        degraded = await api.get("/api/health")
        write(config, broken)
        await exporter.app.reload()
        unhealthy = await api.get("/api/health")
    statuses = [each["status"] for each in (unknown, healthy, degraded, unhealthy)]
    assert statuses == ["unknown", "healthy", "degraded", "unhealthy"]
    assert "fine: nothing was probed yet" in unknown["reasons"]
    assert "broken: the circuit breaker is open" in degraded["reasons"]
    by_name = {each["target"]: each for each in degraded["targets"]}
    assert (by_name["fine"]["status"], by_name["broken"]["status"]) == ("healthy", "unhealthy")
    assert by_name["broken"]["circuitBreaker"]["state"] == "open"
    assert by_name["fine"]["uptime"] == {"last24h": 1.0, "last30d": 1.0}
    assert by_name["broken"]["uptime"] == {"last24h": 0.0, "last30d": 0.0}
    assert degraded["uptime"]["last24h"] == 0.5
    put = by_name["broken"]["operations"][0]
    assert (put["operation"], put["success"], put["reason"]) == ("put", False, "server")
    assert put["last24h"]["failures"] == 1


async def test_a_target_is_degraded_while_it_is_slow(config: Path, storage: str) -> None:
    bucket = new_bucket(storage)
    write(config, target("media", storage, bucket, alerts={"slow_response_threshold": "1ms"}))
    async with running(config) as exporter:
        api = Api(exporter.url)
        await api.check()
        [media] = (await api.get("/api/health"))["targets"]
    assert media["status"] == "degraded"
    assert [reason.split(":")[0] for reason in media["reasons"]] == [
        "put is slow",
        "get is slow",
        "delete is slow",
    ]


async def test_a_target_is_degraded_by_a_failing_operation_and_by_its_error_rate(
    config: Path, storage: str
) -> None:
    async def refuse_get(seen: Seen) -> web.Response | None:
        return s3_error(503, "SlowDown") if seen.method == "GET" else None

    async with front(storage) as before:
        settings = {"error_rate_threshold": 0.1}
        write(config, target("media", before.url, new_bucket(storage), alerts=settings))
        async with running(config) as exporter:
            api = Api(exporter.url)
            before.before = refuse_get
            await api.check()
            [failing] = (await api.get("/api/health"))["targets"]
            before.before = None
            await api.check()
            [again] = (await api.get("/api/health"))["targets"]
    assert (failing["status"], again["status"]) == ("degraded", "degraded")
    assert failing["reasons"][0].startswith("get failed: throttled, ")
    assert again["reasons"] == ["1 of the last 6 operations failed; 10% is the threshold"]


async def test_a_target_that_is_not_probed_is_unknown(config: Path, storage: str) -> None:
    stopped = {"interval": "1d", "enabled": False}
    write(config, target("media", storage, "media", probe=stopped))
    async with running(config) as exporter:
        answer = await Api(exporter.url).get("/api/health")
    assert (answer["status"], answer["reasons"]) == ("unknown", ["media: probing is stopped"])


async def test_it_answers_without_a_history_and_says_so(tmp_path: Path, storage: str) -> None:
    config = write(tmp_path / "exporter.yaml", target("media", storage, new_bucket(storage)))
    # A folder in the file's place can be neither read nor written.
    config.with_name("r2-exporter.db").mkdir()
    async with running(config) as exporter:
        api = Api(exporter.url)
        await api.check()
        answer: dict[str, Any] = await api.get("/api/health")
        breakers = await api.get("/api/health/circuit-breaker")
        for path in ("history", "metrics", "alerts"):
            refused = await api.get(f"/api/health/{path}", 503)
            assert refused["error"]["code"] == "history_unavailable"
        assert (answer["status"], answer["history"]["status"]) == ("healthy", "unavailable")
        assert any(reason.startswith("the history is unavailable: ") for reason in answer["reasons"])
        assert answer["uptime"] == {"last24h": None, "last30d": None}
        assert answer["targets"][0]["operations"][0]["last24h"] is None
        assert (breakers["items"][0]["state"], breakers["events"]) == ("closed", None)
        config.with_name("r2-exporter.db").rmdir()
        await eventually(lambda: _is_available(api))


async def _is_available(api: Api) -> bool:
    answer = await api.get("/api/health")
    return bool(answer["history"]["status"] == "available")
