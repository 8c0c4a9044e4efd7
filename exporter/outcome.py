"""What a probe says: the plain values that metrics, history and alerts read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Operation(StrEnum):
    """The probed S3 operations, in the order a run performs them."""

    PUT = "put"
    GET = "get"
    HEAD = "head"
    LIST = "list"
    DELETE = "delete"


class Reason(StrEnum):
    """Why an operation failed; each failure has exactly one."""

    TIMEOUT = "timeout"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    AUTH = "auth"
    THROTTLED = "throttled"
    SERVER = "server"
    CLIENT = "client"
    INTEGRITY = "integrity"
    OTHER = "other"


class SkipReason(StrEnum):
    """Why a due operation was not sent; a skip is neither success nor failure."""

    CIRCUIT_OPEN = "circuit_open"
    OVERRUN = "overrun"
    STOPPED = "stopped"


class Phase(StrEnum):
    """The parts of one request, in the order they happen."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    PROCESSING = "processing"
    TRANSFER = "transfer"


class BillingClass(StrEnum):
    """R2's price classes (https://developers.cloudflare.com/r2/pricing/)."""

    A = "A"
    B = "B"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed operation: one reason, and what a person needs to mend it."""

    reason: Reason
    message: str
    s3_code: str = ""
    hint: str = ""
    ours: bool = False
    """Whether it was this machine that failed, and nothing is known of the storage."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one operation on one target. Durations and times are in seconds.

    `started_at` is wall-clock (Unix) time and serves for display only; `duration` and
    `phases` come from the monotonic clock. A phase that did not happen is absent.
    """

    target: str
    operation: Operation
    started_at: float
    duration: float
    phases: Mapping[Phase, float] = field(default_factory=dict)
    status: int | None = None
    request_id: str = ""
    failure: Failure | None = None
    billed: BillingClass | None = None
    reconnected: bool = False
    certificate_expiry: float | None = None
    clock_skew: float | None = None

    @property
    def success(self) -> bool:
        return self.failure is None
