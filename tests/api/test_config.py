"""The settings in force: read, changed for all or for one, taken back, and guarded against lost updates."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pydantic
import pytest

from exporter.config import Settings, TargetSettings
from exporter.overrides import ALL, SETTINGS, SettingError, laid_over
from exporter.web.api.config_models import ConfigChange, TargetConfig
from exporter.web.api.parameters import MOST
from tests.api.rig import Api, wrong_fields
from tests.running import Client, eventually, running, serving_command, target, write

CONFIG = "/api/health/config"
CHANGES = f"{CONFIG}/changes"
NOWHERE = "http://127.0.0.1:1"
"""Nothing listens there: the settings matter, not the probes."""

FILE = Settings(targets=(TargetSettings(name="media", endpoint=NOWHERE, bucket="media"),))


@pytest.fixture
def two(config: Path) -> Path:
    media = target("media", NOWHERE, "media", breaker={"failure_threshold": 4})
    return write(config, media, media | {"name": "logs"})


def of(answer: Any, name: str = "media") -> Any:
    [found] = [each for each in answer["items"] if each["serviceName"] == name]
    return found


async def test_the_settings_in_force_are_shown_with_where_they_come_from(two: Path) -> None:
    async with running(two) as exporter:
        api = Api(exporter.url)
        before = await api.get(CONFIG)
        assert [each["serviceName"] for each in before["items"]] == ["media", "logs"]
        assert (of(before)["failureThreshold"], of(before)["overrides"], before["version"]) == (4, {}, 0)
        assert of(before).keys() == {"serviceName", *SETTINGS, "overrides"}

        await api.put(CONFIG, {"checkInterval": 15000, "failureThreshold": 5})
        after = await api.put(f"{CONFIG}?target=media", {"failureThreshold": 7})
        assert [each["serviceName"] for each in after["items"]] == ["media"]
        overrides = of(await api.get(CONFIG))["overrides"]
        assert {name: each["scope"] for name, each in overrides.items()} == {
            "checkInterval": "all",
            "failureThreshold": "target",
        }
        assert overrides["failureThreshold"]["fileValue"] == 4
        assert overrides["failureThreshold"]["changedBy"] == "anonymous"
        assert of(await api.get(CONFIG), "logs")["failureThreshold"] == 5


async def test_a_change_answers_what_is_different(two: Path) -> None:
    async with running(two) as exporter:
        api = Api(exporter.url)
        answer = await api.put(CONFIG, {"timeout": 700, "testOperations": ["list", "put"], "enabled": True})
        assert answer["changed"] == [
            {"serviceName": name, "setting": setting, "from": old, "to": new}
            for name in ("media", "logs")
            for setting, old, new in (
                ("timeout", 5000, 700),
                ("testOperations", ["put", "get", "delete"], ["put", "list"]),
            )
        ]
        assert (await api.put(CONFIG, {"timeout": 700}))["changed"] == []
        assert (await api.put(CONFIG, {}))["version"] == answer["version"] == 1
        back = await api.put(CONFIG, {"timeout": None}, status=200)
        assert {(each["from"], each["to"]) for each in back["changed"]} == {(700, 5000)}
        assert "timeout" not in of(back)["overrides"]


async def test_a_change_reaches_running_probes_and_thresholds_at_once(config: Path, storage: str) -> None:
    media = target("media", storage, "media", breaker={"enabled": False})
    async with running(write(config, media)) as exporter:
        api = Api(exporter.url)
        body = {"serviceName": "media", "checkInterval": 1000, "testOperations": ["list"]}
        await api.put(CONFIG, body | {"errorRateThreshold": 0.5, "slowResponseThreshold": 1500})
        await eventually(lambda: exporter.has_more(1, "r2_probes_total", operation="list"))
        samples = await exporter.metrics()
        shown = {
            name: samples("r2_config_threshold", target="media", name=name)
            for name in ("check_interval_seconds", "error_rate", "slow_response_seconds")
        }
        assert shown == {"check_interval_seconds": 1.0, "error_rate": 0.5, "slow_response_seconds": 1.5}


async def test_a_change_survives_a_kill(two: Path) -> None:
    async with serving_command(two) as exporter:
        await Api(exporter.url).put(f"{CONFIG}?target=logs", {"recoveryTimeout": 5000})
        exporter.process.kill()
        await exporter.process.wait()
    async with serving_command(two) as exporter:
        answer = await Api(exporter.url).get(f"{CONFIG}?target=logs")
        assert (of(answer, "logs")["recoveryTimeout"], answer["version"]) == (5000, 1)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"checkInterval": 999}, {"checkInterval": "must be a whole number from 1000 to 86400000"}),
        ({"timeout": 5000.5}, {"timeout": "must be a whole number from 10 to 300000"}),
        ({"timeout": "5s"}, {"timeout": "must be a whole number from 10 to 300000"}),
        ({"failureThreshold": True}, {"failureThreshold": "must be a whole number from 1 to 10000"}),
        ({"errorRateThreshold": 0}, {"errorRateThreshold": "must be a number above 0, up to 1"}),
        ({"enabled": 1}, {"enabled": "must be true or false"}),
        ({"testOperations": []}, {"testOperations": "must be a list from 1 to 5 long"}),
        ({"testOperations": ["put", "put"]}, {"testOperations": "without repetition"}),
        ({"testOperations": ["post"]}, {"testOperations.0": "one of put, get, head, list, delete"}),
        ({"checkinterval": 1000}, {"checkinterval": "unknown field; known here: serviceName, enabled"}),
        (
            {"timeout": 1, "enabled": "no", "failureThreshold": 3},
            {"timeout": "from 10", "enabled": "true or false"},
        ),
        ([], {"body": "must be an object"}),
    ],
)
async def test_a_value_that_does_not_fit_is_named_and_nothing_is_changed(
    two: Path, body: object, wrong: dict[str, str]
) -> None:
    async with running(two) as exporter:
        api = Api(exporter.url)
        found = wrong_fields(await api.put(CONFIG, body, 400))
        assert found.keys() == wrong.keys()
        assert all(message in found[field] for field, message in wrong.items()), found
        assert (await api.get(CONFIG))["version"] == 0


async def test_two_names_for_the_target_must_agree(two: Path) -> None:
    async with running(two) as exporter:
        api = Api(exporter.url)
        wrong = await api.put(f"{CONFIG}?target=logs", {"serviceName": "media", "timeout": 700}, 409)
        assert wrong["error"]["code"] == "two_targets"
        assert (await api.put(CONFIG, {"serviceName": "gone"}, 404))["error"]["code"] == "unknown_target"
        await api.get(f"{CONFIG}?target=gone", 404)


async def test_an_etag_guards_against_a_lost_update(two: Path) -> None:
    async with running(two) as exporter:
        api = Api(exporter.url)
        for path in (CONFIG, f"{CONFIG}?target=media"):
            tag = await api.etag(path)
            assert await api.status("GET", path, {"If-None-Match": f'"other", W/{tag}'}) == 304
            done = await api.put(path, {"timeout": 700}, headers={"If-Match": tag})
            assert done["etag"] == await api.etag(path)
            late = await api.put(path, {"timeout": 900}, 412, headers={"If-Match": tag})
            assert late["error"]["code"] == "changed_meanwhile"
            assert of(await api.get(path))["timeout"] == 700
            assert await api.status("GET", path, {"If-None-Match": tag}) == 200
            await api.put(path, {"timeout": None}, headers={"If-Match": "*"})
            await api.put(path, {}, 412, headers={"If-Match": f"W/{await api.etag(path)}"})


async def test_a_reload_of_the_file_changes_the_etag(two: Path) -> None:
    async with running(two) as exporter:
        api = Api(exporter.url)
        tag = await api.etag(CONFIG)
        write(two, target("media", NOWHERE, "media"))
        await exporter.app.reload()
        await api.put(CONFIG, {"timeout": 700}, 412, headers={"If-Match": tag})


async def test_who_changed_what_is_in_the_audit_trail(config: Path) -> None:
    token = config.with_name("token")
    token.write_text("a-token-of-enough-length")
    tokens = [{"name": "deploy", "token_file": str(token), "scope": "write"}]
    write(config, target("media", NOWHERE, "media"), api={"tokens": tokens})
    async with running(config) as exporter:
        api = Api(exporter.url)
        headers = {"Authorization": "Bearer a-token-of-enough-length"}
        await api.put(CONFIG, {"timeout": 700, "enabled": False}, headers=headers)
        await api.put(f"{CONFIG}?target=media", {"timeout": 900}, headers=headers)
        page = await api.get(f"{CHANGES}?limit=1")
        [newest] = page["items"]
        assert (page["total"], newest["by"], newest["change"]) == (3, "deploy", 2)
        assert (newest["serviceName"], newest["setting"]) == ("media", "timeout")
        assert (newest["from"], newest["to"]) == (None, 900)
        rest = (await api.get(page["next"]))["items"] + (await api.get(f"{CHANGES}?offset=2"))["items"]
        assert {(each["serviceName"], each["setting"], each["to"]) for each in rest} == {
            (None, "timeout", 700),
            (None, "enabled", False),
        }


async def test_a_change_can_be_taken_back(two: Path) -> None:
    async with running(two) as exporter:
        api = Api(exporter.url)
        await api.put(f"{CONFIG}?target=logs", {"timeout": 700})
        await api.put(CONFIG, {"timeout": 900, "enabled": False})
        answer = await api.post(f"{CHANGES}/2/revert")
        values = {name: of(answer, name)["timeout"] for name in ("media", "logs")}
        assert values == {"media": 5000, "logs": 700}
        assert of(answer)["enabled"]
        assert answer["version"] == 3
        unknown = await api.post(f"{CHANGES}/9/revert", 404)
        assert unknown["error"]["code"] == "unknown_change"
        wrong = wrong_fields(await api.post(f"{CHANGES}/x/revert", 400))
        assert wrong == {"change": f"must be a whole number from 1 to {MOST}"}
        twice = wrong_fields(await api.post(f"{CHANGES}/2/revert?change=3", 400))
        assert twice == {"change": "stands in the path already"}


async def test_without_a_history_nothing_is_changed(config: Path) -> None:
    write(config, target("media", NOWHERE, "media"))
    config.with_name("r2-exporter.db").mkdir()
    async with running(config) as exporter:
        api = Api(exporter.url)
        refused = await api.put(CONFIG, {"timeout": 700}, 503)
        assert refused["error"]["code"] == "history_unavailable"
        assert of(await api.get(CONFIG))["timeout"] == 5000


async def test_a_history_that_is_begun_anew_holds_what_is_in_force(config: Path, failing: str) -> None:
    breaker = {"failure_threshold": 1, "recovery_timeout": "1h"}
    write(config, target("media", failing, "media", breaker=breaker))
    database = config.with_name("r2-exporter.db")

    def kept(sql: str) -> list[Any]:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    async with serving_command(config) as exporter:
        api = Api(exporter.url)
        await api.put(CONFIG, {"timeout": 700})
        await api.check()
        for path in config.parent.glob("r2-exporter.db*"):
            path.unlink()
        await api.post("/api/health/check")

        async def carried_over() -> bool:
            try:
                return bool(kept("SELECT 1 FROM circuit_breaker_events"))
            except sqlite3.OperationalError:  # it is not there yet, or has no table yet
                return False

        await eventually(carried_over)
        assert kept("SELECT setting, value FROM health_check_config WHERE value IS NOT NULL") == [
            ("timeout", "700")
        ]
        exporter.process.kill()
        await exporter.process.wait()
    async with serving_command(config) as exporter:
        assert of(await Api(exporter.url).get(CONFIG))["timeout"] == 700
        samples = await Client(exporter.url).metrics()
        assert samples("r2_circuit_breaker_state", target="media", state="open") == 1


async def test_a_history_that_could_not_be_read_at_the_start_is_obeyed_later(two: Path) -> None:
    database = two.with_name("r2-exporter.db")
    async with running(two) as exporter:
        await Api(exporter.url).put(CONFIG, {"timeout": 700})
    away = database.rename(two.with_name("away.db"))
    database.mkdir()
    async with running(two) as exporter:
        assert of(await Api(exporter.url).get(CONFIG))["timeout"] == 5000
        database.rmdir()
        shutil.copy(away, database)

        async def obeyed() -> bool:
            return bool(of(await Api(exporter.url).get(CONFIG))["timeout"] == 700)

        await eventually(obeyed)


def test_the_api_and_the_file_take_the_same_values() -> None:
    schema = ConfigChange.model_json_schema()["properties"]
    assert schema.keys() - {"serviceName"} == SETTINGS.keys()
    assert (
        TargetConfig.model_json_schema()["properties"].keys() - {"serviceName", "overrides"}
        == SETTINGS.keys()
    )
    checked = 0
    for name in SETTINGS:
        [kind] = [each for each in schema[name]["anyOf"] if each.get("type") != "null"]
        for value, allowed in _edges(kind):
            checked += 1
            assert _api_takes(name, value) == _file_takes(name, value) == allowed, (name, value)
    assert checked > 25


def _edges(kind: dict[str, Any]) -> list[tuple[Any, bool]]:
    match kind:
        case {"minimum": least, "maximum": most}:
            return [(least - 1, False), (least, True), (most, True), (most + 1, False)]
        case {"exclusiveMinimum": least, "maximum": most}:
            return [(least, False), (least + 0.001, True), (most, True), (most + 0.001, False)]
        case {"type": "array"}:
            return [([], False), (["get"], True), (["get", "get"], False), (["post"], False)]
        case _:
            return [(True, True), ("true-ish", False)]


def _api_takes(name: str, value: object) -> bool:
    try:
        ConfigChange.model_validate_json(json.dumps({name: value}), strict=True)
    except pydantic.ValidationError:
        return False
    return True


def _file_takes(name: str, value: object) -> bool:
    try:
        laid_over(FILE, {ALL: {name: value}})
    except SettingError:
        return False
    return True
