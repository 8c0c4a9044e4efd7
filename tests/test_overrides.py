"""Settings changed at run time: laid over the file, kept, taken back."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Settings, TargetSettings
from exporter.history import HistoryUnavailableError
from exporter.history.overrides import ChangedMeanwhileError, changes_page, values_before
from exporter.overrides import ALL, SETTINGS, SettingError, in_force, laid_over, merged, spread
from tests.running import Client, eventually, running, serving_command, target, write

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "enabled": st.booleans(),
    "checkInterval": st.integers(1000, 86_400_000),
    "timeout": st.integers(10, 300_000),
    "testOperations": st.sampled_from([["put", "get"], ["get", "list"], ["put", "get", "delete"]]),
    "failureThreshold": st.integers(1, 10_000),
    "recoveryTimeout": st.integers(1000, 86_400_000),
    "monitoringWindow": st.integers(1000, 86_400_000),
    "slowCallThreshold": st.integers(1, 3_600_000),
    "slowResponseThreshold": st.integers(1, 3_600_000),
    "errorRateThreshold": st.sampled_from([0.01, 0.2, 1]),
    "alertOnFailure": st.booleans(),
    "alertOnRecovery": st.booleans(),
}
changes = st.fixed_dictionaries({}, optional=VALUES)
FILE = Settings(
    targets=tuple(
        TargetSettings(name=name, endpoint="https://s3.example.org", bucket=name)
        for name in ("media", "logs")
    )
)


def test_every_setting_is_tried() -> None:
    assert VALUES.keys() == SETTINGS.keys()


@given(changes, changes)
def test_what_is_said_of_a_target_goes_before_what_is_said_of_all(
    everywhere: dict[str, Any], media: dict[str, Any]
) -> None:
    before = {each.name: in_force(each) for each in FILE.targets}
    after = laid_over(FILE, {ALL: everywhere, "media": media, "gone": {"timeout": 1000}})
    shown = {each.name: in_force(each) for each in after.targets}
    assert shown == {
        "media": before["media"] | everywhere | media,
        "logs": before["logs"] | everywhere,
    }
    assert in_force(FILE.targets[0]) == before["media"]


@given(changes, changes)
def test_none_leaves_a_setting_to_the_file_again(first: dict[str, Any], second: dict[str, Any]) -> None:
    overrides = merged(merged({}, {"media": first}), {"media": second})
    assert overrides.get("media", {}) == first | second
    assert merged(overrides, {"media": dict.fromkeys(SETTINGS)}) == {}


@given(changes, changes)
def test_what_is_said_of_all_later_goes_before_what_was_said_of_a_target(
    media: dict[str, Any], everywhere: dict[str, Any]
) -> None:
    overrides = merged({}, {"media": media})
    after = merged(overrides, spread(overrides, ALL, everywhere))
    before = in_force(FILE.targets[0])
    assert in_force(laid_over(FILE, after).targets[0]) == before | media | everywhere


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"checkInterval": 1}, "must be between 1s and 1d"),
        ({"failureThreshold": 0}, "greater than or equal to 1"),
        ({"errorRateThreshold": 1.5}, "less than or equal to 1"),
        ({"testOperations": []}, "at least one operation"),
        ({"testOperations": ["post"]}, "'put', 'get', 'head', 'list' or 'delete'"),
        ({"interval": 1000}, "no such setting"),
    ],
)
def test_a_value_that_a_setting_does_not_take_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as error:
        laid_over(FILE, {ALL: wrong})
    assert error.value.problems.keys() == wrong.keys()
    assert message in str(error.value)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    # Nothing listens there: the settings matter, not the probes.
    media = target("media", "http://127.0.0.1:1", "media")
    return write(tmp_path / "exporter.yaml", media, media | {"name": "logs"})


async def test_a_change_is_in_force_at_once_and_after_a_restart(config: Path) -> None:
    async with running(config) as exporter:
        await exporter.app.change(ALL, {"recoveryTimeout": 5000, "failureThreshold": 5}, "ops")
        await exporter.app.change("media", {"failureThreshold": 7}, "ops")
        threshold = (await exporter.metrics())(
            "r2_config_threshold", target="media", name="failure_threshold"
        )
        assert threshold == 7
    async with running(config) as exporter:
        shown = {name: in_force(each.settings) for name, each in exporter.app.targets.items()}
        assert [shown[name]["failureThreshold"] for name in ("media", "logs")] == [7, 5]
        assert shown["media"]["recoveryTimeout"] == 5000
        assert exporter.app.changed.kept.version == 2


async def test_a_reload_of_the_file_keeps_what_was_changed(config: Path) -> None:
    async with running(config) as exporter:
        await exporter.app.change("media", {"timeout": 700}, "ops")
        write(config, target("media", "http://127.0.0.1:1", "media", labels={"team": "web"}))
        await exporter.app.reload()
        [media] = exporter.app.targets.values()
        assert (in_force(media.settings)["timeout"], media.settings.labels) == (700, {"team": "web"})


async def test_who_changed_what_is_kept_and_can_be_taken_back(config: Path) -> None:
    async with running(config) as exporter:
        await exporter.app.change("media", {"timeout": 700, "enabled": False}, "deploy")
        await exporter.app.change("media", {"timeout": 900}, "ops")
        total, rows = await exporter.app.history.read(lambda connection: changes_page(connection, 2, 0))
        assert total == 3
        assert [(row["changed_by"], row["setting"], row["old_value"], row["new_value"]) for row in rows] == [
            ("ops", "timeout", "700", "900"),
            ("deploy", "enabled", None, "false"),
        ]
        before = await exporter.app.history.read(lambda connection: values_before(connection, 2))
        for name, values in before.items():
            await exporter.app.change(name, values, "ops")
        assert exporter.app.changed.kept.values == {"media": {"timeout": 700, "enabled": False}}


async def test_two_writers_cannot_overwrite_each_other_unseen(config: Path) -> None:
    async with running(config) as exporter:
        version = exporter.app.changed.kept.version
        await exporter.app.change(ALL, {"timeout": 700}, "one", version)
        with pytest.raises(ChangedMeanwhileError):
            await exporter.app.change(ALL, {"timeout": 900}, "two", version)
        assert exporter.app.changed.kept.values == {ALL: {"timeout": 700}}


async def test_a_change_that_cannot_be_kept_is_not_made(config: Path) -> None:
    write(config, target("media", "http://127.0.0.1:1", "media"))
    config.with_name("r2-exporter.db").mkdir()
    async with running(config) as exporter:
        with pytest.raises(HistoryUnavailableError):
            await exporter.app.change(ALL, {"timeout": 700}, "ops")
        [media] = exporter.app.targets.values()
        assert in_force(media.settings)["timeout"] == 5000


async def test_a_target_that_is_stopped_counts_its_turns_as_such(config: Path) -> None:
    media = target("media", "http://127.0.0.1:1", "media", probe={"interval": "1s", "enabled": False})
    async with serving_command(write(config, media)) as exporter:
        client = Client(exporter.url)
        await eventually(
            lambda: client.has_more(1, "r2_probes_skipped_total", operation="get", reason="stopped")
        )
        assert (await client.metrics())("r2_probes_total") == 0
