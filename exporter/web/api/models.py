"""What the endpoints answer. Durations are in milliseconds, times in RFC 3339, ratios from 0 to 1."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from exporter.breaker import State
from exporter.outcome import Operation, Phase, Reason

Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Answer(BaseModel):
    """An object of an answer; it has all its fields, and no others."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class ErrorDetail(BaseModel):
    """One thing that is wrong."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="allow")

    field: str
    """The parameter, or the place in the body."""

    message: str
    """What is allowed there."""


class ErrorBody(Answer):
    """What went wrong."""

    code: str
    """The kind of error, for programs."""

    message: str
    """What to do about it, for people."""

    details: list[ErrorDetail]
    """Each thing that is wrong, where there are several to say."""


class ErrorAnswer(Answer):
    """Every error has this form."""

    error: ErrorBody


# --- results ---


class Result(Answer):
    """The result of one operation, as it was kept."""

    id: Count
    checked_at: datetime
    """When the result was known."""

    target: str
    operation: Operation
    success: bool
    duration: Milliseconds
    """How long the operation took, in milliseconds."""

    phases: Mapping[Phase, Milliseconds]
    """How long its parts took, in milliseconds; a part that did not happen is absent."""

    reason: Reason | None
    """Why it failed."""

    s3_code: str | None
    """The error code that the storage gave."""

    status: int | None
    """The HTTP status, where there was an answer."""

    request_id: str | None
    """What the storage calls the request."""

    message: str | None
    """What happened, for people."""

    hint: str | None
    """What to look at."""


class ResultPage(Answer):
    """Some of the results that fit, newest first."""

    items: list[Result]
    total: Count
    """How many results fit in all."""

    limit: Count
    offset: Count
    next: str | None
    """The address of the next page; null on the last one."""


# --- sums ---


class Figures(Answer):
    """What the results of a period come to. Without any result, ratios and durations are null."""

    checks: Count
    """Operations that were performed: successes and failures."""

    failures: Count
    skipped: Count
    """Operations that were not sent, because the circuit breaker was open."""

    error_rate: Ratio | None
    """Share of the performed operations that failed."""

    availability: Ratio | None
    """Share of what was due that succeeded; what an open breaker skipped counts as down."""

    mean: Milliseconds | None
    """Mean duration, in milliseconds."""

    p50: Milliseconds | None
    """Median duration, in milliseconds, as the other percentiles right to 2.2 %."""

    p95: Milliseconds | None
    p99: Milliseconds | None
    max: Milliseconds | None
    """The longest duration, in milliseconds."""

    reasons: Mapping[Reason, Count]
    """How many failed for which reason."""


class OperationFigures(Figures):
    """The same of one operation of one target."""

    target: str
    operation: Operation


class Metrics(Answer):
    """Figures by target and operation."""

    since: Annotated[datetime, Field(alias="from")]
    """Where the period begins: at an hour, or beyond a week at a day (UTC)."""

    to: datetime
    """Where it ends: now."""

    hours: Count
    """How many hours were asked for."""

    items: list[OperationFigures]


# --- breakers ---


class TransitionSeen(Answer):
    """A change of a circuit breaker's state."""

    at: datetime
    from_state: State
    to_state: State
    cause: str
    """Why it changed, such as failure_threshold, recovery_timeout or by_hand."""

    calls: Count
    """Calls in the monitoring window at that moment."""

    failures: Count
    slow_calls: Count


class BreakerEventSeen(TransitionSeen):
    """The same as it was kept."""

    id: Count
    target: str
    operation: Operation | None
    """The operation that opened the breaker last."""

    recovery_timeout: Milliseconds | None
    """How long it stays open, in milliseconds."""


class BreakerSeen(Answer):
    """A circuit breaker now."""

    target: str
    state: State
    since: datetime
    """When it entered its state."""

    retry_after: Milliseconds | None
    """In how many milliseconds the next probe can be let through: 0 for now, null for never by itself."""

    calls: Count
    """Calls in the monitoring window."""

    failures: Count
    slow_calls: Count
    failure_ratio: Ratio | None
    """null without calls."""

    slow_call_ratio: Ratio | None
    """null without calls."""

    average_response_time: Milliseconds | None
    """The exponential moving average, in milliseconds; null without any call of late."""

    rejected: Count
    """How often it refused since the exporter began."""

    time_in_state: Mapping[State, Milliseconds]
    """How long it was in each state since the exporter began, in milliseconds."""

    last_transition: TransitionSeen | None
    """Its last change since the exporter began."""


class Breakers(Answer):
    """Circuit breakers, and what they did lately."""

    items: list[BreakerSeen]
    events: list[BreakerEventSeen] | None
    """The latest changes, newest first, at most 50; null while the history cannot be read."""


# --- alerts ---


class Monitored(Answer):
    """Whether a target is probed."""

    target: str
    """The target's name."""

    enabled: bool
    """Whether it is probed on its interval."""


class Monitoring(Answer):
    """Which targets are probed."""

    items: list[Monitored]
    """One for each target."""


class Alert(Answer):
    """An alert."""

    id: Count
    target: str
    type: str
    """circuit_breaker_open, high_error_rate, slow_response, service_degraded, service_recovered, or
    another type that Prometheus' rules have."""

    severity: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    message: str
    source: Literal["exporter", "alertmanager"]
    """Whether the exporter raised it itself, or Alertmanager told of it."""

    created_at: datetime
    updated_at: datetime
    notified_at: datetime | None
    """When somebody was told."""

    notified_by: str | None
    """The Alertmanager receiver that told somebody."""

    resolution_notified_at: datetime | None
    """When somebody was told that it was over."""

    resolved_at: datetime | None
    """When it was over; null while it is open."""

    resolved_by: str | None
    """Who resolved it; null if its condition ended."""

    notes: str | None
    """What that caller wrote down."""

    silence_id: str | None
    """The silence in Alertmanager that was set when it was resolved."""

    silenced_until: datetime | None


class AlertPage(Answer):
    """Some of the alerts that fit, newest first."""

    items: list[Alert]
    total: Count
    """How many alerts fit in all."""

    limit: Count
    offset: Count
    next: str | None
    """The address of the next page; null on the last one."""
