"""An alert as Alertmanager is told of it, and the JSON that tells it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Key = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Pushed:
    """An alert, known by its labels. Times are Unix seconds, and `ends_at` is None while it is active.

    Raises ValueError for a time that no calendar has.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: float
    ends_at: float | None = None
    generator_url: str = ""

    def __post_init__(self) -> None:
        try:
            moments = [datetime.fromtimestamp(t, UTC) for t in (self.starts_at, self.ends_at or 0.0)]
        except OverflowError as error:
            raise ValueError(str(error)) from None
        if any(moment.year > 9000 for moment in moments):
            raise ValueError("too far in the future")

    @property
    def key(self) -> Key:
        return frozenset(self.labels.items())

    @property
    def resolved(self) -> bool:
        return self.ends_at is not None


def to_json(alerts: Iterable[Pushed], further: Mapping[str, str], until: float) -> bytes:
    """The body of POST /api/v2/alerts.

    `further` labels go to each alert that has none of that name, as Prometheus adds external_labels;
    Alertmanager takes an active alert for resolved at `until` if it hears no more of it.
    """
    return json.dumps([_posted(alert, further, until) for alert in alerts]).encode()


def _posted(alert: Pushed, further: Mapping[str, str], until: float) -> dict[str, Any]:
    # It refuses an alert that ends before it starts, as one does after a clock was set back.
    ends_at = max(until if alert.ends_at is None else alert.ends_at, alert.starts_at)
    posted = {
        "labels": _without_empty({**further, **alert.labels}),
        "annotations": _without_empty(alert.annotations),
        "startsAt": rfc3339(alert.starts_at),
        "endsAt": rfc3339(ends_at),
    }
    return {**posted, "generatorURL": alert.generator_url} if alert.generator_url else posted


def _without_empty(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if value}


def rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
