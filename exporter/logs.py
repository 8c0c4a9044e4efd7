"""Structured logs: one line per event, logfmt or JSON, with secrets masked."""

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Literal

import structlog
from pydantic import Secret, SecretBytes, SecretStr
from structlog.typing import EventDict, Processor, WrappedLogger

from exporter.log_handler import ThreadedHandler
from exporter.masking import MASK, is_secret_key, mask

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

# At DEBUG these print signed headers and URLs; aiohttp.access prints a line per scrape.
_QUIET_LOGGERS = ("botocore", "boto3", "s3transfer", "urllib3", "aiohttp.access")

_FIRST_KEYS = ("ts", "level", "msg", "logger")


def configure(level: str, fmt: Literal["logfmt", "json"], handler: logging.Handler) -> None:
    """Send every logger of the process to `handler` in one form; calling again replaces it.

    `level` is one of `LEVELS`. Raises KeyError for another level. Lines carry `ts` (RFC 3339,
    UTC, milliseconds), `level`, `msg` and `logger`, then the event's own fields.
    """
    renderer: Processor = _render_json if fmt == "json" else _render_logfmt
    stages: list[Processor] = [
        _add_origin,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _redact,
        renderer,
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=stages))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(LEVELS[level])
    logging.captureWarnings(capture=True)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def lost() -> int:
    """Lines that could not be written since the process began."""
    return sum(each.lost for each in logging.getLogger().handlers if isinstance(each, ThreadedHandler))


def _add_origin(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put when, how grave, what and where in front; the same for structlog and stdlib records."""
    record: logging.LogRecord = event["_record"]
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    level = record.levelname.lower()
    return {
        "ts": moment.replace("+00:00", "Z"),
        "level": "warn" if level == "warning" else level,
        "msg": event.pop("event", ""),
        "logger": record.name,
    } | {f"{key}_" if key in _FIRST_KEYS else key: value for key, value in event.items()}


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {mask(key): _plain(key, value) for key, value in event.items()}


def _plain(key: str, value: object) -> object:
    """`value` as what JSON can hold, masked on the way."""
    if isinstance(value, Secret | SecretStr | SecretBytes) or (value and is_secret_key(key)):
        return MASK
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {mask(str(k)): _plain(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain("", item) for item in value]
    return mask(str(value))


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return json.dumps(event)


def _render_logfmt(_: WrappedLogger, __: str, event: EventDict) -> str:
    return " ".join(f"{_logfmt_key(key)}={_logfmt_value(value)}" for key, value in event.items())


def _logfmt_key(key: str) -> str:
    return re.sub(r"[^\w.-]", "_", key)


def _logfmt_value(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict() | list():
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
    if text and text.isprintable() and not re.search(r'[\s="\\]', text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in quoted)
