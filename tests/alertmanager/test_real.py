"""Real Alertmanagers: told once, of the end too, in a cluster, after a restart, and beside Prometheus."""

import signal
import ssl
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import trustme
import yaml

from exporter.alertmanager import Attempt
from exporter.config import AlertmanagerSettings, BasicAuth, Secret
from tests.alertmanager.rig import Alertmanager, alert, alertmanager, pushing, webhook
from tests.prometheus import prometheus
from tests.running import eventually, until


def settings(*members: Alertmanager, **more: object) -> AlertmanagerSettings:
    return AlertmanagerSettings.model_validate({"urls": [member.url for member in members], **more})


def sent(attempts: list[Attempt], url: str) -> int:
    return sum(attempt.alerts for attempt in attempts if attempt.member == url and attempt.reason is None)


async def test_an_alert_pushed_many_times_is_one_and_is_gone_when_resolved(tmp_path: Path) -> None:
    async with (
        webhook() as receiver,
        alertmanager(tmp_path, webhook=receiver.url) as member,
        pushing(settings(member)) as (pusher, attempts),
    ):
        pusher.put(alert())
        await until(lambda: sent(attempts, member.url) >= 8)
        [shown] = await member.alerts()
        assert shown["labels"] == alert().labels
        assert shown["annotations"] == {"summary": "media is down"}
        assert shown["startsAt"] == "2023-11-14T22:13:20.000Z"
        await until(lambda: receiver.notifications)
        pusher.put(alert(ends_at=time.time()))
        await until(lambda: receiver.of("resolved"))
        assert await member.alerts() == []
        assert (receiver.of("firing"), receiver.of("resolved")) == (["media"], ["media"])
        assert {attempt.reason for attempt in attempts} == {None}


async def test_several_alerts_go_in_one_request_and_a_change_shows(tmp_path: Path) -> None:
    async with alertmanager(tmp_path) as member, pushing(settings(member)) as (pusher, attempts):
        for name in ("a", "b", "c"):
            pusher.put(alert(name))
        await until(lambda: attempts)
        assert attempts[0].alerts == 3
        assert await member.targets() == ["a", "b", "c"]
        pusher.put(alert("b", reason="timeout"))
        pusher.put(alert("c", ends_at=time.time()))

        async def shown() -> bool:
            found = {each["labels"]["target"]: each["annotations"] for each in await member.alerts()}
            return found == {"a": alert("a").annotations, "b": alert("b", reason="timeout").annotations}

        await eventually(shown)


async def test_both_members_are_told_and_one_that_joins_hears_of_what_is_active(tmp_path: Path) -> None:
    async with (
        alertmanager(tmp_path / "a") as one,
        alertmanager(tmp_path / "b") as two,
        alertmanager(tmp_path / "c") as late,
        pushing(settings(one, two)) as (pusher, attempts),
    ):
        pusher.put(alert("a"))
        pusher.put(alert("b"))
        await until(lambda: sent(attempts, one.url) >= 2 and sent(attempts, two.url) >= 2)
        assert await one.targets() == await two.targets() == ["a", "b"]
        pusher.put(alert("b", ends_at=time.time()))
        await pusher.configure(settings(two, late))
        assert pusher.pending().keys() == {two.url, late.url}
        await until(lambda: sent(attempts, late.url))
        assert await late.targets() == ["a"]
        before = sent(attempts, one.url)
        await until(lambda: sent(attempts, two.url) >= 8)
        assert await two.targets() == ["a"]
        assert sent(attempts, one.url) == before


async def test_nothing_is_lost_while_a_member_is_down(tmp_path: Path) -> None:
    async with AsyncExitStack() as ending, webhook() as receiver, alertmanager(tmp_path / "b") as other:
        async with alertmanager(tmp_path / "a", webhook=receiver.url) as member:
            port = member.port
            pusher, attempts = await ending.enter_async_context(pushing(settings(member, other)))
            pusher.put(alert("before"))
            pusher.put(alert("stays"))
            await until(lambda: len(receiver.of("firing")) == 2)
        # It ended in an orderly way: it knows whom it told, but of no alert.
        pusher.put(alert("before", ends_at=time.time()))
        pusher.put(alert("while"))
        pusher.put(alert("came and went"))
        pusher.put(alert("came and went", ends_at=time.time()))
        await until(lambda: pusher.pending() == {member.url: 3, other.url: 0})
        assert await other.targets() == ["stays", "while"]
        await until(lambda: attempts[-1].reason is not None)
        async with alertmanager(tmp_path / "a", port=port, webhook=receiver.url) as member:
            await until(lambda: pusher.pending()[member.url] == 0)
            await eventually(lambda: _shows(member, "stays", "while"))
            await until(lambda: receiver.of("resolved"))
            await until(lambda: "while" in receiver.of("firing"))
            assert sorted(receiver.of("firing")) == ["before", "stays", "while"]
            assert receiver.of("resolved") == ["before"]


async def test_a_member_that_was_killed_hears_of_all_again(tmp_path: Path) -> None:
    async with AsyncExitStack() as ending:
        async with alertmanager(tmp_path) as member:
            port = member.port
            pusher, attempts = await ending.enter_async_context(pushing(settings(member)))
            pusher.put(alert("a"))
            pusher.put(alert("b"))
            await until(lambda: sent(attempts, member.url) >= 2)
            await member.end(signal.SIGKILL)
        pusher.put(alert("b", ends_at=time.time()))
        async with alertmanager(tmp_path, port=port) as member:
            await eventually(lambda: _shows(member, "a"))
            await until(lambda: pusher.pending() == {member.url: 0})


async def _shows(member: Alertmanager, *targets: str) -> bool:
    return await member.targets() == [*targets]


async def test_stopping_tells_what_is_new_and_resolves_nothing(tmp_path: Path) -> None:
    async with alertmanager(tmp_path) as member:
        async with pushing(settings(member)) as (pusher, _):
            pusher.put(alert("a"))
            pusher.put(alert("b"))
            # Stopped before the first request.
        assert await member.targets() == ["a", "b"]
        async with pushing(settings(member)) as (pusher, _):
            pusher.put(alert("b", ends_at=time.time()))
        assert await member.targets() == ["a"]


async def test_over_tls_with_a_login_and_a_client_certificate(
    tmp_path: Path, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("127.0.0.1", "client.example.org"):
        leaf = authority.issue_cert(name)
        leaf.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    web_config = {
        "tls_server_config": {
            "cert_file": "127.0.0.1.pem",
            "key_file": "127.0.0.1.pem",
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": "ca.pem",
        },
        "basic_auth_users": {"r2": bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()},
    }
    client = str(tmp_path / "client.example.org.pem")
    trusting.load_cert_chain(client)
    login = {"Authorization": aiohttp.encode_basic_auth("r2", "hunter2")}
    async with alertmanager(tmp_path, web_config=web_config, tls=trusting, headers=login) as member:
        right = settings(
            member,
            ca_file=str(tmp_path / "ca.pem"),
            cert_file=client,
            key_file=client,
            basic_auth=BasicAuth(username="r2", password=Secret("hunter2")),
        )
        wrong = {
            "auth": right.model_copy(
                update={"basic_auth": BasicAuth(username="r2", password=Secret("hunter3"))}
            ),
            "tls": right.model_copy(update={"ca_file": None}),
        }
        for reason, each in wrong.items():
            async with pushing(each) as (pusher, attempts):
                pusher.put(alert())
                await until(lambda: len(attempts) >= 2)
                assert {attempt.reason for attempt in attempts} == {reason}
        async with pushing(right.model_copy(update={"cert_file": None})) as (pusher, attempts):
            pusher.put(alert())
            await until(lambda: attempts)
            assert attempts[0].reason in {"tls", "connect"}
        assert await member.targets() == []
        async with pushing(right) as (pusher, attempts):
            pusher.put(alert())
            await until(lambda: attempts)
            assert await member.targets() == ["media"]


RULES = """\
groups:
  - name: r2
    rules:
      - alert: R2CircuitBreakerOpen
        expr: label_replace(vector(1), "target", "media", "", "")
        labels: {type: circuit_breaker_open, severity: critical}
        for: 7s  # Prometheus needs 5 s to find Alertmanager, and would try again after a minute only
        annotations: {summary: "{{ $labels.target }} is down"}
"""


@pytest.mark.parametrize("external", [{}, {"cluster": "eu", "severity": "never"}])
async def test_beside_prometheus_it_is_one_alert_and_one_notification(
    tmp_path: Path, external: dict[str, str]
) -> None:
    further = {name: value for name, value in external.items() if name != "severity"}
    async with (
        webhook() as receiver,
        alertmanager(tmp_path / "a", webhook=receiver.url) as member,
        pushing(settings(member, labels=further)) as (pusher, attempts),
    ):
        (tmp_path / "rules.yml").write_text(RULES)
        config = {
            "global": {"evaluation_interval": "200ms", "external_labels": external},
            "rule_files": ["rules.yml"],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [member.url.removeprefix("http://")]}]}]
            },
        }
        pusher.put(alert())
        async with prometheus(tmp_path, yaml.safe_dump(config)) as server:

            async def received() -> bool:
                async with member.session.get(f"{server.url}/metrics") as answer:
                    lines = (await answer.text()).splitlines()
                counts = [line for line in lines if line.startswith("prometheus_notifications_sent_total{")]
                return any(float(line.split()[-1]) > 0 for line in counts)

            await eventually(received)
            before = sent(attempts, member.url)
            await until(lambda: sent(attempts, member.url) > before + 2)
            [one] = await member.alerts()
            assert one["labels"] == {**alert().labels, **further}
            assert one["startsAt"] == "2023-11-14T22:13:20.000Z"
        await until(lambda: receiver.notifications)
        assert receiver.of("firing") == ["media"]
        assert len(receiver.notifications[0]["alerts"]) == 1


async def test_a_second_sender_of_the_same_labels_is_no_second_alert(tmp_path: Path) -> None:
    async with alertmanager(tmp_path) as member, pushing(settings(member)) as (pusher, attempts):
        pusher.put(alert())
        await until(lambda: attempts)
        await member.post([{"labels": dict(alert().labels), "annotations": {"summary": "by a rule"}}])
        await until(lambda: len(attempts) >= 3)
        [one] = await member.alerts()
        assert one["labels"] == alert().labels
