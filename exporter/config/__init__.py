"""The configuration: a YAML file, checked as a whole, as settings that never change."""

from exporter.config.alertmanager import AlertmanagerSettings, BasicAuth
from exporter.config.dump import dump
from exporter.config.load import load_settings
from exporter.config.model import (
    AlertSettings,
    BreakerSettings,
    ExporterSettings,
    HistorySettings,
    ProbeSettings,
)
from exporter.config.problem import ConfigError, Problem
from exporter.config.settings import ApiSettings, ApiToken, Settings, TargetSettings
from exporter.config.values import Secret

__all__ = [
    "AlertSettings",
    "AlertmanagerSettings",
    "ApiSettings",
    "ApiToken",
    "BasicAuth",
    "BreakerSettings",
    "ConfigError",
    "ExporterSettings",
    "HistorySettings",
    "ProbeSettings",
    "Problem",
    "Secret",
    "Settings",
    "TargetSettings",
    "dump",
    "load_settings",
]
