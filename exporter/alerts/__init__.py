"""Which alerts a target has: a local answer to the questions that the Prometheus rules ask. Pure."""

from exporter.alerts.kinds import ALERT_NAMES, SEVERITIES, Alert, AlertType, Change, End, Kind, Severity
from exporter.alerts.lifecycle import Kept, TargetAlerts

__all__ = [
    "ALERT_NAMES",
    "SEVERITIES",
    "Alert",
    "AlertType",
    "Change",
    "End",
    "Kept",
    "Kind",
    "Severity",
    "TargetAlerts",
]
