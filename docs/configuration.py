"""The reference of exporter.yaml and of the command line, made from what checks them."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
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
    ExporterSettings,
    HistorySettings,
    ProbeSettings,
    TargetFile,
)
from exporter.config.values import Between, Matching, Secret, format_duration, format_size
from exporter.overrides import SETTINGS

HEAD = """\
# Configuration

Made from the code by `make generate`; [exporter.yaml](../exporter.yaml) is the same as an annotated file, and
`r2-exporter check-config` tells each mistake with its line and the mend. `check-config --print` prints what is in force.

- **Durations** are written as in Prometheus: `500ms`, `30s`, `1h30m`, `30d`. **Sizes**: `512B`, `1KiB`, `1MiB`.
- **`${NAME}`** takes the value of an environment variable; `$${` stands for a literal `${`. An unset one is a mistake.
- **Files** with secrets are relative to the folder of exporter.yaml, and read again at a reload.
- **An unknown key** is a mistake. A key with nothing after it has its default. Anchors, aliases and `<<` work.
- **A reload** (`SIGHUP`, `POST /-/reload`) takes all of it at once, or nothing if there is a mistake.
- **The API** changes some settings without touching the file: those with a name in the column *API*
  (`PUT /api/health/config`, durations in milliseconds). They lie over the file until they are [taken back](api.md).
"""

SECTIONS: tuple[tuple[str, type[Section], str], ...] = (
    (
        "targets",
        TargetFile,
        """\
targets:
  - {name: media, account_id: 0123456789abcdef0123456789abcdef, bucket: media}
  - {name: lab, endpoint: "https://s3.example.org", bucket: lab, probe: {interval: 5m}, labels: {team: web}}""",
    ),
    ("probe", ProbeSettings, "probe: {interval: 15s, operations: [put, get, head, list, delete]}"),
    (
        "breaker",
        BreakerSettings,
        "breaker: {failure_threshold: 5, failure_reasons: [timeout, connect, server, throttled]}",
    ),
    ("alerts", AlertSettings, "alerts: {error_rate_threshold: 0.1, slo_objective: 0.9995}"),
    (
        "alertmanager",
        AlertmanagerSettings,
        'alertmanager: {urls: ["http://am-0:9093", "http://am-1:9093"], labels: {cluster: eu}}',
    ),
    (
        "alertmanager.basic_auth",
        BasicAuth,
        """\
alertmanager:
  urls: ["https://am.example.org"]
  basic_auth: {username: r2-exporter, password: "${AM_PASSWORD}"}""",
    ),
    ("history", HistorySettings, "history: {retention: 90d, max_size: 10GiB}"),
    ("api", ApiFile, 'api: {cors_origins: ["https://dashboard.example.org"]}'),
    ("api.tokens", ApiTokenFile, "api: {tokens: [{name: deploy, token_file: secrets/deploy, scope: write}]}"),
    ("exporter", ExporterSettings, "exporter: {instance: fra-1, probes_in_flight: 200}"),
)

TAIL = """\
## Environment

| variable | what it is |
|---|---|
| `R2_EXPORTER_API_TOKEN` | the token for writes, before `api.token_file` |
| `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | proxies to the storages; in lower case as well |
| `AWS_ACCESS_KEY_ID` and all else that [boto3 reads](https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html) | for targets without `access_key_id` |
| whatever stands in exporter.yaml as `${NAME}` | its value there |
"""


def page() -> str:
    """The page in Markdown."""
    parts = [HEAD]
    for path, section, example in SECTIONS:
        parts.append("\n".join(_section(path, section, example)))
    return "\n".join([*parts, "\n".join(_commands()), TAIL])


def _section(path: str, section: type[Section], example: str) -> Iterator[str]:
    yield f"## `{path}`\n"
    note = " A target may differ: the same section under it." if path in TargetFile.model_fields else ""
    yield " ".join((section.__doc__ or "").split()) + note + "\n"
    yield f"```yaml\n{example}\n```\n"
    changed = {place.key: name for name, place in SETTINGS.items() if place.section == path}
    yield "| key | default | takes | what it is |" + (" API |" if changed else "")
    yield "|---|---|---|---|" + ("---|" if changed else "")
    for key, field in section.model_fields.items():
        about = " ".join((field.description or "").split()).replace("|", r"\|")
        takes = _takes(field.annotation, field.metadata).replace("|", r"\|")
        row = f"| `{key}` | {_default(key, field)} | {takes} | {about} |"
        yield row + (f" `{changed[key]}` |" if key in changed else " |" if changed else "")
    yield ""


def _default(key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if key == "instance":
        return "the host's name"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    written = next((each.func for each in field.metadata if isinstance(each, PlainSerializer)), None)
    match value:
        case None | "" | () | Section() | Mapping():
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return f"`[{', '.join(value)}]`"
        case _ if written in (format_duration, format_size):
            return f"`{written(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _takes(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What a value must be, in the words of the message that refuses another."""
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
        return f"a list of: {_takes(arguments[0])}"
    if origin in (dict, Mapping):
        return "label names with their values"
    if arguments:  # or None
        return _takes(arguments[0], metadata)
    if issubclass(annotation, StrEnum):
        return ", ".join(f"`{each}`" for each in annotation)
    if issubclass(annotation, Section):
        return "keys as in the section of that name"
    return _KINDS[annotation] + "".join(_bounds(metadata))


_KINDS = {
    bool: "`true` or `false`",
    int: "a whole number",
    float: "a number",
    str: "text",
    Secret: "a secret: visible ASCII without spaces",
}


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    for each in metadata:
        match each:
            case Ge(ge=bound):
                yield f" from {bound:,g}"
            case Gt(gt=bound):
                yield f" above {bound:,g}"
            case Le(le=bound):
                yield f" to {bound:,.10g}"


def _commands() -> Iterator[str]:
    yield "## Command line\n"
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
