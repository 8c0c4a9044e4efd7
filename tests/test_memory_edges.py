"""What must not be lost, come back or be made up between the file, memory and Alertmanager."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme

from exporter.history.alerts import Held, Notice, keep_all, keep_notices, lasting_alerts
from exporter.history.database import upgrade
from exporter.outcome import Operation
from tests.alertmanager.rig import alertmanager
from tests.api.rig import Api, execute
from tests.faults.server import FaultServer, fault_server, s3_error, send
from tests.running import eventually, running, target, until, write

ALERTS = "/api/health/alerts"
CONFIG = "/api/health/config"
WEBHOOK = "/api/alertmanager/webhook"
NOWHERE = "http://127.0.0.1:1"
HELD = Held("media", "service_degraded", "MEDIUM", "two fail", 1_000.0)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "exporter.yaml", target("media", NOWHERE, "media"))


@pytest.fixture
async def failing() -> AsyncIterator[FaultServer]:
    async with fault_server() as server:
        server.script.update(dict.fromkeys(Operation, send(s3_error(503, "SlowDown"))))
        yield server


@pytest.fixture
def history() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        upgrade(connection, ":memory:")
        yield connection


@pytest.mark.parametrize(
    ("starts", "ends", "status"),
    [
        ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z", "firing"),
        ("9999-12-31T23:59:59.9999Z", "0001-01-01T00:00:00Z", "firing"),
        ("2026-01-31T12:00:00Z", "0001-01-01T00:00:00+14:00", "resolved"),
    ],
)
async def test_a_time_that_no_calendar_has_is_kept_as_the_nearest(
    config: Path, starts: str, ends: str, status: str
) -> None:
    labels = {"alertname": "R2ClockSkew", "target": "media", "type": "clock_skew"}
    alert = {"status": status, "labels": labels, "startsAt": starts, "endsAt": ends}
    body: dict[str, Any] = {"version": "4", "receiver": "pager", "status": status, "alerts": [alert]}
    async with running(config) as exporter:
        api = Api(exporter.url)
        assert (await api.post(WEBHOOK, body=body))["recorded"] == 1
        await api.get(f"{ALERTS}?resolved=true")


async def test_a_change_right_after_the_file_is_gone_keeps_the_changes_before_it(config: Path) -> None:
    async with running(config) as exporter:
        api = Api(exporter.url)
        await api.put(CONFIG, {"timeout": 1234})
        await api.post("/api/health/monitoring/stop")
        for path in config.parent.glob("r2-exporter.db*"):
            path.unlink()
        answer = await api.put(CONFIG, {"failureThreshold": 6})
        [item] = answer["items"]
        assert (item["timeout"], item["enabled"], item["failureThreshold"]) == (1234, False, 6)
        assert [each["setting"] for each in answer["changed"]] == ["failureThreshold"]


async def test_an_etag_holds_for_its_url_whatever_the_body_names(config: Path) -> None:
    async with running(config) as exporter:
        api = Api(exporter.url)
        for path in (CONFIG, f"{CONFIG}?target=media"):
            tag = await api.etag(path)
            body = {"serviceName": "media", "timeout": None if "target" in path else 700}
            answer = await api.put(path, body, headers={"If-Match": tag})
            assert answer["etag"] == await api.etag(path)


async def test_authorities_that_vanish_leave_those_of_before_in_force(config: Path) -> None:
    bundle = config.with_name("ca.pem")
    trustme.CA().cert_pem.write_to_path(bundle)
    write(config, target("media", NOWHERE, "media", ca_file="ca.pem"))
    async with running(config) as exporter:
        bundle.unlink()
        answer = await Api(exporter.url).put(CONFIG, {"failureThreshold": 6})
        assert answer["items"][0]["failureThreshold"] == 6
        threshold = (await exporter.metrics())("r2_config_threshold", name="failure_threshold")
        assert threshold == 6


async def test_an_alert_that_is_resolved_twice_at_once_gets_one_silence(
    tmp_path: Path, failing: FaultServer
) -> None:
    async with alertmanager(tmp_path / "a") as real:
        media = target("media", failing.endpoint, "media", breaker={"enabled": False})
        config = write(tmp_path / "exporter.yaml", media, alertmanager={"urls": [real.url]})
        async with running(config) as exporter:
            api = Api(exporter.url)
            await api.check()
            await eventually(lambda: exporter.has_value(1, "r2_alert_active", type="service_degraded"))
            [alert] = (await api.get(ALERTS))["items"]
            path = f"{ALERTS}/{alert['id']}/resolve"
            # Whichever of them comes first, the other one finds it resolved.
            answers = await asyncio.gather(
                *(
                    api.status("POST", path, {"Content-Type": "application/json"}, {"silence": 60_000})
                    for _ in range(4)
                )
            )
            assert sorted(answers) == [200, 409, 409, 409]
            async with real.session.get(f"{real.url}/api/v2/silences") as found:
                assert len(await found.json()) == 1


def test_a_history_begun_anew_knows_what_was_resolved_by_hand(history: sqlite3.Connection) -> None:
    keep_all(history, [], [HELD], 2_000.0)
    [row] = lasting_alerts(history)
    assert (row["type"], row["resolved_at"], row["resolved_by"]) == (
        "service_degraded",
        2_000.0,
        "r2-exporter",
    )
    keep_all(history, [], [HELD], 3_000.0)
    assert [each["id"] for each in lasting_alerts(history)] == [row["id"]]
    keep_all(history, [], [], 4_000.0)
    assert lasting_alerts(history) == []


def test_alertmanager_raises_nothing_anew_whose_condition_lasts(history: sqlite3.Connection) -> None:
    keep_all(history, [], [HELD], 2_000.0)
    late = Notice("media", "service_degraded", "MEDIUM", "two fail", "pager", 2_010.0, None)
    keep_notices(history, [late], 2_020.0)
    (opened,) = history.execute("SELECT count(*) FROM service_alerts WHERE resolved_at IS NULL").fetchone()
    assert opened == 0


async def test_an_alert_of_a_later_version_does_not_hold_up_the_start(config: Path) -> None:
    async with running(config):
        pass
    with closing(sqlite3.connect(config.with_name("r2-exporter.db"))) as connection:
        connection.execute(
            "INSERT INTO service_alerts (target, type, severity, message, created_at, updated_at) "
            "VALUES ('media', 'of_tomorrow', 'LOW', '', 1, 1)"
        )
        connection.execute("UPDATE health_check_config SET value = 'no json' WHERE setting = 'timeout'")
        connection.commit()
    async with running(config) as exporter:
        assert (await Api(exporter.url).put(CONFIG, {"failureThreshold": 6}))["version"] >= 1
        await exporter.app.reload()


async def test_settings_that_could_not_be_read_at_the_start_are_in_force_once_they_can(config: Path) -> None:
    async with running(config) as exporter:
        await Api(exporter.url).put(CONFIG, {"timeout": 1234})
    execute(config, "ALTER TABLE health_check_config RENAME TO away")
    async with running(config) as exporter:
        assert exporter.app.settings.targets[0].probe.timeout == 5
        execute(config, "ALTER TABLE away RENAME TO health_check_config")
        await until(lambda: exporter.app.settings.targets[0].probe.timeout == 1.234)


async def test_alerts_that_could_not_be_read_at_the_start_are_active_once_they_can(config: Path) -> None:
    write(config, target("media", NOWHERE, "media", breaker={"enabled": False}))
    async with running(config) as exporter:
        await Api(exporter.url).check()
        await eventually(lambda: exporter.has_value(1, "r2_alert_active", type="service_degraded"))
    execute(config, "DROP INDEX service_alerts_lasting")
    async with running(config) as exporter:
        assert await exporter.has_value(0, "r2_alert_active", type="service_degraded")
        execute(config, "CREATE INDEX service_alerts_lasting ON service_alerts (target, type)")
        await eventually(lambda: exporter.has_value(1, "r2_alert_active", type="service_degraded"))
        assert (await Api(exporter.url).get(ALERTS))["total"] == 1
