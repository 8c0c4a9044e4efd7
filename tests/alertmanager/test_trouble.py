"""Members that refuse, hang, break off or are not there: no other suffers, and no secret is told."""

import asyncio
import ssl
import time
from pathlib import Path

import pytest
import structlog
from aiohttp import web

from exporter.alertmanager import Attempt, Pace, Pusher
from exporter.config import AlertmanagerSettings, BasicAuth, Secret
from tests.alertmanager.rig import (
    FAST,
    STARTED,
    Behaviour,
    Scripted,
    alert,
    answering,
    echoing,
    garbling,
    hanging,
    member,
    pushing,
    resetting,
)
from tests.running import until

TOKEN, PASSWORD = "hunter2-as-a-token", "hunter2 as a password"


def settings(*members: Scripted, **more: object) -> AlertmanagerSettings:
    return AlertmanagerSettings.model_validate({"urls": [each.url for each in members], **more})


def of(attempts: list[Attempt], each: Scripted) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.member == each.url]


async def more_than(count: int, attempts: list[Attempt]) -> None:
    await until(lambda: len(attempts) > count)


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (answering(401), "auth"),
        (answering(403), "auth"),
        (answering(404), "client"),
        (answering(302), "client"),
        (answering(429), "throttled"),
        (answering(500, "hunter2"), "server"),
        (answering(503), "server"),
        (hanging, "timeout"),
        (resetting, "connect"),
        (garbling, "server"),
    ],
)
async def test_one_in_trouble_is_tried_again_and_holds_up_no_other(behave: Behaviour, reason: str) -> None:
    with structlog.testing.capture_logs() as logs:
        async with (
            member(behave) as bad,
            member() as good,
            pushing(settings(bad, good, timeout=0.2)) as (pusher, attempts),
        ):
            pusher.put(alert("a"))
            await until(lambda: len(of(attempts, bad)) >= 2)
            pusher.put(alert("b"))
            await until(lambda: good.told_of() == {"a", "b"} and pusher.pending()[good.url] == 0)
            assert {attempt.reason for attempt in of(attempts, good)} == {None}
            assert {attempt.reason for attempt in of(attempts, bad)} == {reason}
            assert pusher.pending()[bad.url] == 2
            bad.behave = answering(200)
            await until(lambda: pusher.pending()[bad.url] == 0)
            assert bad.told_of() == {"a", "b"}
    told = [(entry["event"], entry["alertmanager"], entry.get("reason")) for entry in logs]
    assert told == [
        ("alerts do not reach Alertmanager", bad.url, reason),
        ("alerts reach Alertmanager again", bad.url, None),
    ]
    assert "hunter2" not in str(logs)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://r2-exporter.invalid"])
async def test_one_that_is_not_there(url: str) -> None:
    async with pushing(AlertmanagerSettings(urls=(url,), timeout=1)) as (pusher, attempts):
        pusher.put(alert())
        await until(lambda: len(attempts) >= 2)
        assert {attempt.reason for attempt in attempts} <= {"connect", "dns", "timeout"}


async def test_what_waits_for_a_dead_member_does_not_grow() -> None:
    async with pushing(AlertmanagerSettings(urls=("http://127.0.0.1:1",))) as (pusher, attempts):
        for number in range(3000):
            name = f"t{number % 3}"
            pusher.put(alert(name, number=str(number)))
            pusher.put(alert(name, ends_at=STARTED + number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        assert pusher.pending() == {"http://127.0.0.1:1": 3}
        await until(lambda: attempts)
        assert max(attempt.alerts for attempt in attempts) <= 3


async def refusing_b(request: web.Request) -> web.Response:
    """As Alertmanager does: 400 if one of several alerts is invalid."""
    bad = any(each["labels"]["target"] == "b" for each in await request.json())
    return web.Response(status=400, text="invalid label set\n\x1b[31m") if bad else web.Response()


async def test_what_is_refused_takes_nothing_along_and_is_not_tried_for_ever() -> None:
    with structlog.testing.capture_logs() as logs:
        async with member(refusing_b) as it, pushing(settings(it)) as (pusher, attempts):
            for name in ("a", "b", "c"):
                pusher.put(alert(name))
            await until(lambda: len(attempts) >= 4)
            assert [(each.alerts, each.reason) for each in attempts[:4]] == [
                (0, "client"),
                (1, None),
                (1, "client"),
                (1, None),
            ]
            await until(lambda: sum(each.alerts for each in attempts if each.reason is None) >= 12)
            refusals = [each for each in attempts if each.alerts and each.reason is not None]
            assert len(refusals) < len(attempts) / 2
            assert not any(each.dropped for each in attempts)
            pusher.put(alert("b", ends_at=time.time()))
            await until(lambda: attempts[-1].dropped == 1 or any(each.dropped for each in attempts))
            told = len([body for body in it.bodies if "b" in {each["labels"]["target"] for each in body}])
            before = len(attempts)
            await until(lambda: len(attempts) >= before + 3)
            again = len([body for body in it.bodies if "b" in {each["labels"]["target"] for each in body}])
            assert again == told
    assert logs[0] == {
        "event": "Alertmanager refuses an alert",
        "log_level": "error",
        "alertmanager": it.url,
        "labels": dict(alert("b").labels),
        "status": 400,
        "said": "invalid label set  [31m",
    }


async def test_a_long_answer_is_cut() -> None:
    with structlog.testing.capture_logs() as logs:
        async with member(answering(400, "x" * 1_000_000)) as it, pushing(settings(it)) as (pusher, _):
            pusher.put(alert())
            await until(lambda: logs)
    assert len(logs[0]["said"]) == 200


@pytest.mark.parametrize(
    ("more", "header"),
    [
        ({"bearer_token": Secret(TOKEN)}, f"Bearer {TOKEN}"),
        (
            {"basic_auth": BasicAuth(username="r2", password=Secret(PASSWORD))},
            "Basic cjI6aHVudGVyMiBhcyBhIHBhc3N3b3Jk",
        ),
        ({}, None),
    ],
)
async def test_a_member_gets_the_secret_and_the_log_does_not(
    more: dict[str, object], header: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    behaviours: list[Behaviour] = [echoing, resetting, garbling, answering(401, TOKEN)]
    with structlog.testing.capture_logs() as logs:
        async with member() as it, pushing(settings(it, **more)) as (pusher, attempts):
            for number, behave in enumerate(behaviours):
                it.behave = behave
                pusher.put(alert(number=str(number)))
                before = len(attempts)
                await more_than(before + 1, attempts)
    assert {headers.get("Authorization") for headers in it.headers} == {header}
    assert {headers["Content-Type"] for headers in it.headers} == {"application/json"}
    assert [entry["said"] for entry in logs if "said" in entry]
    shown = f"{logs} {caplog.text} {attempts} {pusher.pending()}"
    assert [secret for secret in (TOKEN, PASSWORD, "cjI6aHVudGVyMiB") if secret in shown] == []


async def test_a_member_with_another_certificate_is_not_told(
    serving: ssl.SSLContext, authority: object, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))  # type: ignore[attr-defined]  # a trustme.CA
    async with member(tls=serving) as it:
        async with pushing(settings(it)) as (pusher, attempts):
            pusher.put(alert())
            await until(lambda: len(attempts) >= 2)
            assert {attempt.reason for attempt in attempts} == {"tls"}
        assert it.bodies == []
        async with pushing(settings(it, ca_file=str(bundle))) as (pusher, attempts):
            pusher.put(alert())
            await until(lambda: it.bodies)
            await until(lambda: pusher.pending() == {it.url: 0})


async def test_stopping_does_not_wait_for_a_member_that_hangs() -> None:
    async with member(hanging) as bad, member() as good:
        async with pushing(settings(bad, good, timeout=60), Pace(interval=60)) as (pusher, _):
            pusher.put(alert())
            await until(lambda: bad.bodies and pusher.pending()[good.url] == 0)
            pusher.put(alert("late"))
            async with asyncio.timeout(20):
                await pusher.stop(0.5)
        assert good.told_of() == {"media", "late"}


async def test_a_reload_takes_up_what_waits_and_another_secret() -> None:
    async def asking(request: web.Request) -> web.Response:
        return web.Response(status=200 if "Authorization" in request.headers else 401)

    async with member(asking) as it, pushing(settings(it)) as (pusher, attempts):
        pusher.put(alert())
        await until(lambda: attempts)
        await pusher.configure(settings(it, bearer_token=Secret(TOKEN), labels={"cluster": "eu"}))
        await until(lambda: pusher.pending() == {it.url: 0})
        assert it.headers[-1]["Authorization"] == f"Bearer {TOKEN}"
        assert it.bodies[-1][0]["labels"] == {**alert().labels, "cluster": "eu"}


async def test_files_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    async with member() as it, pushing(settings(it)) as (pusher, _):
        with pytest.raises(FileNotFoundError):
            await pusher.configure(settings(it, ca_file=str(tmp_path / "none")))
        pusher.put(alert())
        await until(lambda: it.told_of() == {"media"})


async def test_without_members_nothing_is_pushed_and_alerts_are_remembered() -> None:
    pusher = Pusher(pace=FAST)
    pusher.put(alert("before"))
    pusher.put(alert("gone"))
    pusher.put(alert("gone", ends_at=STARTED))
    await pusher.configure(AlertmanagerSettings())
    assert pusher.pending() == {}
    async with member() as it:
        await pusher.configure(settings(it))
        await until(lambda: it.told_of() == {"before"})
        await pusher.configure(AlertmanagerSettings())
        assert pusher.pending() == {}
        await pusher.stop(10)
