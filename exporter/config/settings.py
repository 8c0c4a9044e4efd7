"""The resolved configuration that the rest of the program reads. Never changes; a reload makes a new one."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer

from exporter.config.alertmanager import AlertmanagerSettings
from exporter.config.document import Section
from exporter.config.model import (
    AlertSettings,
    BreakerSettings,
    ExporterSettings,
    HistorySettings,
    ProbeSettings,
)
from exporter.config.values import AtLeastOne, Secret, frozen

Labels = Annotated[Mapping[str, str], AfterValidator(frozen), PlainSerializer(dict)]


class ApiToken(Section):
    """A token, who calls with it, and what it is good for: `write` includes `read`."""

    name: str
    token_file: str = ""
    scope: Literal["read", "write"]
    token: Secret


class ApiSettings(Section):
    """Who may call the API. `token` is None while none is set; `tokens` are those that have a name."""

    token_file: str = ""
    token: Secret | None = None
    tokens: tuple[ApiToken, ...] = ()
    cors_origins: tuple[str, ...] = ()

    @property
    def all_tokens(self) -> tuple[ApiToken, ...]:
        """Every token in force; the one without a name of its own is called `api`."""
        if self.token is None:
            return self.tokens
        single = ApiToken(name="api", token_file=self.token_file, scope="write", token=self.token)
        return (single, *self.tokens)


class TargetSettings(Section):
    """One bucket to probe, with everything it needs.

    `endpoint` has no trailing slash. Without `access_key_id` and `secret_access_key` boto3's credential
    chain is asked. The `_file` fields say where a secret was read; every path is absolute.
    """

    name: str
    endpoint: str
    bucket: str
    region: str = "auto"
    addressing_style: Literal["path", "virtual"] = "path"
    access_key_id: Secret | None = None
    access_key_id_file: str | None = None
    secret_access_key: Secret | None = None
    secret_access_key_file: str | None = None
    session_token: Secret | None = None
    session_token_file: str | None = None
    ca_file: str | None = None
    labels: Labels = Field(default_factory=lambda: frozen({}))
    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    breaker: BreakerSettings = Field(default_factory=BreakerSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)


class Settings(Section):
    """A whole configuration; `probe`, `breaker` and `alerts` are the defaults of its targets."""

    exporter: ExporterSettings = Field(default_factory=ExporterSettings)
    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    breaker: BreakerSettings = Field(default_factory=BreakerSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    alertmanager: AlertmanagerSettings = Field(default_factory=AlertmanagerSettings)
    history: HistorySettings = Field(default_factory=HistorySettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    targets: Annotated[tuple[TargetSettings, ...], AtLeastOne("target")]
