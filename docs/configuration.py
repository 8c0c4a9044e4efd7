"""The reference of exporter.yaml and of the command line, made from what checks them."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import PlainSerializer
from pydantic.fields import FieldInfo

from exporter.cli import parser
from exporter.config.alertmanager import AlertmanagerSettings, BasicAuth
from exporter.config.document import Section
from exporter.config.model import (
    AlertSettings,
    ApiFile,
    ApiTokenFile,
    BreakerSettings,
    ConfigFile,
    ExporterSettings,
    HistorySettings,
    ProbeSettings,
    TargetFile,
)
from exporter.config.values import (
    AtLeastOne,
    Between,
    Credential,
    Matching,
    Password,
    Url,
    format_duration,
    format_size,
)
from exporter.overrides import SETTINGS

HEAD = """\
# Configuration

Made from the code by `make generate`; [exporter.yaml](../exporter.yaml) is the same as an annotated file.
`r2-exporter check-config` tells each mistake with its line and the mend, and with `--print` what is in force.

- **Durations** are written as in Prometheus: `500ms`, `30s`, `1h30m`, `30d`. **Sizes**: `512B`, `1KiB`, `1MiB`.
- **`${NAME}`** takes the value of an environment variable; `$${` stands for a literal `${`. An unset one is a mistake,
  and so is `$NAME` without braces as a secret. Inside `{}` and `[]` YAML wants quotes around it: `{region: "${NAME}"}`.
- **Paths** begin at the folder of exporter.yaml. Files with secrets are read again at a reload.
- **An unknown key** is a mistake. A key with nothing after it has its default. Anchors, aliases and `<<` work.
- **A reload** (`SIGHUP`, `POST /-/reload`) takes all of it at once, or nothing if there is a mistake.
- **A target** may have a section `probe`, `breaker` or `alerts` of its own. A key that it does not name there is as in the
  section of that name for all.
- **The API** changes some settings without touching the file: those with a name in the column *PUT* of their table
  ([`PUT /api/health/config`](api.md#put-apihealthconfig), all targets or `?target=NAME`). They lie over the file, also after a restart, until null
  takes them back.
"""


@dataclass(frozen=True)
class Part:
    """A section: where it stands, what its keys are, what no single key says, and an example."""

    path: str
    section: type[Section]
    note: str
    example: str


PARTS = (
    Part(
        "exporter",
        ExporterSettings,
        "Where it listens and keeps its history is on the [command line](#command-line).",
        """\
exporter:
  instance: fra-1
  probes_in_flight: 200""",
    ),
    Part(
        "probe",
        ProbeSettings,
        "A run performs the operations one after the other: put, get, head, list, delete. `[head]` alone does not notice a "
        "wrong bucket name, for an answer to HEAD has no body that says what is missing; get or list does. "
        "[What an interval costs](cost.md).",
        """\
probe:
  interval: 15s
  timeout: 3s
  operations: [put, get, head, list, delete]
  object_size: 64KiB""",
    ),
    Part(
        "breaker",
        BreakerSettings,
        "What is reached first opens it: the number, the share of failures or the share of slow calls. While it is open, "
        "probes are skipped and the target counts as down. [How it works](../README.md#the-circuit-breaker).",
        """\
breaker:
  failure_threshold: 5
  failure_rate_threshold: 0.5
  recovery_timeout: 30s
  failure_reasons: [timeout, connect, server, throttled]""",
    ),
    Part(
        "alerts",
        AlertSettings,
        "Prometheus' rules compare with these as well: they see them as "
        "[`r2_config_threshold`](metrics.md#r2_config_threshold). [How to read an alert](alerts.md).",
        """\
alerts:
  error_rate_threshold: 0.1
  slow_response_threshold: 1s
  slo_objective: 0.9995
  monthly_budget: 25""",
    ),
    Part(
        "alertmanager",
        AlertmanagerSettings,
        "Of `basic_auth`, `bearer_token` and `bearer_token_file` there is one at most; `cert_file` and `key_file` need "
        "each other.",
        """\
alertmanager:
  urls: ["http://am-0:9093", "http://am-1:9093"]
  bearer_token: ${AM_TOKEN}
  labels: {cluster: eu}""",
    ),
    Part(
        "alertmanager.basic_auth",
        BasicAuth,
        "It has `password` or `password_file`.",
        """\
alertmanager:
  urls: ["https://am.example.org"]
  basic_auth:
    username: r2-exporter
    password: ${AM_PASSWORD}""",
    ),
    Part(
        "history",
        HistorySettings,
        "An SQLite file, at `--storage.path`, of one exporter alone.",
        """\
history:
  retention: 90d
  max_size: 10GiB""",
    ),
    Part(
        "api",
        ApiFile,
        "With no token at all writes are taken only while every listen address is loopback. [Security](security.md).",
        """\
api:
  token_file: secrets/api-token
  cors_origins: ["https://dashboard.example.org"]""",
    ),
    Part(
        "api.tokens",
        ApiTokenFile,
        "",
        """\
api:
  tokens:
    - {name: deploy, token_file: secrets/deploy, scope: write}
    - {name: grafana, token_file: secrets/grafana, scope: read}""",
    ),
    Part(
        "targets",
        TargetFile,
        "The only section that there must be. A target has `account_id` or `endpoint`, and each secret as itself or as a "
        "file. The two keys come together, or neither does: then boto3's credential chain is asked.",
        """\
targets:
  - name: media
    account_id: 0123456789abcdef0123456789abcdef
    bucket: media
    access_key_id: ${R2_ACCESS_KEY_ID}
    secret_access_key: ${R2_SECRET_ACCESS_KEY}
    labels: {team: web}
  - name: lab
    endpoint: https://s3.example.org
    bucket: lab
    probe: {interval: 5m}
    breaker: {enabled: false}""",
    ),
)

TAIL = """\
## Environment

| variable | what it is |
|---|---|
| `R2_EXPORTER_API_TOKEN` | the token for writes, at least 16 characters; goes before `api.token_file` |
| `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` | http or https proxies to the storages, by the scheme of the endpoint; in lower case as well |
| `NO_PROXY` | hosts and domains without a proxy, each with a port or without, or `*`; no networks such as 10.0.0.0/8 |
| `AWS_ACCESS_KEY_ID` and all else that [boto3 reads](https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html) | for targets without `access_key_id` |
| whatever stands in exporter.yaml as `${NAME}` | its value there |

Alertmanager is spoken to without a proxy.
"""


def page() -> str:
    """The page in Markdown."""
    parts = [HEAD, "\n".join(_contents())]
    parts += ["\n".join(_section(part)) for part in PARTS]
    return "\n".join([*parts, "\n".join(_commands()), TAIL])


def _contents() -> Iterator[str]:
    yield "| section | what it is | a target may differ | settings that PUT changes |\n|---|---|---|---|"
    for path, field in ConfigFile.model_fields.items():
        about = " ".join((field.description or "").split()).replace("; a target may differ", "")
        differs = "yes" if _is_for_targets(path) else ""
        yield f"| [`{path}`](#{path}) | {about} | {differs} | {len(_changed(path)) or ''} |"
    yield ""


def _is_for_targets(path: str) -> bool:
    return path in TargetFile.model_fields and path in ConfigFile.model_fields


def _changed(path: str) -> dict[str, str]:
    """The name in the API's JSON of each key that it changes, with the unit where it is another one."""
    return {
        place.key: f"`{name}`{' (ms)' if place.scale == 1000 else ''}"
        for name, place in SETTINGS.items()
        if place.section == path
    }


def _section(part: Part) -> Iterator[str]:
    yield f"## `{part.path}`\n"
    differs = "A target may differ." if _is_for_targets(part.path) else ""
    yield (
        " ".join(each for each in (*(part.section.__doc__ or "").split(), differs, part.note) if each) + "\n"
    )
    yield f"```yaml\n{part.example}\n```\n"
    changed = _changed(part.path)
    yield "| key | default | takes | what it is |" + (" PUT |" if changed else "")
    yield "|---|---|---|---|" + ("---|" if changed else "")
    for key, field in part.section.model_fields.items():
        about = " ".join((field.description or "").split()).replace("|", r"\|")
        takes = "a path" if key.endswith("_file") else _takes(field.annotation, field.metadata)
        takes = takes.replace("|", r"\|")
        row = f"| `{key}` | {_default(key, field)} | {takes} | {about} |"
        yield row + (f" {changed.get(key, '')} |" if changed else "")
    yield ""


def _default(key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if key == "instance":
        return "the host's name"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    written = next((each.func for each in field.metadata if isinstance(each, PlainSerializer)), None)
    match value:
        case None | "" | Section():
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return f"`[{', '.join(value)}]`"
        case Mapping():
            return "`{}`"
        case _ if written in (format_duration, format_size):
            return f"`{written(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


_NAMED = (
    (Url, "an http or https URL without user, query or fragment"),
    (Credential, "a secret: visible ASCII without spaces"),
    (Password, "a secret: what can be printed"),
)


def _takes(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What a value must be, in the words of the message that refuses another."""
    for kind, words in _NAMED:
        if annotation == kind:
            return words
    for each in metadata:
        if isinstance(each, Matching):
            return each.expected
        if isinstance(each, Between):
            return f"a {'size' if each.expected.endswith('B') else 'duration'} {each.expected}"
    arguments = [each for each in get_args(annotation) if each is not type(None)]
    if hasattr(annotation, "__metadata__"):
        return _takes(arguments[0], annotation.__metadata__)
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin is tuple:
        some = "a list, not empty" if any(isinstance(each, AtLeastOne) for each in metadata) else "a list"
        return f"{some}; each {_takes(arguments[0])}"
    if origin in (dict, Mapping):
        return f"a mapping to text; each key {_takes(arguments[0])}"
    if arguments:  # or None
        return _takes(arguments[0], metadata)
    if issubclass(annotation, StrEnum):
        return "one of " + ", ".join(f"`{each}`" for each in annotation)
    if issubclass(annotation, Section):
        path = next(part.path for part in PARTS if part.section is annotation)
        return f"the keys of [`{path}`](#{path.replace('.', '')})"
    return _number(annotation, metadata) if annotation in (int, float) else _KINDS[annotation]


_KINDS = {bool: "`true` or `false`", str: "text"}


def _number(annotation: type, metadata: Iterable[Any]) -> str:
    limits = [limit for each in metadata for limit in getattr(each, "metadata", [each])]
    high = next(each.le for each in limits if isinstance(each, Le))
    words = "a whole number" if annotation is int else "a ratio" if high <= 1 else "a number"
    for each in limits:
        match each:
            case Ge(ge=low):
                words += f" from {low:,g} to {high:,.10g}"
            case Gt(gt=low):
                words += f" above {low:,g}, at most {high:,.10g}"
    return words


def _commands() -> Iterator[str]:
    yield "## Command line\n"
    yield "Flags are named as Prometheus names its own. Exit status: 0 good, 1 unhealthy or failed, 2 unusable arguments or"
    yield "configuration. `r2-exporter --version` prints the version, `--help` what follows.\n"
    commands = next(each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        yield f"### `r2-exporter {name}`\n\n{command.description}\n\n| flag | what it is |\n|---|---|"
        for flag in command._actions:  # argparse has no public list of them
            if flag.dest != "help":
                value = "\\|".join(flag.choices) if flag.choices else flag.metavar or flag.dest.upper()
                shown = f"{flag.option_strings[-1]} {value}" if flag.nargs != 0 else flag.option_strings[-1]
                about = (flag.help or "") % {"default": flag.default, "prog": "r2-exporter"}
                yield f"| `{shown}` | {about} |"
        yield ""
