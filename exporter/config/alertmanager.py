"""The `alertmanager` section: which members to push alerts to, and what they ask of who pushes."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer

from exporter.config.document import Document, Section, Value
from exporter.config.problem import Path, Problem
from exporter.config.values import (
    Credential,
    Duration,
    Matching,
    Password,
    Secret,
    Url,
    duration_between,
    frozen,
)

OWN_LABELS = ("alertname", "severity", "target", "type")
"""What tells one alert from another; nobody may change these."""

_SECTION: Path = ("alertmanager",)
_USERNAME = Matching(r"[^:\x00-\x1f\x7f]{1,256}", "a user name, which holds no colon")
_LABEL_NAME = Matching(
    rf"(?!__)(?!({'|'.join(OWN_LABELS)})$)[a-zA-Z_][a-zA-Z0-9_]*",
    "a Prometheus label name (letters, digits and _) that begins neither with a digit nor with __ and is "
    f"none of {', '.join(OWN_LABELS)}",
)


def _once(urls: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(urls))


class BasicAuth(Section):
    """A login."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["password"]}, {"required": ["password_file"]}]}
    )

    username: Annotated[str, _USERNAME]
    """The user's name."""

    password: Password | None = None
    """The password; better ${NAME} or password_file than the password itself."""

    password_file: Annotated[str, Field(min_length=1)] | None = None
    """A file that holds the password; relative paths begin at this file's folder."""

    @property
    def encoded(self) -> str:
        """Both as the `Authorization` header has them."""
        password = self.password.get_secret_value() if self.password else ""
        return b64encode(f"{self.username}:{password}".encode()).decode()


class AlertmanagerSettings(Section):
    """Pushing alerts straight to Alertmanager, for those without Prometheus' own rules, or besides them."""

    model_config = ConfigDict(
        json_schema_extra={"dependentRequired": {"cert_file": ["key_file"], "key_file": ["cert_file"]}}
    )

    urls: Annotated[tuple[Url, ...], AfterValidator(_once)] = ()
    """Every member of the Alertmanager cluster, such as http://alertmanager:9093; none: no pushing."""

    basic_auth: BasicAuth | None = None
    """The login that the members ask for."""

    bearer_token: Credential | None = None
    """The token that the members ask for as `Authorization: Bearer TOKEN`; better ${NAME} or
    bearer_token_file than the token itself."""

    bearer_token_file: Annotated[str, Field(min_length=1)] | None = None
    """A file that holds the token; relative paths begin at this file's folder."""

    ca_file: Annotated[str, Field(min_length=1)] | None = None
    """A PEM file with the certificate authorities to trust instead of the system's."""

    cert_file: Annotated[str, Field(min_length=1)] | None = None
    """A PEM file with the certificate to show to members that ask for one; goes with key_file."""

    key_file: Annotated[str, Field(min_length=1)] | None = None
    """A PEM file with the private key of cert_file, without a passphrase."""

    timeout: Annotated[Duration, duration_between("100ms", "1m")] = 10.0
    """The longest that one request to a member may take."""

    labels: Annotated[
        Mapping[Annotated[str, _LABEL_NAME], str], AfterValidator(frozen), PlainSerializer(dict)
    ] = Field(default_factory=lambda: frozen({}))
    """Extra labels of each pushed alert. With external_labels in Prometheus, write the same here, so that
    its alerts and the pushed ones are one."""

    @property
    def authorization(self) -> Secret | None:
        """The header that is sent along."""
        if self.bearer_token is not None:
            return Secret(f"Bearer {self.bearer_token.get_secret_value()}")
        return Secret(f"Basic {self.basic_auth.encoded}") if self.basic_auth is not None else None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What the log must mask."""
        held = [] if self.bearer_token is None else [self.bearer_token]
        if self.basic_auth is not None and self.basic_auth.password is not None:
            held += [self.basic_auth.password, Secret(self.basic_auth.encoded)]
        return tuple(held)


def written_section(document: Document) -> Mapping[str, Value]:
    """The section's keys that have a value, whether valid or not."""
    section = document.data.get("alertmanager") if isinstance(document.data, dict) else None
    return _given(section)


def written_files(document: Document) -> Iterator[tuple[Path, str]]:
    """Every file the section names, and where it does."""
    section = written_section(document)
    for place, mapping in (
        (_SECTION, section),
        ((*_SECTION, "basic_auth"), _given(section.get("basic_auth"))),
    ):
        for key, name in mapping.items():
            if key.endswith("_file") and isinstance(name, str) and name:
                yield (*place, key), name


def contradictions(document: Document) -> Iterator[Problem]:
    """Keys that exclude or need each other."""
    section = written_section(document)
    for key, message in _within(section):
        yield document.problem((*_SECTION, key), message)
    if isinstance(section.get("basic_auth"), dict):
        login = _given(section["basic_auth"])
        if {"password", "password_file"} <= login.keys():
            place = (*_SECTION, "basic_auth", "password_file")
            yield document.problem(place, "give password or password_file, not both")
        if not {"password", "password_file"} & login.keys():
            yield document.problem((*_SECTION, "basic_auth"), "needs password or password_file")


def _within(section: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
    tokens = section.keys() & {"bearer_token", "bearer_token_file"}
    if len(tokens) > 1:
        yield "bearer_token_file", "give bearer_token or bearer_token_file, not both"
    if tokens and "basic_auth" in section:
        yield "basic_auth", f"give basic_auth or {min(tokens)}, not both"
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if key in section and other not in section:
            yield key, f"needs {other} beside it"


def _given(section: object) -> Mapping[str, Value]:
    if not isinstance(section, dict):
        return {}
    return {key: value for key, value in section.items() if value is not None}
