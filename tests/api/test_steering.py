"""Closing breakers, and starting and stopping to probe."""

from pathlib import Path

import pytest

from tests.api.rig import Api
from tests.running import eventually, running, target, write


async def test_a_breaker_is_closed_by_hand(config: Path, failing: str) -> None:
    settings = {"failure_threshold": 1, "recovery_timeout": "1d"}
    media = target("media", failing, "media", breaker=settings)
    write(config, media, media | {"name": "other"})
    async with running(config) as exporter:
        api = Api(exporter.url)
        await api.check()
        before = await api.get("/api/health/circuit-breaker")
        states = {each["target"]: each["state"] for each in before["items"]}
        assert states == {"media": "open", "other": "open"}

        answer = await api.post("/api/health/circuit-breaker/reset?target=media")
        [item] = answer["items"]
        assert (item["target"], item["state"], item["failures"]) == ("media", "closed", 0)
        assert item["lastTransition"]["cause"] == "by_hand"
        samples = await exporter.metrics()
        assert samples("r2_circuit_breaker_state", target="media", state="closed") == 1
        assert samples("r2_circuit_breaker_state", target="other", state="open") == 1

        answer = await api.post("/api/health/circuit-breaker/reset")
        assert [each["state"] for each in answer["items"]] == ["closed", "closed"]
        after = await api.get("/api/health/circuit-breaker?target=other")
        assert [(event["fromState"], event["toState"]) for event in after["events"]] == [
            ("open", "closed"),
            ("closed", "open"),
        ]


async def test_probing_stops_and_starts_and_that_survives_a_restart(config: Path, failing: str) -> None:
    probe = {"interval": "1s", "operations": ["list"]}
    media = target("media", failing, "media", probe=probe, breaker={"enabled": False})
    write(config, media, media | {"name": "other"})
    async with running(config) as exporter:
        answer = await Api(exporter.url).post("/api/health/monitoring/stop?target=media")
        assert answer == {"items": [{"target": "media", "enabled": False}]}
    async with running(config) as exporter:
        api = Api(exporter.url)
        await eventually(lambda: exporter.has_more(1, "r2_probes_total", target="other"))
        await eventually(
            lambda: exporter.has_more(1, "r2_probes_skipped_total", target="media", reason="stopped")
        )
        assert (await exporter.metrics())("r2_probes_total", target="media") == 0
        answer = await api.post("/api/health/monitoring/start")
        assert answer == {"items": [{"target": name, "enabled": True} for name in ("media", "other")]}
        await eventually(lambda: exporter.has_more(0, "r2_probes_total", target="media"))


@pytest.mark.parametrize("path", ["circuit-breaker/reset", "monitoring/start", "monitoring/stop"])
async def test_an_unknown_target_is_named(config: Path, failing: str, path: str) -> None:
    write(config, target("media", failing, "media"))
    async with running(config) as exporter:
        answer = await Api(exporter.url).post(f"/api/health/{path}?target=gone", 404)
        assert "'gone'" in answer["error"]["message"]


async def test_without_a_history_nothing_is_stopped(config: Path, failing: str) -> None:
    write(config, target("media", failing, "media"))
    config.with_name("r2-exporter.db").mkdir()
    async with running(config) as exporter:
        answer = await Api(exporter.url).post("/api/health/monitoring/stop", 503)
        assert answer["error"]["code"] == "history_unavailable"
        assert exporter.app.targets["media"].settings.probe.enabled
