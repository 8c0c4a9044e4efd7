"""A running exporter that pushes its alerts to real Alertmanagers, and silences what is resolved by hand."""

import ssl
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme

from exporter.history.alerts import raise_alert
from exporter.history.database import open_for_writing
from exporter.outcome import Operation
from exporter.shard import shard_of
from tests.alertmanager.rig import Alertmanager, alertmanager, answering, member
from tests.api.rig import Api, wrong_fields
from tests.api.test_alerts import group
from tests.faults.server import FaultServer, fault_server, s3_error, send
from tests.history.rig import rows
from tests.running import eventually, running, serving_command, target, until, write

ALERTS = "/api/health/alerts"
NAMES = [f"bucket-{number}" for number in range(12)]
LABELS = {
    "alertname": "R2ServiceDegraded",
    "target": "media",
    "type": "service_degraded",
    "severity": "warning",
}


@pytest.fixture
async def failing() -> AsyncIterator[FaultServer]:
    async with fault_server() as server:
        slow_down = s3_error(503, "SlowDown", X_Amz_Request_Id="8f2b1c-AMS")
        server.script.update(dict.fromkeys(Operation, send(slow_down)))
        yield server


def configured(folder: Path, storage: FaultServer, *urls: str, **more: object) -> Path:
    media = target("media", storage.endpoint, "media", breaker={"enabled": False})
    return write(folder / "exporter.yaml", media, alertmanager={"urls": list(urls), **more})


async def labels_at(real: Alertmanager) -> list[dict[str, str]]:
    return [alert["labels"] for alert in await real.alerts()]


async def silences_at(real: Alertmanager) -> list[dict[str, Any]]:
    async with real.session.get(f"{real.url}/api/v2/silences") as answer:
        found: list[dict[str, Any]] = await answer.json()
    return found


async def test_an_alert_reaches_every_member_and_ends_there_too(tmp_path: Path, failing: FaultServer) -> None:
    async with (
        alertmanager(tmp_path / "a") as one,
        alertmanager(tmp_path / "b") as other,
        running(configured(tmp_path, failing, one.url, other.url)) as exporter,
    ):

        async def both_have_it() -> bool:
            return LABELS in await labels_at(one) and LABELS in await labels_at(other)

        async def none_has_it() -> bool:
            return LABELS not in await labels_at(one) + await labels_at(other)

        await Api(exporter.url).check()
        await eventually(both_have_it)
        samples = await exporter.metrics()
        for real in (one, other):
            assert samples("r2_exporter_notifications_sent_total", alertmanager=real.url) > 0
        [alert] = [each for each in await one.alerts() if each["labels"] == LABELS]
        assert alert["annotations"]["request_id"] == "8f2b1c-AMS"
        assert alert["annotations"]["reason"] == "throttled"
        failing.heal()
        await Api(exporter.url).check()
        await eventually(none_has_it)


async def test_an_alert_that_was_active_is_pushed_again_after_a_restart(
    tmp_path: Path, failing: FaultServer
) -> None:
    config = configured(tmp_path, failing)
    async with running(config) as exporter:
        await Api(exporter.url).check()
        await eventually(lambda: exporter.has_value(1, "r2_alert_active", type="service_degraded"))
    async with alertmanager(tmp_path / "a") as real:
        async with running(configured(tmp_path, failing, real.url)):

            async def told() -> bool:
                return LABELS in await labels_at(real)

            await eventually(told)
        # Stopping resolves nothing: the storage is as it was.
        assert LABELS in await labels_at(real)


async def test_a_client_certificate_that_is_renewed_in_place(
    tmp_path: Path, failing: FaultServer, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    """The one before is of an authority that the member trusts no more."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client, server = tmp_path / "client.pem", tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(server))
    trustme.CA().issue_cert("client.example.org").private_key_and_cert_chain_pem.write_to_path(str(client))
    trusting.load_cert_chain(server)
    tls = {
        "cert_file": "server.pem",
        "key_file": "server.pem",
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": "ca.pem",
    }
    async with alertmanager(tmp_path, web_config={"tls_server_config": tls}, tls=trusting) as real:
        files = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.pem"}
        async with running(configured(tmp_path, failing, real.url, **files)) as exporter:
            await Api(exporter.url).check()
            errors = "r2_exporter_notifications_errors_total"
            await eventually(lambda: exporter.has_more(0, errors, alertmanager=real.url))
            assert await labels_at(real) == []
            renewed = authority.issue_cert("client.example.org").private_key_and_cert_chain_pem
            renewed.write_to_path(str(client))
            assert (await exporter.post("/-/reload"))[0] == 200

            async def heard() -> bool:
                return LABELS in await labels_at(real)

            await eventually(heard)


async def test_an_alert_whose_target_moved_to_another_shard_is_left_to_that(
    tmp_path: Path, failing: FaultServer
) -> None:
    moved = next(name for name in NAMES if shard_of(name, 2) == 1)
    gone, kept = [name for name in NAMES if shard_of(name, 2) == 0][:2]
    path = tmp_path / "r2-exporter.db"
    with closing(open_for_writing(path)) as history:
        for name in (moved, gone):
            raise_alert(history, name, "service_degraded", "MEDIUM", "two fail", 1_000.0)
    targets = [target(name, failing.endpoint, name) for name in (moved, kept)]
    async with member() as other:
        config = write(tmp_path / "exporter.yaml", *targets, alertmanager={"urls": [other.url]})
        async with serving_command(config, "--shard=0", "--total-shards=2") as exporter:
            await until(lambda: gone in other.told_of())
            assert await exporter.end() == 0
    assert moved not in other.told_of()
    assert not rows(path, "SELECT * FROM open_alerts")


async def test_resolving_by_hand_can_set_a_silence(tmp_path: Path, failing: FaultServer) -> None:
    async with alertmanager(tmp_path / "a") as real:
        # The member before it is down: the next one is asked.
        nobody = "http://127.0.0.1:1"
        config = configured(tmp_path, failing, nobody, real.url, labels={"cluster": "eu"})
        async with running(config) as exporter:
            api = Api(exporter.url)
            await api.check()
            await eventually(lambda: exporter.has_value(1, "r2_alert_active", type="service_degraded"))
            [alert] = (await api.get(ALERTS))["items"]
            body = {"notes": "known, ticket 7", "silence": 3_600_000}
            resolved = await api.post(f"{ALERTS}/{alert['id']}/resolve", body=body)
            [silence] = await silences_at(real)
            assert silence["id"] == resolved["silenceId"]
            assert silence["comment"] == "known, ticket 7"
            assert silence["createdBy"] == "anonymous"
            assert {each["name"]: each["value"] for each in silence["matchers"]} == {
                "target": "media",
                "type": "service_degraded",
                "cluster": "eu",
            }
            assert silence["endsAt"][:16] == resolved["silencedUntil"][:16]


async def test_without_alertmanager_there_is_nobody_to_silence(tmp_path: Path, failing: FaultServer) -> None:
    async with running(configured(tmp_path, failing)) as exporter:
        api = Api(exporter.url)
        await api.check()
        await eventually(lambda: exporter.has_value(1, "r2_alert_active", type="service_degraded"))
        [alert] = (await api.get(ALERTS))["items"]
        refused = await api.post(f"{ALERTS}/{alert['id']}/resolve", 400, body={"silence": 60_000})
        assert "alertmanager.urls" in wrong_fields(refused)["silence"]
        assert (await api.get(ALERTS))["total"] == 1


async def test_an_alert_of_no_target_is_not_silenced(tmp_path: Path, failing: FaultServer) -> None:
    """Its type alone is that of other systems' alerts too."""
    down = {
        "status": "firing",
        "labels": {"alertname": "R2ExporterDown", "type": "exporter_down", "severity": "high"},
        "annotations": {},
        "startsAt": "2026-01-31T12:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": "0123456789abcdef",
    }
    async with member() as asked, running(configured(tmp_path, failing, asked.url)) as exporter:
        api = Api(exporter.url)
        await api.post("/api/alertmanager/webhook", body=group(down))
        [alert] = (await api.get(ALERTS))["items"]
        refused = await api.post(f"{ALERTS}/{alert['id']}/resolve", 400, body={"silence": 60_000})
        assert "of no target" in wrong_fields(refused)["silence"]
        assert (await api.get(ALERTS))["total"] == 1


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_what_alertmanager_does_not_silence_is_not_resolved(
    tmp_path: Path, failing: FaultServer, status: int
) -> None:
    async with (
        member(answering(status)) as refusing,
        running(configured(tmp_path, failing, refusing.url)) as exporter,
    ):
        api = Api(exporter.url)
        await api.check()
        await eventually(lambda: exporter.has_value(1, "r2_alert_active", type="service_degraded"))
        [alert] = (await api.get(ALERTS))["items"]
        refused = await api.post(f"{ALERTS}/{alert['id']}/resolve", 503, body={"silence": 60_000})
        assert f"HTTP {status}" in refused["error"]["message"]
        assert (await api.get(ALERTS))["total"] == 1
