"""The exporter's own alerts, from a failing storage to the API; resolved by hand; told of by Alertmanager."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from exporter.outcome import Operation
from tests.api.rig import Api, execute, wrong_fields
from tests.faults.server import FaultServer, fault_server, s3_error, send
from tests.running import Client, Running, eventually, running, serving_command, target, write

ALERTS = "/api/health/alerts"
WEBHOOK = "/api/alertmanager/webhook"
DEGRADED = {"target": "media", "type": "service_degraded", "severity": "warning"}
ACTIVE = "r2_alert_active"


@pytest.fixture
async def storage() -> AsyncIterator[FaultServer]:
    async with fault_server() as server:
        yield server


@pytest.fixture
def media(config: Path, storage: FaultServer) -> Path:
    return write(config, target("media", storage.endpoint, "media", breaker={"enabled": False}))


def fail(storage: FaultServer) -> None:
    slow_down = s3_error(503, "SlowDown", RequestId="8f2b1c-AMS", X_Amz_Request_Id="8f2b1c-AMS")
    storage.script.update(dict.fromkeys(Operation, send(slow_down)))


async def is_active(exporter: Client, active: int, **labels: str) -> bool:
    return await exporter.has(ACTIVE, **labels) and await exporter.has_value(active, ACTIVE, **labels)


async def check_until(exporter: Client, active: int, **labels: str) -> None:
    """Probes until an alert is as it is to be, and kept so."""

    async def found() -> bool:
        await Api(exporter.url).check()
        return await is_active(exporter, active, **labels)

    await eventually(found)


async def open_alerts(exporter: Client) -> dict[str, Any]:
    return {each["type"]: each for each in (await Api(exporter.url).get(ALERTS))["items"]}


async def resolved(exporter: Client) -> list[Any]:
    page = await Api(exporter.url).get(f"{ALERTS}?resolved=true")
    return [each for each in page["items"] if each["resolvedAt"] is not None]


async def test_an_alert_is_raised_and_resolved_with_its_cause(media: Path, storage: FaultServer) -> None:
    async with running(media) as exporter:
        await Api(exporter.url).check()
        assert await open_alerts(exporter) == {}
        fail(storage)
        await check_until(exporter, 1, **DEGRADED)
        alert = (await open_alerts(exporter))["service_degraded"]
        assert (alert["severity"], alert["source"], alert["target"]) == ("MEDIUM", "exporter", "media")
        for word in ("put", "throttled", "SlowDown", "8f2b1c-AMS"):
            assert word in alert["message"]
        storage.heal()
        await check_until(exporter, 0, **DEGRADED)
        await check_until(exporter, 1, target="media", type="service_recovered", severity="info")
        assert set(await open_alerts(exporter)) == {"service_recovered"}
        [over] = await resolved(exporter)
        assert (over["type"], over["resolvedBy"]) == ("service_degraded", None)


async def test_an_alert_is_still_active_after_a_kill_and_not_raised_twice(
    media: Path, storage: FaultServer
) -> None:
    fail(storage)
    async with serving_command(media) as spawned:
        exporter = Client(spawned.url)
        await check_until(exporter, 1, **DEGRADED)
        before = (await open_alerts(exporter))["service_degraded"]
        spawned.process.kill()
        await spawned.process.wait()
    async with serving_command(media) as spawned:
        exporter = Client(spawned.url)
        assert await is_active(exporter, 1, **DEGRADED)
        after = (await open_alerts(exporter))["service_degraded"]
        assert (after["id"], after["createdAt"]) == (before["id"], before["createdAt"])
        storage.heal()
        await check_until(exporter, 0, **DEGRADED)
        assert [each["id"] for each in await resolved(exporter)] == [before["id"]]


async def test_what_is_resolved_by_hand_comes_back_only_with_a_new_cause(
    media: Path, storage: FaultServer
) -> None:
    fail(storage)
    async with running(media) as exporter:
        api = Api(exporter.url)
        await check_until(exporter, 1, **DEGRADED)
        number = (await open_alerts(exporter))["service_degraded"]["id"]
        answer = await api.post(f"{ALERTS}/{number}/resolve", body={"notes": "known, ticket 7"})
        assert (answer["resolvedBy"], answer["notes"]) == ("anonymous", "known, ticket 7")
        await eventually(lambda: is_active(exporter, 0, **DEGRADED))
        again = await api.post(f"{ALERTS}/{number}/resolve", 409)
        assert again["error"]["code"] == "resolved_already"
    # Not after a restart either.
    async with running(media) as exporter:
        api = Api(exporter.url)
        for _ in range(3):
            await api.check()
        assert await open_alerts(exporter) == {}
        storage.heal()
        await api.check()
        fail(storage)
        await check_until(exporter, 1, **DEGRADED)
        assert (await open_alerts(exporter))["service_degraded"]["id"] > number


async def test_what_was_resolved_by_hand_and_ended_is_new_after_a_restart(
    media: Path, storage: FaultServer
) -> None:
    fail(storage)
    async with running(media) as exporter:
        await check_until(exporter, 1, **DEGRADED)
        number = (await open_alerts(exporter))["service_degraded"]["id"]
        await Api(exporter.url).post(f"{ALERTS}/{number}/resolve")
        storage.heal()
        await Api(exporter.url).check()
    fail(storage)
    async with running(media) as exporter:
        await check_until(exporter, 1, **DEGRADED)


async def test_turning_alerts_off_ends_them(media: Path, storage: FaultServer) -> None:
    fail(storage)
    async with running(media) as exporter:
        api = Api(exporter.url)
        await check_until(exporter, 1, **DEGRADED)
        await api.put("/api/health/config", {"alertOnFailure": False})
        await eventually(lambda: is_active(exporter, 0, **DEGRADED))
        await api.check()
        assert await open_alerts(exporter) == {}


async def test_a_target_that_is_gone_has_no_alerts(media: Path, storage: FaultServer, config: Path) -> None:
    fail(storage)
    async with running(media) as exporter:
        await check_until(exporter, 1, **DEGRADED)
        write(config, target("other", storage.endpoint, "media"))
        await exporter.app.reload()

        async def none_open() -> bool:
            return not await open_alerts(exporter)

        await eventually(none_open)
    write(config, target("media", storage.endpoint, "media", breaker={"enabled": False}))
    async with running(config) as exporter:
        await check_until(exporter, 1, **DEGRADED)
    write(config, target("other", storage.endpoint, "media"))
    async with running(config) as exporter:
        await eventually(none_open)


async def test_without_a_history_alerts_are_told_and_kept_later(media: Path, storage: FaultServer) -> None:
    database = media.with_name("r2-exporter.db")
    database.mkdir()
    fail(storage)
    async with running(media) as exporter:
        await check_until(exporter, 1, **DEGRADED)
        database.rmdir()

        async def kept() -> bool:
            try:
                with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
                    return connection.execute("SELECT type FROM open_alerts").fetchall() == [
                        ("service_degraded",)
                    ]
            except sqlite3.OperationalError:
                return False

        await eventually(kept)


async def test_an_unknown_alert_is_not_resolved(media: Path) -> None:
    async with running(media) as exporter:
        api = Api(exporter.url)
        assert (await api.post(f"{ALERTS}/7/resolve", 404))["error"]["code"] == "unknown_alert"
        wrong = wrong_fields(await api.post(f"{ALERTS}/7/resolve", 400, body={"silence": 1, "note": ""}))
        assert wrong == {
            "silence": "must be a whole number from 60000 to 2592000000",
            "note": "unknown field; known here: notes, silence",
        }


# --- what Alertmanager tells ---


def group(*alerts: dict[str, Any], receiver: str = "pager", **more: object) -> dict[str, Any]:
    """What Alertmanager 0.27 sends."""
    return {
        "receiver": receiver,
        "status": "firing" if any(each["status"] == "firing" for each in alerts) else "resolved",
        "alerts": list(alerts),
        "groupLabels": {"target": "media"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "version": "4",
        "groupKey": '{}:{target="media"}',
        "truncatedAlerts": 0,
    } | more


def told(
    alert_type: str, status: str = "firing", name: str = "R2Alert", ended: str = "0001-01-01T00:00:00Z"
) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": name, "target": "media", "type": alert_type, "severity": "critical"},
        "annotations": {"summary": "media: as the rule says"},
        "startsAt": "2026-01-31T12:00:00.123456789Z",
        "endsAt": ended,
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": "0123456789abcdef",
    }


async def test_alertmanager_marks_an_alert_as_notified_and_its_end_as_told(
    media: Path, storage: FaultServer
) -> None:
    fail(storage)
    async with running(media) as exporter:
        api = Api(exporter.url)
        await check_until(exporter, 1, **DEGRADED)
        answer = await api.post(WEBHOOK, body=group(told("service_degraded")))
        assert answer == {"recorded": 1, "ignored": 0}
        alert = (await open_alerts(exporter))["service_degraded"]
        assert alert["notifiedBy"] == "pager"
        assert alert["notifiedAt"] >= alert["createdAt"]
        storage.heal()
        await check_until(exporter, 0, **DEGRADED)
        over = told("service_degraded", "resolved", ended="2026-01-31T12:30:00Z")
        await api.post(WEBHOOK, body=group(over))
        [ended] = await resolved(exporter)
        assert ended["id"] == alert["id"]
        assert ended["resolutionNotifiedAt"] >= ended["resolvedAt"]


async def test_what_only_prometheus_raised_is_kept_as_alertmanagers(media: Path) -> None:
    async with running(media) as exporter:
        api = Api(exporter.url)
        foreign = told("disk_full", name="NodeDiskFull")
        for receiver in ("pager", "chat"):
            answer = await api.post(WEBHOOK, body=group(told("certificate"), foreign, receiver=receiver))
            assert answer == {"recorded": 1, "ignored": 1}
        found = await open_alerts(exporter)
        assert found.keys() == {"certificate"}
        alert = found["certificate"]
        assert (alert["source"], alert["severity"], alert["notifiedBy"]) == (
            "alertmanager",
            "CRITICAL",
            "chat",
        )
        assert alert["createdAt"] == "2026-01-31T12:00:00.123000Z"
        assert alert["message"] == "media: as the rule says"
        over = told("certificate", "resolved", ended="2026-01-31T13:00:00Z")
        await api.post(WEBHOOK, body=group(over))
        [ended] = await resolved(exporter)
        assert ended["resolvedAt"] == "2026-01-31T13:00:00Z"


async def test_alertmanagers_alert_that_is_resolved_by_hand_stays_so(media: Path) -> None:
    async with running(media) as exporter:
        api = Api(exporter.url)
        await api.post(WEBHOOK, body=group(told("certificate")))
        number = (await open_alerts(exporter))["certificate"]["id"]
        await api.post(f"{ALERTS}/{number}/resolve", body={"notes": "renewed tomorrow"})
        await api.post(WEBHOOK, body=group(told("certificate")))
        assert await open_alerts(exporter) == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "version"),
        (group(told("a")) | {"version": "3"}, "version"),
        (group(told("a")) | {"alerts": {}}, "alerts"),
        (group(told("a"), told("b") | {"status": "maybe"}), "alerts.1.status"),
        (group(told("a"), told("b") | {"startsAt": "yesterday"}), "alerts.1.startsAt"),
        (group(told("a"), told("b") | {"labels": {"alertname": 5}}), "alerts.1.labels.alertname"),
    ],
)
async def test_a_malformed_webhook_changes_nothing(media: Path, body: Any, field: str) -> None:
    async with running(media) as exporter:
        api = Api(exporter.url)
        assert field in wrong_fields(await api.post(WEBHOOK, 400, body=body))
        assert (await api.get(f"{ALERTS}?resolved=true"))["total"] == 0


async def test_without_a_history_alertmanager_is_asked_to_try_again(config: Path) -> None:
    write(config, target("media", "http://127.0.0.1:1", "media"))
    config.with_name("r2-exporter.db").mkdir()
    async with running(config) as exporter:
        refused = await Api(exporter.url).post(WEBHOOK, 503, body=group(told("a")))
        assert refused["error"]["code"] == "history_unavailable"


async def test_an_alert_of_a_target_that_never_was_is_ended_at_the_start(media: Path) -> None:
    async with running(media):
        pass
    execute(
        media,
        "INSERT INTO service_alerts (target, type, severity, message, created_at, updated_at) "
        "VALUES ('gone', 'slow_response', 'MEDIUM', '', 1, 1)",
    )

    async with running(media) as exporter:

        async def ended(it: Running = exporter) -> bool:
            return not await open_alerts(it)

        await eventually(ended)


async def test_an_alert_of_a_kind_that_a_later_version_knows_is_resolved_by_hand(media: Path) -> None:
    async with running(media):
        pass
    execute(
        media,
        "INSERT INTO service_alerts (target, type, severity, message, created_at, updated_at) "
        "VALUES ('media', 'of_tomorrow', 'MEDIUM', '', 1, 1)",
    )
    async with running(media) as exporter:
        number = (await open_alerts(exporter))["of_tomorrow"]["id"]
        await Api(exporter.url).post(f"{ALERTS}/{number}/resolve", body={"notes": "none of ours"})
        assert await open_alerts(exporter) == {}
