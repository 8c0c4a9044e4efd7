"""Settings changed at run time, laid over exporter.yaml. Pure.

A setting has the name and the unit that the API gives it: durations are in milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pydantic

from exporter.config import Settings, TargetSettings

ALL = ""
"""The name under which settings for all targets are kept."""

Changes = Mapping[str, Any]
"""Values by setting; None leaves a setting to exporter.yaml again."""

Overrides = Mapping[str, Changes]
"""Changes by target, or under ALL."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a setting stands in a target's settings; `scale` of its units are one of the configuration's."""

    section: Literal["probe", "breaker", "alerts"]
    key: str
    scale: int = 1


SETTINGS: Mapping[str, Place] = {
    "enabled": Place("probe", "enabled"),
    "checkInterval": Place("probe", "interval", 1000),
    "timeout": Place("probe", "timeout", 1000),
    "testOperations": Place("probe", "operations"),
    "failureThreshold": Place("breaker", "failure_threshold"),
    "recoveryTimeout": Place("breaker", "recovery_timeout", 1000),
    "monitoringWindow": Place("breaker", "monitoring_window", 1000),
    "slowCallThreshold": Place("breaker", "slow_call_threshold", 1000),
    "slowResponseThreshold": Place("alerts", "slow_response_threshold", 1000),
    "errorRateThreshold": Place("alerts", "error_rate_threshold"),
    "alertOnFailure": Place("alerts", "on_failure"),
    "alertOnRecovery": Place("alerts", "on_recovery"),
}


class SettingError(ValueError):
    """Values that a setting does not take; `problems` has a message for each setting."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{setting}: {message}" for setting, message in problems.items()))
        self.problems = problems


def laid_over(settings: Settings, overrides: Overrides) -> Settings:
    """The settings with what was changed at run time; what is said of one target goes before the rest.

    A target that is no longer there is passed over. Raises SettingError.
    """
    if not overrides:
        return settings
    everywhere = overrides.get(ALL, {})
    targets = tuple(
        _changed(target, {**_given(everywhere), **_given(overrides.get(target.name, {}))})
        for target in settings.targets
    )
    return settings.model_copy(update={"targets": targets})


def spread(overrides: Overrides, target: str, changes: Changes) -> dict[str, dict[str, Any]]:
    """What to change where: what is said of ALL takes back what was said of single targets before."""
    where = {target: dict(changes)}
    if target == ALL:
        for name, values in overrides.items():
            if name != ALL and (again := dict.fromkeys(set(values) & set(changes))):
                where[name] = again
    return where


def merged(overrides: Overrides, where: Overrides) -> dict[str, dict[str, Any]]:
    """The overrides after changes by target, with no empty ones left."""
    names = [*overrides, *(name for name in where if name not in overrides)]
    after = {name: _given({**overrides.get(name, {}), **where.get(name, {})}) for name in names}
    return {name: values for name, values in after.items() if values}


def in_force(target: TargetSettings) -> dict[str, Any]:
    """Every setting's value, as the API shows it."""
    return {name: _shown(target, place) for name, place in SETTINGS.items()}


def _given(changes: Changes) -> dict[str, Any]:
    return {setting: value for setting, value in changes.items() if value is not None}


def _shown(target: TargetSettings, place: Place) -> Any:
    value = getattr(getattr(target, place.section), place.key)
    if place.scale != 1:
        return round(value * place.scale)
    return [str(each) for each in value] if isinstance(value, tuple) else value


def _changed(target: TargetSettings, changes: Changes) -> TargetSettings:
    if not changes:
        return target
    unknown = {setting: "there is no such setting" for setting in changes if setting not in SETTINGS}
    if unknown:
        raise SettingError(unknown)
    sections: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for section in ("probe", "breaker", "alerts"):
        before = getattr(target, section)
        names = {SETTINGS[name].key: name for name in changes if SETTINGS[name].section == section}
        values = {SETTINGS[name].key: _unscaled(SETTINGS[name], changes[name]) for name in names.values()}
        try:
            sections[section] = type(before)(**{**dict(before), **values})
        except pydantic.ValidationError as error:
            for each in error.errors(include_url=False, include_context=False, include_input=False):
                key = str(each["loc"][0]) if each["loc"] else ""
                problems[names.get(key, key)] = each["msg"]
    if problems:
        raise SettingError(problems)
    return target.model_copy(update=sections)


def _unscaled(place: Place, value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value / place.scale if place.scale != 1 and is_number else value
