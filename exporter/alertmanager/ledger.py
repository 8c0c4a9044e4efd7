"""Which alerts one member has to be told of, and when. Pure: time is passed in, of the monotonic clock."""

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.alertmanager.pushed import Key, Pushed

BATCH = 64
"""The most alerts in one request, as in Prometheus."""

MOST_DOUBLINGS = 6


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a member is told, in seconds."""

    interval: float = 60.0
    """After which an alert is sent again. Alertmanager forgets all of them at a restart."""

    lifetime: float = 240.0
    """How long an active alert that it hears no more of lasts: four intervals, as in Prometheus."""

    keep_resolved: float = 300.0
    """How long a resolved alert is sent again once it was taken. It is Alertmanager's usual
    `group_interval`: so long may it wait before it tells anybody, and may be restarted meanwhile."""

    first_retry: float = 1.0
    longest_retry: float = 30.0

    def retry_after(self, failures: int, jitter: float) -> float:
        """How long to wait after so many failures in a row; `jitter` is any number from 0 to 1."""
        longest = min(self.longest_retry, self.first_retry * 2.0 ** min(failures - 1, 30))
        return longest * (1 + jitter) / 2


@dataclass(slots=True)
class _Entry:
    alert: Pushed
    due: float
    accepted_at: float | None = None
    """When it was taken first."""
    refusals: int = 0


class Ledger:
    """The alerts of one member, each once: it cannot grow beyond the label sets that there are."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._entries: dict[Key, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, alert: Pushed, now: float) -> None:
        """Takes a new alert, or what has become of one; the same again is no news."""
        held = self._entries.get(alert.key)
        if held is None or held.alert != alert:
            self._entries[alert.key] = _Entry(alert, due=now)

    def next_due(self) -> float | None:
        """When there is something to send, or None."""
        return min((entry.due for entry in self._entries.values()), default=None)

    def take_due(self, now: float) -> tuple[Pushed, ...]:
        """What to send in one request, if anything is due: also what will be so before long."""
        due = self.next_due()
        if due is None or due > now:
            return ()
        soon = now + self._pace.interval / 6
        chosen = sorted((e for e in self._entries.values() if e.due <= soon), key=lambda e: e.due)
        return tuple(entry.alert for entry in chosen[:BATCH])

    def pending(self) -> tuple[Pushed, ...]:
        """What the member has not heard yet, and has not refused."""
        return tuple(e.alert for e in self._entries.values() if e.accepted_at is None and not e.refusals)

    def accepted(self, alerts: Iterable[Pushed], now: float) -> None:
        """The member has taken these. What has changed since they were sent is due as before."""
        for entry in self._current(alerts):
            first = entry.accepted_at if entry.accepted_at is not None else now
            if entry.alert.resolved and now >= first + self._pace.keep_resolved:
                del self._entries[entry.alert.key]
            else:
                entry.accepted_at, entry.refusals, entry.due = first, 0, now + self._pace.interval

    def unreached(self, now: float) -> None:
        """The member did not answer. It may have been restarted, and then knows of nothing any more."""
        for entry in self._entries.values():
            if entry.accepted_at is not None:
                entry.due = min(entry.due, now)

    def refused(self, alert: Pushed, now: float) -> bool:
        """The member will not have this one, whatever the reason. Says whether that was the last try:
        an active alert is tried again now and then, for it is still true."""
        for entry in self._current([alert]):
            if alert.resolved:
                del self._entries[alert.key]
                return True
            entry.refusals += 1
            entry.due = now + self._pace.interval * 2 ** min(entry.refusals, MOST_DOUBLINGS)
        return False

    def _current(self, alerts: Iterable[Pushed]) -> list[_Entry]:
        held = ((self._entries.get(alert.key), alert) for alert in alerts)
        return [entry for entry, alert in held if entry is not None and entry.alert == alert]
