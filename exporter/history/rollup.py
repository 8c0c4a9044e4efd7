"""Sums by hour and by day: what aggregates are made of, merged without loss of any percentile.

Pure. Durations are in seconds, times Unix seconds.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from exporter.history.histogram import Histogram

PERIODS: Mapping[str, int] = {"hour": 3600, "day": 86_400}
"""Seconds of each, aligned to UTC."""


def period_start(period: str, at: float) -> int:
    """The beginning of the hour or day (UTC) that `at` lies in."""
    seconds = PERIODS[period]
    return int(at // seconds) * seconds  # the quotient of `/` is rounded, at times to the next period


@dataclass(slots=True)
class Sums:
    """What happened to one operation of one target in a period of time."""

    checks: int = 0
    failures: int = 0
    skipped: int = 0
    duration_sum: float = 0.0
    duration_max: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    histogram: Histogram = field(default_factory=Histogram)

    def check(self, duration: float, reason: str | None) -> None:
        """Adds a result; `reason` is None for a success."""
        self.checks += 1
        self.duration_sum += duration
        self.duration_max = max(self.duration_max, duration)
        self.histogram.observe(duration)
        if reason is not None:
            self.failures += 1
            self.reasons[reason] += 1

    def add(self, other: "Sums") -> None:
        """Adds another period's sums, or another operation's."""
        self.checks += other.checks
        self.failures += other.failures
        self.skipped += other.skipped
        self.duration_sum += other.duration_sum
        self.duration_max = max(self.duration_max, other.duration_max)
        self.reasons.update(other.reasons)
        self.histogram.merge(other.histogram)

    @property
    def error_rate(self) -> float | None:
        """Share of failed calls, from 0 to 1."""
        return self.failures / self.checks if self.checks else None

    @property
    def availability(self) -> float | None:
        """Share of what was due that succeeded; what an open breaker skipped counts as down."""
        due = self.checks + self.skipped
        return (self.checks - self.failures) / due if due else None

    @property
    def mean(self) -> float | None:
        return self.duration_sum / self.checks if self.checks else None

    def quantile(self, q: float) -> float | None:
        """Never beyond the longest duration, which is known exactly."""
        return min(self.histogram.quantile(q), self.duration_max) if self.checks else None


def merged(parts: Iterable[Sums]) -> Sums:
    """All of them in one."""
    whole = Sums()
    for part in parts:
        whole.add(part)
    return whole
