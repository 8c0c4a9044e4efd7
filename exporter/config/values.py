"""The kinds of values a configuration file holds: durations, sizes, secrets and URLs."""

import ipaddress
import math
import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import pydantic
from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from exporter.config.explain import misfit

_DAY = 86_400_000
_DURATION_UNITS = {"y": 365 * _DAY, "w": 7 * _DAY, "d": _DAY, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_LONGEST_DURATION = (2**63 - 1) // 1_000_000  # milliseconds: Prometheus counts nanoseconds in an int64
_DURATION = re.compile("".join(f"([0-9]+{unit})?" for unit in _DURATION_UNITS))

_SIZE_UNITS = {f"{prefix}B": 1 << 10 * n for n, prefix in enumerate(("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))}
_SIZE = re.compile(r"([0-9]+)(B|[KMGTPE]i?B)")

_LONGEST_NUMBER = 64  # characters
_HIGHEST_PORT = 65535
_BARE_VARIABLE = re.compile(r"\$[A-Z_][A-Z0-9_]*")
_URL = re.compile(
    r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(:[0-9]{1,5})?((?:/[A-Za-z0-9_.~-]*)*)"
)


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `1h30m`; raises ValueError.

    The units y w d h m s ms come in this order, each at most once, and `0` needs none, as in
    Prometheus' model.ParseDuration (github.com/prometheus/common/blob/main/model/time.go).
    """
    if text == "0":
        return 0.0
    parts = _DURATION.fullmatch(text) if 0 < len(text) <= _LONGEST_NUMBER else None
    if parts is None:
        raise ValueError("expected a duration such as 30s or 1h30m")
    counts = (int(part.rstrip("ywdhms")) if part else 0 for part in parts.groups())
    milliseconds = sum(n * unit for n, unit in zip(counts, _DURATION_UNITS.values(), strict=True))
    if milliseconds > _LONGEST_DURATION:
        raise ValueError("expected a duration below 292 years")
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """The duration as Prometheus writes it, to the millisecond; years and weeks only where exact."""
    rest = round(seconds * 1000)
    if rest == 0:
        return "0s"
    text = ""
    for unit, size in _DURATION_UNITS.items():
        if rest >= size and (unit not in ("y", "w") or rest % size == 0):
            text += f"{rest // size}{unit}"
            rest %= size
    return text


def parse_size(text: str) -> int:
    """Bytes of a size such as `1KiB`; `1KB` means the same, as in Prometheus. Raises ValueError."""
    parts = _SIZE.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if parts is None:
        raise ValueError("expected a size such as 512B, 1KiB or 5MB")
    unit = parts[2] if parts[2] in _SIZE_UNITS else f"{parts[2][0]}iB"
    return int(parts[1]) * _SIZE_UNITS[unit]


def format_size(size: int) -> str:
    """The bytes in the largest unit that divides them."""
    fitting = [unit for unit, factor in _SIZE_UNITS.items() if size >= factor and size % factor == 0]
    unit = fitting[-1] if fitting else "B"
    return f"{size // _SIZE_UNITS[unit]}{unit}"


def parse_url(text: str) -> str:
    """An http or https URL without trailing slashes; raises ValueError that never quotes it."""
    parts = _URL.fullmatch(text)
    if parts is None:
        raise ValueError("expected a URL such as https://s3.example.org, without user, query or fragment")
    scheme, host, port, path = parts.groups()
    if host.startswith("["):
        _check_ipv6(host[1:-1])
    if port and not 0 < int(port[1:]) <= _HIGHEST_PORT:
        raise ValueError("the port of a URL must be between 1 and 65535")
    if {".", ".."} & set(path.split("/")):
        raise ValueError("the path of a URL must not hold the segments . or ..")
    return f"{scheme}://{host}{port or ''}{path.rstrip('/')}"


def _check_ipv6(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError("the host of the URL is not an IPv6 address") from None


class Secret(pydantic.Secret[str]):
    """Text that shows as `***` wherever it is printed; `get_secret_value()` gives it away."""

    def _display(self) -> str:
        return "***"


def check_credential(text: str) -> str:
    """The text if it can stand in an HTTP header as it is; raises ValueError that never quotes it."""
    if not text:
        raise ValueError("is empty")
    if not all("!" <= c <= "~" for c in text):
        raise ValueError("holds a space, a line break or another character that is not visible ASCII")
    return text


def check_password(text: str) -> str:
    """The text if somebody could have typed it; raises ValueError that never quotes it."""
    if not text:
        raise ValueError("is empty")
    if not text.isprintable():
        raise ValueError("holds a line break or another character that cannot be printed")
    return text


def _check_replaced(text: str) -> None:
    """Shells replace `$NAME` as well, this program and many files of variables do not."""
    if _BARE_VARIABLE.fullmatch(text):
        raise ValueError(
            "is the name of an environment variable, not its value; write ${NAME} (a secret that reads so "
            "goes into a file, which the same key with _file names)"
        )


def frozen(labels: Mapping[str, str]) -> Mapping[str, str]:
    """A copy that nobody changes."""
    return MappingProxyType(dict(labels))


def _check_typed(secret: Secret) -> Secret:
    _check_replaced(check_password(secret.get_secret_value()))
    return secret


def _check_secret(secret: Secret) -> Secret:
    _check_replaced(check_credential(secret.get_secret_value()))
    return secret


def _duration(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise misfit(str(error)) from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise misfit("expected a duration such as 30s or 1h30m")
    return value


def _size(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except ValueError as error:
            raise misfit(str(error)) from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise misfit("expected a size such as 512B, 1KiB or 5MB")
    return value


@dataclass(frozen=True, slots=True)
class Matching:
    """Text that matches `pattern` as a whole; `expected` tells people what that is."""

    pattern: str
    expected: str

    def check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"expected {self.expected}")
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^({self.pattern})$"}


@dataclass(frozen=True, slots=True)
class AtLeastOne:
    """A list with something in it. Unlike pydantic's min_length it does not count wrong items as missing."""

    expected: str

    def check(self, items: Sized) -> Sized:
        if not items:
            raise ValueError(f"needs at least one {self.expected}")
        return items

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "minItems": 1}


@dataclass(frozen=True, slots=True)
class Between:
    """A number within bounds, which `expected` tells people in the unit they write."""

    low: float
    high: float
    expected: str

    def check(self, value: float) -> float:
        if not self.low <= value <= self.high:
            raise misfit(f"must be {self.expected}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


def duration_between(low: str, high: str) -> Between:
    """Refuses seconds outside the bounds, which are durations themselves."""
    return Between(parse_duration(low), parse_duration(high), f"between {low} and {high}")


def size_between(low: str, high: str) -> Between:
    """Refuses bytes outside the bounds, which are sizes themselves."""
    return Between(parse_size(low), parse_size(high), f"between {low} and {high}")


_DURATION_SCHEMA = {
    "type": "string",
    "pattern": f"^(0|(?=[0-9]){_DURATION.pattern})$",
    "examples": ["30s", "1h30m", "500ms"],
}
_SIZE_SCHEMA = {"type": "string", "pattern": f"^{_SIZE.pattern}$", "examples": ["1KiB", "5MB"]}

Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(_DURATION_SCHEMA),
]
Size = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema(_SIZE_SCHEMA),
]
Credential = Annotated[Secret, AfterValidator(_check_secret)]
Password = Annotated[Secret, AfterValidator(_check_typed)]
Url = Annotated[str, AfterValidator(parse_url)]
