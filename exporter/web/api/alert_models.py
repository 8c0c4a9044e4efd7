"""What is taken of alerts: resolving one, and Alertmanager's webhook.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from exporter.history.alerts import Notice
from exporter.web.api.models import Answer, Count
from exporter.web.api.parameters import INTEGRAL, MOST, WHOLE, Body, Query
from exporter.web.api.units import LATEST

SEVERITIES: Mapping[str, str] = {"info": "LOW", "warning": "MEDIUM", "high": "HIGH", "critical": "CRITICAL"}
"""By the label that rules give. One that is none of these counts as a warning."""

OURS = "R2"
"""What the names of this project's rules begin with."""

LONGEST_TEXT = 2000
LONGEST_LABEL = 200

Text = Annotated[str, Field(max_length=65_536)]
Texts = Mapping[Text, Text]


class OfAlert(Query):
    """Which alert is meant."""

    id: Annotated[int, Field(ge=1, le=MOST), WHOLE]
    """The number of the alert."""


class ResolveRequest(Body):
    """How to resolve an alert."""

    notes: Annotated[str, Field(max_length=2000)] | None = None
    """What to remember of it."""

    silence: Annotated[int, Field(ge=60_000, le=2_592_000_000), INTEGRAL] | None = None
    """For how many milliseconds Alertmanager is to say nothing of it."""


class Foreign(BaseModel):
    """What Alertmanager sends. A later version of it may say more."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", frozen=True, use_attribute_docstrings=True
    )


class WebhookAlert(Foreign):
    """One alert of a group."""

    status: Literal["firing", "resolved"]
    labels: Texts
    annotations: Texts = Field(default_factory=dict)
    starts_at: AwareDatetime
    ends_at: AwareDatetime | None = None
    """When it was over; year 1 while it is firing."""

    def notice(self, receiver: str) -> Notice | None:
        """What it says, or None if it is none of ours."""
        name = self.labels.get("alertname", "")
        if not name.startswith(OURS):
            return None
        said = (self.annotations.get(each) for each in ("summary", "description"))
        message = next((text for text in said if text), name)
        ended = self.ends_at if self.status == "resolved" else None
        return Notice(
            target=self.labels.get("target", "")[:LONGEST_LABEL],
            type=self.labels.get("type", name)[:LONGEST_LABEL],
            severity=SEVERITIES.get(self.labels.get("severity", ""), "MEDIUM"),
            message=message[:LONGEST_TEXT],
            receiver=receiver[:LONGEST_LABEL],
            started_at=_seconds(self.starts_at),
            ended_at=None if self.status == "firing" else _seconds(ended or self.starts_at),
        )


def _seconds(moment: datetime) -> float:
    """Unix seconds that can be written down again, whatever was sent."""
    return min(max(moment.timestamp(), 0.0), LATEST)


class WebhookBody(Body):
    """A group of alerts, as Alertmanager sends it to a webhook receiver; it has more fields than these."""

    model_config = ConfigDict(extra="ignore")

    version: Literal["4"]
    receiver: Text
    """The receiver of Alertmanager's configuration that told somebody."""

    status: Literal["firing", "resolved"]
    """resolved if all alerts are."""

    alerts: Annotated[list[WebhookAlert], Field(max_length=10_000)]

    def notices(self) -> list[Notice]:
        """What it says of alerts that are ours."""
        found = (each.notice(self.receiver) for each in self.alerts)
        return [notice for notice in found if notice is not None]


class Received(Answer):
    """What became of what Alertmanager told."""

    recorded: Count
    """Alerts of this exporter's targets and rules."""

    ignored: Count
    """Alerts that are none of ours."""
