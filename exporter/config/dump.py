"""Settings as a configuration file again, for people to see what is in effect."""

from typing import Any

import yaml
from pydantic import BaseModel

from exporter.config.alertmanager import AlertmanagerSettings
from exporter.config.contradiction import SECRETS
from exporter.config.settings import Settings, TargetSettings

_OVERRIDABLE = ("probe", "breaker", "alerts")


def dump(settings: Settings) -> str:
    """The effective settings as YAML that loads again, defaults filled in.

    Secrets show as `***`, or as the file they came from; a target lists what it has different from
    the probe, breaker and alerts sections above it.
    """
    sections = settings.model_dump(
        mode="json",
        exclude={
            "targets": True,
            "api": {"token": True, "tokens": {"__all__": {"token"}}},
            "alertmanager": _from_files(settings.alertmanager),
        },
    )
    targets = [_target(target, settings) for target in settings.targets]
    written = _escaped({**sections, "targets": targets})
    return yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=110)


def _from_files(alertmanager: AlertmanagerSettings) -> dict[str, Any]:
    login = alertmanager.basic_auth
    return {
        "bearer_token": alertmanager.bearer_token_file is not None,
        "basic_auth": {"password": login is not None and login.password_file is not None},
    }


def _target(target: TargetSettings, settings: Settings) -> dict[str, Any]:
    from_file = {key for key in SECRETS if getattr(target, f"{key}_file")}
    written = target.model_dump(mode="json", exclude={*_OVERRIDABLE, *from_file}, exclude_none=True)
    for section in _OVERRIDABLE:
        if different := _difference(getattr(settings, section), getattr(target, section)):
            written[section] = different
    return written


def _difference(defaults: BaseModel, effective: BaseModel) -> dict[str, Any]:
    usual = defaults.model_dump(mode="json")
    return {key: value for key, value in effective.model_dump(mode="json").items() if value != usual[key]}


def _escaped(value: Any) -> Any:
    """A copy in which no text is taken for an environment variable."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value
