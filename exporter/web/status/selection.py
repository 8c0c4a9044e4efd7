"""Which targets the page shows, and in which order. Pure."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from exporter.web.api.health import Seen
from exporter.web.api.health_models import HealthStatus
from exporter.web.api.verdict import verdict

ROWS = 50
"""Targets on one page."""

OPENED = 20
"""Targets shown with all their details at once."""

OPENED_BY_ITSELF = 2
"""Of those that fail, where the reader has not said what to open."""

FAILING = (HealthStatus.UNHEALTHY, HealthStatus.DEGRADED)
_STATUSES = {status.value: status for status in HealthStatus}
ORDER = (*FAILING, HealthStatus.UNKNOWN, HealthStatus.HEALTHY)
"""What wants to be looked at comes first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the reader asked for. `opened` holds keys of targets; None leaves it to the page."""

    words: str = ""
    status: HealthStatus | None = None
    page: int = 1
    opened: frozenset[str] | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], opened: Sequence[str]) -> "Asked":
        """From a query string; what makes no sense there is passed over."""
        status, page = query.get("state", ""), query.get("page", "")
        return cls(
            words=query.get("q", "").strip()[:200],
            status=_STATUSES.get(status),
            page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 9 else 1,
            opened=frozenset(opened[: OPENED + 1]) if opened else None,
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """A target at one moment, how it stands, and why it is not healthy."""

    seen: Seen
    status: HealthStatus
    reasons: Sequence[str]

    @property
    def name(self) -> str:
        return self.seen.settings.name


@dataclass(frozen=True, slots=True)
class Selection:
    """A page of targets. `counts` are of all targets, `matching` of those that the reader asked for."""

    shown: Sequence[Judged]
    opened: frozenset[str]
    counts: Mapping[HealthStatus, int]
    worst: Sequence[Judged]
    matching: int
    page: int
    pages: int


def judge(seen: Iterable[Seen]) -> list[Judged]:
    """The failing ones first, otherwise in the order given."""
    found = [Judged(each, *verdict(each.settings, each.latest, each.breaker)) for each in seen]
    return sorted(found, key=lambda each: ORDER.index(each.status))


def select(judged: Sequence[Judged], asked: Asked) -> Selection:
    """Of targets in the order of `judge`, those to show."""
    matching = [each for each in judged if _matches(each, asked)]
    pages = max(1, -(-len(matching) // ROWS))
    page = min(asked.page, pages)
    shown = matching[(page - 1) * ROWS : page * ROWS]
    if asked.opened is None:
        opened = [each.name for each in shown if each.status in FAILING][:OPENED_BY_ITSELF]
        if len(judged) == 1:
            opened = [each.name for each in shown]
    else:
        opened = [each.name for each in shown if key_of(each.name) in asked.opened][:OPENED]
    return Selection(
        shown=shown,
        opened=frozenset(opened),
        counts=Counter(each.status for each in judged),
        worst=[each for each in judged[:3] if each.status in FAILING],
        matching=len(matching),
        page=page,
        pages=pages,
    )


def key_of(name: str) -> str:
    """A short name for a target that is fit for an address and an id, whatever the target is called."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]


def _matches(each: Judged, asked: Asked) -> bool:
    if asked.status is not None and each.status is not asked.status:
        return False
    if not asked.words:
        return True
    settings = each.seen.settings
    labels = " ".join(f"{name}={value}" for name, value in settings.labels.items())
    text = f"{settings.name} {settings.bucket} {settings.endpoint} {labels}".casefold()
    return all(word in text for word in asked.words.casefold().split())
