"""What a configuration file may say: its sections, their defaults and their bounds.

Durations are held in seconds, sizes in bytes. The docstrings are what editors show.
"""

import re
import socket
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from exporter.config.alertmanager import AlertmanagerSettings
from exporter.config.document import Section
from exporter.config.values import (
    AtLeastOne,
    Credential,
    Duration,
    Matching,
    Size,
    Url,
    duration_between,
    size_between,
)
from exporter.outcome import Operation, Reason

RESERVED_LABELS = frozenset(
    {"target", "operation", "instance", "job", "bucket", "endpoint", "region", "phase"}
    | {"reason", "result", "state"}
)
_NAME = Matching(r"\S(.{0,126}\S)?", "1 to 128 printable characters without spaces around them")
_INSTANCE = Matching(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    "1 to 63 letters, digits, dots, dashes or underscores, beginning with a letter or digit",
)
_ACCOUNT_ID = Matching(
    r"[0-9a-fA-F]{16,32}", "the 32 hexadecimal digits that Cloudflare's dashboard shows on R2's overview"
)
_BUCKET = Matching(r"[A-Za-z0-9._-]{3,63}", "3 to 63 letters, digits, dots, dashes or underscores")
_REGION = Matching(r"[A-Za-z0-9-]{1,64}", "a region such as auto or us-east-1")
_KEY_PREFIX = Matching(
    r"(?!/)(?!(.*/)?\.{0,2}/)[A-Za-z0-9!_.*'()/-]{0,199}/",
    "a prefix such as .r2-exporter/: at most 200 of the characters A-Z a-z 0-9 ! _ . * ' ( ) - / that end "
    "with a slash, begin with none and have no empty, . or .. part",
)
_LABEL_NAME = Matching(
    rf"(?!__)(?!({'|'.join(sorted(RESERVED_LABELS))})$)[a-zA-Z_][a-zA-Z0-9_]*",
    "a Prometheus label name (letters, digits and _) that begins neither with a digit nor with __ and is "
    f"none of {', '.join(sorted(RESERVED_LABELS))}",
)
_ORIGIN = Matching(
    r"\*|https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?",
    "* or an origin such as https://dashboard.example.org",
)
_TOKEN_NAME = Matching(
    r"(?!(api|anonymous)$)[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    "1 to 63 letters, digits, dots, dashes or underscores, beginning with a letter or digit, but not api "
    "(the token of api.token_file) nor anonymous (who calls without one)",
)

Ratio = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"expected {_NAME.expected}")
    return text


def _in_order(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    if len(set(operations)) < len(operations):
        raise ValueError("names an operation twice")
    return tuple(operation for operation in Operation if operation in operations)


def _once(reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    return tuple(reason for reason in Reason if reason in reasons)


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:63].strip("-._") or "exporter"


class ExporterSettings(Section):
    """The exporter itself."""

    instance: Annotated[str, _INSTANCE] = Field(default_factory=_host_name)
    """This exporter's name inside the keys it writes; differs between exporters that share a bucket.
    Default: the host's name."""

    probes_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 500
    """How many probes may run at the same time, over all targets."""


class ProbeSettings(Section):
    """What a probe does and when."""

    enabled: bool = True
    """Whether a target is probed on its interval; if not, its turns count as stopped."""

    interval: Annotated[Duration, duration_between("1s", "1d")] = 30.0
    """How often a target is probed."""

    timeout: Annotated[Duration, duration_between("10ms", "5m")] = 5.0
    """The longest one operation may take, from resolving the name to the last byte."""

    operations: Annotated[tuple[Operation, ...], AtLeastOne("operation"), AfterValidator(_in_order)] = (
        Operation.PUT,
        Operation.GET,
        Operation.DELETE,
    )
    """The operations of a run, in any order: put, get, head, list, delete. Without put, get and head
    ask for an object that does not exist, so that read-only keys suffice."""

    key_prefix: Annotated[str, _KEY_PREFIX] = ".r2-exporter/"
    """Where in the bucket the probe's objects live; nothing outside it is ever written or deleted."""

    object_size: Annotated[Size, size_between("1B", "1MiB")] = 1024
    """The size of the object that put writes."""

    fresh_connection_every: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Every so many runs a new connection is opened, so that connect and TLS stay measured:
    1 for every run, 0 to keep connections as long as possible."""


class BreakerSettings(Section):
    """When a target's circuit breaker opens and closes."""

    enabled: bool = True
    """Whether it opens at all; probes go on through an outage if not."""

    failure_threshold: Annotated[int, Field(ge=1, le=10_000)] = 3
    """Failures within the monitoring window that open the breaker."""

    failure_rate_threshold: Ratio | None = None
    """The share of failed calls, from 0 to 1, that opens it too, once there are minimum_calls."""

    slow_call_threshold: Annotated[Duration, duration_between("1ms", "1h")] = 2.0
    """From which duration on a call counts as slow."""

    slow_call_rate_threshold: Ratio | None = None
    """The share of slow calls, from 0 to 1, that opens it too, once there are minimum_calls."""

    minimum_calls: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Calls that the monitoring window must hold before a share counts."""

    monitoring_window: Annotated[Duration, duration_between("1s", "1d")] = 300.0
    """How far back calls count."""

    recovery_timeout: Annotated[Duration, duration_between("1s", "1d")] = 60.0
    """How long an open breaker waits before it lets a probe try again."""

    recovery_timeout_multiplier: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] = 1.0
    """How many times longer it waits after each try that failed."""

    recovery_timeout_max: Annotated[Duration, duration_between("1s", "1d")] = 3600.0
    """The longest that this wait grows to."""

    half_open_max_calls: Annotated[int, Field(ge=1, le=100)] = 1
    """How many probes may try at the same time while the breaker is half open."""

    half_open_successes: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many tries must succeed, with none failed, before it closes."""

    half_open_max_wait: Annotated[Duration, duration_between("1s", "1d")] = 60.0
    """How long a try may stay without a result before it counts as failed."""

    ewma_half_life: Annotated[Duration, duration_between("1s", "1d")] = 60.0
    """After how long a call weighs half as much in the moving average of response times."""

    failure_reasons: Annotated[tuple[Reason, ...], AtLeastOne("reason"), AfterValidator(_once)] = tuple(
        Reason
    )
    """Which failures count; the others are taken for answers of a storage that works."""


class AlertSettings(Section):
    """When a target raises an alert."""

    error_rate_threshold: Ratio = 0.2
    """The share of failed operations, from 0 to 1, that raises high_error_rate."""

    slow_response_threshold: Annotated[Duration, duration_between("1ms", "1h")] = 2.0
    """The response time that raises slow_response."""

    on_failure: bool = True
    """Alert when a target fails."""

    on_recovery: bool = True
    """Alert when a target has recovered."""

    slo_objective: Annotated[float, Field(ge=0.5, le=0.99999, allow_inf_nan=False)] = 0.999
    """The share of operations that is to succeed over 30 days; the rest is the error budget."""

    monthly_budget: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = 10.0
    """Dollars that probing the target may cost in 30 days, at R2's prices."""


class HistorySettings(Section):
    """The database of past results."""

    retention: Annotated[Duration, duration_between("1h", "10y")] = 30 * 86_400.0
    """How long results are kept."""

    max_size: Annotated[Size, size_between("16MiB", "1TiB")] = 2 << 30
    """How large the database may become; beyond, the oldest results go first."""


class ApiTokenFile(Section):
    """A token with a name, for one caller, sent as `Authorization: Bearer TOKEN`."""

    name: Annotated[str, _TOKEN_NAME]
    """Who calls with it, as the audit trail says; unique."""

    token_file: Annotated[str, Field(min_length=1)]
    """A file that holds the token, at least 16 characters; relative paths begin at this file's folder."""

    scope: Literal["read", "write"]
    """read: what a login may read; write: to change things as well."""


class ApiFile(Section):
    """Who may call the API."""

    token_file: str = ""
    """A file with the token that writes need as `Authorization: Bearer TOKEN`, at least 16 characters;
    the environment variable R2_EXPORTER_API_TOKEN goes before it. The audit trail calls it api."""

    tokens: tuple[ApiTokenFile, ...] = ()
    """Further tokens, each with its name and scope."""

    cors_origins: tuple[Annotated[str, _ORIGIN], ...] = ()
    """Web origins whose pages may call the API, such as https://dashboard.example.org, or *."""


class TargetFile(Section):
    """One bucket to probe, by account_id (Cloudflare R2) or by endpoint (any S3-compatible store)."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["account_id"]}, {"required": ["endpoint"]}],
            "dependentRequired": {"jurisdiction": ["account_id"]},
        }
    )

    name: Annotated[str, _NAME, AfterValidator(_printable)]
    """The value of the `target` label; unique."""

    bucket: Annotated[str, _BUCKET]
    """The bucket's name."""

    account_id: Annotated[str, _ACCOUNT_ID, AfterValidator(str.lower)] | None = None
    """The Cloudflare account that owns the bucket."""

    jurisdiction: Literal["default", "eu", "fedramp"] = "default"
    """The R2 jurisdiction the bucket was made in; goes with account_id."""

    endpoint: Url | None = None
    """The URL of an S3-compatible store without the bucket, such as https://s3.example.org; a path prefix is
    kept."""

    region: Annotated[str, _REGION] | None = None
    """The region requests are signed for. Default: auto with account_id, us-east-1 with endpoint."""

    addressing_style: Literal["path", "virtual"] = "path"
    """Whether the bucket stands in the URL's path or in front of its host name."""

    access_key_id: Credential | None = None
    """The access key's id. With neither this nor access_key_id_file, boto3's credential chain is asked."""

    access_key_id_file: Annotated[str, Field(min_length=1)] | None = None
    """A file that holds the access key's id; relative paths begin at this file's folder."""

    secret_access_key: Credential | None = None
    """The secret access key; better ${R2_SECRET_ACCESS_KEY} or secret_access_key_file than the key itself."""

    secret_access_key_file: Annotated[str, Field(min_length=1)] | None = None
    """A file that holds the secret access key; relative paths begin at this file's folder."""

    session_token: Credential | None = None
    """The session token of temporary credentials."""

    session_token_file: Annotated[str, Field(min_length=1)] | None = None
    """A file that holds the session token; relative paths begin at this file's folder."""

    ca_file: Annotated[str, Field(min_length=1)] | None = None
    """A PEM file with the certificate authorities to trust instead of the system's."""

    labels: dict[Annotated[str, _LABEL_NAME], str] = Field(default_factory=dict)
    """Extra labels in /sd and r2_target_info."""

    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    """What this target has different from the probe section above."""

    breaker: BreakerSettings = Field(default_factory=BreakerSettings)
    """What this target has different from the breaker section above."""

    alerts: AlertSettings = Field(default_factory=AlertSettings)
    """What this target has different from the alerts section above."""


class ConfigFile(Section):
    """The configuration of r2-exporter."""

    exporter: ExporterSettings = Field(default_factory=ExporterSettings)
    """How the exporter itself runs."""

    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    """What a probe does and when; a target may differ."""

    breaker: BreakerSettings = Field(default_factory=BreakerSettings)
    """When a circuit breaker opens and closes; a target may differ."""

    alerts: AlertSettings = Field(default_factory=AlertSettings)
    """When a target raises an alert; a target may differ."""

    alertmanager: AlertmanagerSettings = Field(default_factory=AlertmanagerSettings)
    """Pushing alerts straight to Alertmanager."""

    history: HistorySettings = Field(default_factory=HistorySettings)
    """How long past results are kept."""

    api: ApiFile = Field(default_factory=ApiFile)
    """Who may call the API, and from where."""

    targets: Annotated[tuple[TargetFile, ...], AtLeastOne("target")]
    """The buckets to probe; at least one."""
