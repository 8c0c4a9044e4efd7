"""The file of `--web.config.file`, in the format that exporters built with exporter-toolkit share.

Spec: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from exporter.config.document import ConfigError, Document, Section, read_text
from exporter.config.explain import misfit
from exporter.config.values import Secret
from exporter.web.tls import tls_problems
from exporter.web.tls_config import TlsServerConfig

_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
_GO_DURATION = re.compile(r"0|(?:(?:\d+(?:\.\d+)?)(?:ns|us|µs|ms|s|m|h))+")
_LONGEST_DURATION = 32
_GO_UNIT = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _bcrypt_hash(value: Secret) -> Secret:
    if not _BCRYPT.fullmatch(value.get_secret_value()):
        raise ValueError("expected a bcrypt hash ($2a$, $2b$ or $2y$), such as htpasswd -nBC 10 prints")
    return value


def _user_name(name: str) -> str:
    # RFC 7617 section 2: the first colon ends the user name.
    if ":" in name:
        raise ValueError("a user name cannot contain a colon")
    return name


def _header_value(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise misfit("a header value is one line of printable ASCII")
    return value


def _go_seconds(value: object) -> float:
    """A duration as Go writes it (`1s`, `1m30s`, `0.5s`, `0`) in seconds."""
    if not isinstance(value, str) or len(value) > _LONGEST_DURATION or not _GO_DURATION.fullmatch(value):
        raise misfit("expected a duration such as 1s, 500ms or 0")
    return sum(float(n) * _GO_UNIT[unit] for n, unit in re.findall(r"([\d.]+)([a-zµ]+)", value))


_BLANK = BeforeValidator(lambda value: value or None)
HeaderValue = Annotated[str, AfterValidator(_header_value)]


class Headers(Section):
    """Headers added to every answer; blank leaves one out."""

    csp: HeaderValue = Field(default="", alias="Content-Security-Policy")
    frame_options: Annotated[Literal["deny", "sameorigin"] | None, _BLANK] = Field(
        default=None, alias="X-Frame-Options"
    )
    content_type_options: Annotated[Literal["nosniff"] | None, _BLANK] = Field(
        default=None, alias="X-Content-Type-Options"
    )
    xss_protection: HeaderValue = Field(default="", alias="X-XSS-Protection")
    hsts: HeaderValue = Field(default="", alias="Strict-Transport-Security")

    def as_mapping(self) -> dict[str, str]:
        """Header name to value, of those that are set."""
        return {name: value for name, value in self.model_dump(by_alias=True).items() if value}


class HttpServerConfig(Section):
    """`http2` is taken for compatibility: this server speaks HTTP/1.1 alone, which every client accepts."""

    http2: bool = True
    headers: Headers = Headers()


class RateLimit(Section):
    """A token bucket: one request each `interval` seconds (0: no limit), up to `burst` at once."""

    interval: Annotated[float, BeforeValidator(_go_seconds)] = 0.0
    burst: Annotated[int, Field(ge=0)] = 0


class WebConfig(Section):
    """A valid web config file. Never changes; a reload makes another."""

    tls_server_config: TlsServerConfig = TlsServerConfig()
    http_server_config: HttpServerConfig = HttpServerConfig()
    rate_limit: RateLimit = RateLimit()
    basic_auth_users: Mapping[
        Annotated[str, AfterValidator(_user_name)], Annotated[Secret, AfterValidator(_bcrypt_hash)]
    ] = Field(default_factory=dict)

    @property
    def tls(self) -> TlsServerConfig | None:
        """The TLS section, or None where the file asks for plain HTTP."""
        return self.tls_server_config if self.tls_server_config.model_fields_set else None

    @property
    def client_sans(self) -> frozenset[str]:
        """The names of which a client certificate must hold one; empty: any verified one will do."""
        return frozenset(canonical_san(san) for san in self.tls_server_config.client_allowed_sans)


def load_web_config(file: Path, env: Mapping[str, str]) -> WebConfig:
    """The file as a config whose own file names are relative to its folder.

    Raises ConfigError with every problem at once, unusable certificates and keys included.
    """
    return parse_web_config(str(file), read_text(file), file.parent, env)


def parse_web_config(source: str, text: str, folder: Path, env: Mapping[str, str]) -> WebConfig:
    """As `load_web_config`, for text at hand; `source` names it in errors."""
    document = Document.parse(source, text, env)
    config, found = document.validate(WebConfig)
    tls = config.tls_server_config if config else _tls_section(document)
    problems = [*found]
    if tls is not None and tls.model_fields_set:
        tls = tls.in_folder(folder)
        for key, message in tls_problems(tls):
            path = ("tls_server_config", key) if key else ("tls_server_config",)
            problems.append(document.problem(path, message))
    if config and config.rate_limit.interval and not config.rate_limit.burst:
        problems.append(document.problem(("rate_limit", "burst"), "must be at least 1, or nobody is served"))
    if config is None or problems:
        raise ConfigError(source, problems)
    return config.model_copy(update={"tls_server_config": tls})


def _tls_section(document: Document) -> TlsServerConfig | None:
    """The section where it is sound in itself, so that its files are checked beside errors elsewhere."""
    data = document.data.get("tls_server_config") if isinstance(document.data, dict) else None
    if data is None or any(path[:1] == ("tls_server_config",) for path in document.unusable):
        return None
    try:
        return TlsServerConfig.model_validate(data)
    except ValidationError:
        return None


def canonical_san(san: str) -> str:
    """IP addresses in one spelling; other names as they are."""
    try:
        return str(ipaddress.ip_address(san.strip()))
    except ValueError:
        return san
