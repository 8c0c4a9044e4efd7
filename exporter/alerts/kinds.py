"""What an alert is, and what can happen to it: plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from exporter.outcome import Operation, Reason


class AlertType(StrEnum):
    """What an alert says of its target; there is at most one of each type."""

    CIRCUIT_BREAKER_OPEN = "circuit_breaker_open"
    HIGH_ERROR_RATE = "high_error_rate"
    SLOW_RESPONSE = "slow_response"
    SERVICE_DEGRADED = "service_degraded"
    SERVICE_RECOVERED = "service_recovered"


class Severity(StrEnum):
    """How much it matters, as JSON and SQLite have it. HIGH and CRITICAL page somebody."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"

    @property
    def label(self) -> str:
        """The same in the `severity` label of Prometheus and Alertmanager."""
        return _LABELS[self]


_LABELS: Mapping[Severity, str] = {
    Severity.LOW: "info",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "high",
    Severity.CRITICAL: "critical",
}

ALERT_NAMES: Mapping[AlertType, str] = {
    AlertType.CIRCUIT_BREAKER_OPEN: "R2CircuitBreakerOpen",
    AlertType.HIGH_ERROR_RATE: "R2HighErrorRate",
    AlertType.SLOW_RESPONSE: "R2SlowResponse",
    AlertType.SERVICE_DEGRADED: "R2ServiceDegraded",
    AlertType.SERVICE_RECOVERED: "R2ServiceRecovered",
}
"""The `alertname` label, as in the Prometheus rules."""

SEVERITIES: Mapping[AlertType, Severity] = {
    AlertType.CIRCUIT_BREAKER_OPEN: Severity.CRITICAL,
    AlertType.HIGH_ERROR_RATE: Severity.HIGH,
    AlertType.SLOW_RESPONSE: Severity.MEDIUM,
    AlertType.SERVICE_DEGRADED: Severity.MEDIUM,
    AlertType.SERVICE_RECOVERED: Severity.LOW,
}


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert of a target. `message` is one line for people.

    `operations` are those that failed lately, or were slow; `reason`, `s3_code` and `request_id` belong to
    the failure that is most common among them. Nothing else that a storage says is repeated here.
    """

    target: str
    type: AlertType
    message: str
    operations: tuple[Operation, ...] = ()
    reason: Reason | None = None
    s3_code: str = ""
    request_id: str = ""

    @property
    def severity(self) -> Severity:
        return SEVERITIES[self.type]

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the Prometheus rule, so that both are one alert to Alertmanager."""
        return {
            "alertname": ALERT_NAMES[self.type],
            "target": self.target,
            "type": self.type.value,
            "severity": self.severity.label,
        }


class Kind(StrEnum):
    """What happened to an alert."""

    RAISED = "raised"
    UPDATED = "updated"
    RESOLVED = "resolved"
    FORGOTTEN = "forgotten"
    """Over, which is no news: it was resolved by hand, and may come back now, or another exporter has it."""


class End(StrEnum):
    """Why an alert is over."""

    CONDITION = "condition"
    """What it says is no longer so."""
    BY_HAND = "by_hand"
    SETTINGS = "settings"
    """By the settings of now it would not be one, or such alerts were turned off."""
    TARGET_GONE = "target_gone"


@dataclass(frozen=True, slots=True)
class Change:
    """Something happened to an alert; `end` says why it was resolved."""

    kind: Kind
    alert: Alert
    end: End | None = None
