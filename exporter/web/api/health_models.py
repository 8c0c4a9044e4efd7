"""What the endpoints of health and of immediate checks answer."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from exporter.breaker import State
from exporter.outcome import Operation, Phase, Reason, SkipReason
from exporter.web.api.models import Answer, Count, Figures, Milliseconds, Ratio


class Performed(Answer):
    """An operation of an immediate check."""

    operation: Operation
    result: Literal["success", "failure", "skipped"]
    duration: Milliseconds | None
    """In milliseconds; null if it was skipped."""

    phases: Mapping[Phase, Milliseconds]
    """How long its parts took, in milliseconds; a part that did not happen is absent."""

    reason: Reason | SkipReason | None
    """Why it failed or was skipped."""

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


class TargetCheck(Answer):
    """What an immediate check of one target found."""

    target: str
    success: bool
    """Whether all operations were performed and succeeded."""

    operations: list[Performed]


class CheckAnswer(Answer):
    """What an immediate check found."""

    checked_at: datetime
    success: bool
    """Whether all targets are fine."""

    results: list[TargetCheck]


class HealthStatus(StrEnum):
    """unknown: nothing was probed yet, or probing is stopped."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class OperationHealth(Answer):
    """One operation: its last result, and its figures of the last 24 hours."""

    operation: Operation
    success: bool | None
    """Whether it succeeded last; null without a result since the exporter began."""

    checked_at: datetime | None
    """When its last check began."""

    duration: Milliseconds | None
    """How long it took last, in milliseconds."""

    reason: Reason | None
    """Why it failed last."""

    message: str | None
    """What happened, for people."""

    hint: str | None
    """What to look at."""

    last_24h: Annotated[Figures | None, Field(alias="last24h")]
    """null while the history cannot be read."""


class Uptime(Answer):
    """The share of operations due that succeeded; null without any, or while the history cannot be read."""

    last_24h: Annotated[Ratio | None, Field(alias="last24h")]
    last_30d: Annotated[Ratio | None, Field(alias="last30d")]


class BreakerBrief(Answer):
    """A circuit breaker's state; /api/health/circuit-breaker has more."""

    state: State
    since: datetime
    """When it entered its state."""

    retry_after: Milliseconds | None
    """In how many milliseconds the next probe can be let through: 0 for now, null for never by itself."""


class TargetHealth(Answer):
    """How one target stands."""

    target: str
    status: HealthStatus
    reasons: list[str]
    """Why it is not healthy."""

    enabled: bool
    """Whether it is probed on its interval."""

    circuit_breaker: BreakerBrief
    uptime: Uptime
    operations: list[OperationHealth]


class HistoryHealth(Answer):
    """How the history stands."""

    status: Literal["available", "unavailable"]
    error: str | None
    """What keeps it from being written or read."""

    failed_since: datetime | None
    written: Count
    """Results and events written since the exporter began."""

    dropped: Count
    """Results lost because they could not be written in time."""

    queued: Count
    """Results that wait to be written."""

    size: Count
    """In bytes."""


class Health(Answer):
    """How the storage stands, as far as it is probed."""

    status: HealthStatus
    """healthy or unhealthy if all probed targets are, degraded between the two."""

    reasons: list[str]
    """Why it is not healthy, and what else is wrong."""

    checked_at: datetime
    """When this was answered."""

    version: str
    """The exporter's."""

    shard: int
    """Which of the exporters that share the targets this is, from 0. It knows its own targets alone."""

    total_shards: int
    """How many exporters share the targets."""

    uptime: Uptime
    """Over all targets."""

    targets: list[TargetHealth]
    history: HistoryHealth
