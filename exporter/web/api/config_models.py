"""What the endpoints of the configuration take and answer. Durations are whole milliseconds."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from exporter.outcome import Operation
from exporter.web.api.checking import Operations
from exporter.web.api.models import Answer, Count
from exporter.web.api.parameters import INTEGRAL, MOST, WHOLE, Body, Query, TargetName

DAY = 86_400_000
HOUR = 3_600_000
Interval = Annotated[int, Field(ge=1000, le=DAY), INTEGRAL]
Threshold = Annotated[int, Field(ge=1, le=HOUR), INTEGRAL]
Milliseconds = Annotated[int, Field(ge=0)]
Value = int | float | bool | list[str] | None


class ConfigChange(Body):
    """What to change: those settings that are given. With null a setting is exporter.yaml's again."""

    service_name: TargetName | None = None
    """The target's name, as `target` in the query; without either, all targets."""

    enabled: bool | None = None
    """Whether it is probed on its interval."""

    check_interval: Interval | None = None
    """How often it is probed, in milliseconds."""

    timeout: Annotated[int, Field(ge=10, le=300_000), INTEGRAL] | None = None
    """The longest that one operation may take, in milliseconds."""

    test_operations: Operations | None = None
    """The operations of a run, in any order."""

    failure_threshold: Annotated[int, Field(ge=1, le=10_000), INTEGRAL] | None = None
    """Failures within the monitoring window that open the circuit breaker."""

    recovery_timeout: Interval | None = None
    """How long it stays open before a probe tries again, in milliseconds."""

    monitoring_window: Interval | None = None
    """How far back operations count, in milliseconds."""

    slow_call_threshold: Threshold | None = None
    """From which duration on an operation counts as slow for the circuit breaker, in milliseconds."""

    slow_response_threshold: Threshold | None = None
    """The response time that raises slow_response, in milliseconds."""

    error_rate_threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """The share of failed operations that raises high_error_rate."""

    alert_on_failure: bool | None = None
    """Whether to alert when a target fails."""

    alert_on_recovery: bool | None = None
    """Whether to alert when a target has recovered."""

    def changes(self) -> dict[str, Any]:
        """What is given, by setting."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"service_name"})


class Override(Answer):
    """A setting that was changed at run time."""

    scope: Literal["target", "all"]
    """Whether it was changed for this target, or for all."""

    file_value: Value
    """What exporter.yaml says, and what is in force again once null is set."""

    changed_at: datetime
    changed_by: str


class TargetConfig(Answer):
    """The settings in force for a target."""

    service_name: str
    """The target's name."""

    enabled: bool
    check_interval: Milliseconds
    """In milliseconds."""

    timeout: Milliseconds
    """In milliseconds."""

    test_operations: list[Operation]
    failure_threshold: Count
    recovery_timeout: Milliseconds
    """In milliseconds."""

    monitoring_window: Milliseconds
    """In milliseconds."""

    slow_call_threshold: Milliseconds
    """In milliseconds."""

    slow_response_threshold: Milliseconds
    """In milliseconds."""

    error_rate_threshold: float
    alert_on_failure: bool
    alert_on_recovery: bool
    overrides: Mapping[str, Override]
    """Those of them that were changed at run time, by setting; the others are exporter.yaml's."""


class Config(Answer):
    """The settings in force."""

    version: Count
    """The number of the last change at run time."""

    items: list[TargetConfig]


class Changed(Answer):
    """A setting of a target that has another value now."""

    service_name: str
    """The target's name."""

    setting: str
    from_value: Annotated[Value, Field(alias="from")]
    to_value: Annotated[Value, Field(alias="to")]


class ConfigChanged(Config):
    """The settings in force after a change."""

    changed: list[Changed]
    """What is different now; empty if all was so before."""

    etag: str
    """The ETag that GET has now, for the next If-Match."""


class AuditEntry(Answer):
    """A setting that was changed at run time."""

    change: Count
    """The number of the change; what was changed by one request has the same."""

    at: datetime
    by: str
    """The name of the token or login, or anonymous."""

    service_name: str | None
    """The target's name; null for all targets."""

    setting: str
    from_value: Annotated[Value, Field(alias="from")]
    """What had been set before; null for exporter.yaml's value."""

    to_value: Annotated[Value, Field(alias="to")]
    """What was set; null for exporter.yaml's value."""


class AuditPage(Answer):
    """Some of the changes, newest first."""

    items: list[AuditEntry]
    total: Count
    """How many there are in all."""

    limit: Count
    offset: Count
    next: str | None
    """The address of the next page; null on the last one."""


class OfChange(Query):
    """Which change is meant."""

    change: Annotated[int, Field(ge=1, le=MOST), WHOLE]
    """The number of the change."""
