"""A target's alerts, from raised to resolved."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.alerts.conditions import CLEARLY, Conditions
from exporter.alerts.kinds import Alert, AlertType, Change, End, Kind
from exporter.alerts.wording import recovered, worded
from exporter.breaker import State, Transition
from exporter.config import TargetSettings
from exporter.outcome import Outcome

FAILURES: Mapping[AlertType, float] = {
    AlertType.SERVICE_DEGRADED: 0.0,
    AlertType.CIRCUIT_BREAKER_OPEN: 0.0,
    AlertType.HIGH_ERROR_RATE: 60.0,
    AlertType.SLOW_RESPONSE: 120.0,
}
"""The alerts of a target that does not work, and how many seconds their cause must last."""

TROUBLE = (AlertType.SERVICE_DEGRADED, AlertType.CIRCUIT_BREAKER_OPEN, AlertType.HIGH_ERROR_RATE)
"""What a target recovers from."""

RECOVERED_FOR = 300.0
UPDATED_EVERY = 60.0
"""An alert whose operations or reason change is told anew, but no more often than this."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An alert that was kept over a restart: how long ago it was raised (seconds), and what it said.

    `by_hand` is for one that was resolved by hand: it does not come back while its condition lasts.
    """

    type: AlertType
    age: float
    message: str
    by_hand: bool = False


@dataclass(slots=True)
class _Held:
    """An alert whose condition lasts; one that was resolved by hand is `hidden`."""

    alert: Alert
    since: float
    told_at: float
    hidden: bool = False


class TargetAlerts:
    """The alerts of one target. Times are monotonic seconds.

    Tell it what happens (`observe`, `breaker`), then `evaluate`: after each run, and once `next_change_at`
    has come. What it says then is to be kept and told; `active` is what follows from all that was said.
    """

    __slots__ = ("_conditions", "_held", "_pending", "_settings", "_trouble_since")

    def __init__(self, settings: TargetSettings, now: float) -> None:
        self._settings = settings
        self._conditions = Conditions(settings, now)
        self._held: dict[AlertType, _Held] = {}
        self._pending: dict[AlertType, float] = {}
        self._trouble_since: float | None = None

    @property
    def active(self) -> dict[AlertType, Alert]:
        """The alerts that were raised and are not resolved."""
        return {kind: held.alert for kind, held in self._held.items() if not held.hidden}

    @property
    def hidden(self) -> dict[AlertType, Alert]:
        """Those that were resolved by hand and whose condition lasts."""
        return {kind: held.alert for kind, held in self._held.items() if held.hidden}

    def observe(self, outcome: Outcome, now: float) -> None:
        """An operation was performed, to its end."""
        self._conditions.observe(outcome, now)

    def breaker(self, change: Transition) -> None:
        """The target's breaker changed its state."""
        self._conditions.breaker(change)

    def evaluate(self, now: float) -> list[Change]:
        """What changes by what was told, and by time. It costs next to nothing while all is well."""
        if self._is_quiet:
            return []
        self._conditions.tally.roll(now)
        changes = [change for kind in FAILURES for change in self._judge(kind, now)]
        return changes + self._judge_recovery(now)

    def next_change_at(self, now: float) -> float:
        """After `evaluate`: it has no more to say before this time, unless something happens.

        Infinity if all is well.
        """
        if self._is_quiet:
            return math.inf
        times = [self._conditions.next_change_at(now)]
        times += (since + FAILURES[kind] for kind, since in self._pending.items())
        times += (held.told_at + UPDATED_EVERY for held in self._held.values())
        if (news := self._held.get(AlertType.SERVICE_RECOVERED)) is not None:
            times.append(news.since + RECOVERED_FOR)
        return min(time for time in times if time > now)

    def resolve(self, kind: AlertType) -> Change | None:
        """By hand: over, until its condition was over and comes again. None if there is no such alert."""
        held = self._held.get(kind)
        if held is None or held.hidden:
            return None
        held.hidden = True
        return Change(Kind.RESOLVED, held.alert, End.BY_HAND)

    def configure(self, settings: TargetSettings, now: float) -> list[Change]:
        """Other settings: what by them is no alert is over, and nothing has recovered by that.

        What by them is one, `evaluate` says.
        """
        before, self._settings = self._settings, settings
        self._conditions.configure(settings, now)
        off = () if settings.alerts.on_failure else tuple(FAILURES)
        if not settings.alerts.on_recovery:
            off += (AlertType.SERVICE_RECOVERED,)
        eased = settings.alerts.error_rate_threshold > before.alerts.error_rate_threshold
        over = []
        for kind, held in self._held.items():
            part = 1.0 if eased and kind is AlertType.HIGH_ERROR_RATE else CLEARLY
            if self._conditions.is_over(kind, now, part) or (kind in off and not held.hidden):
                over.append(kind)
        changes = [change for kind in over for change in self._end(kind, End.SETTINGS)]
        if not settings.alerts.on_failure or (over and not self._in_trouble):
            self._trouble_since = None
        return changes

    def restore(self, kept: Iterable[Kept], state: State, now: float) -> None:
        """After a restart, before anything is observed; `state` is the breaker's.

        What was active is so without being raised again, until enough is known to say that it is over.
        """
        self._conditions.restore(state, now)
        for each in kept:
            alert = Alert(self._settings.name, each.type, each.message)
            since = now - each.age
            self._held[each.type] = _Held(alert, since, since, hidden=each.by_hand)
            if each.type in TROUBLE and not each.by_hand:
                self._trouble_since = min(since, self._trouble_since or since)

    def close(self) -> list[Change]:
        """The target is gone, and its alerts with it."""
        self._pending.clear()
        self._trouble_since = None
        return [change for kind in list(self._held) for change in self._end(kind, End.TARGET_GONE)]

    @property
    def _is_quiet(self) -> bool:
        idle = not self._held and not self._pending and self._trouble_since is None
        return idle and self._conditions.quiet

    @property
    def _in_trouble(self) -> bool:
        return any(kind in self._held for kind in TROUBLE)

    def _judge(self, kind: AlertType, now: float) -> list[Change]:
        if (held := self._held.get(kind)) is not None:
            if self._conditions.is_over(kind, now):
                return self._end(kind, End.CONDITION)
            return [] if held.hidden else self._update(held, now)
        if not self._settings.alerts.on_failure or not self._conditions.has_cause(kind, now):
            self._pending.pop(kind, None)
            return []
        if now < self._pending.setdefault(kind, now) + FAILURES[kind]:
            return []
        del self._pending[kind]
        if kind in TROUBLE and self._trouble_since is None:
            self._trouble_since = now
        return self._raise(worded(kind, self._settings, self._conditions, now), now)

    def _judge_recovery(self, now: float) -> list[Change]:
        """Recovery is news for a while, as long as nothing else is."""
        news = self._held.get(AlertType.SERVICE_RECOVERED)
        if news is not None and (self._in_trouble or now >= news.since + RECOVERED_FOR):
            return self._end(AlertType.SERVICE_RECOVERED, End.CONDITION)
        since = self._trouble_since
        if since is None or self._in_trouble or not self._conditions.works:
            return []
        self._trouble_since = None
        self._conditions.recovered()
        if not self._settings.alerts.on_recovery:
            return []
        return self._raise(recovered(self._settings.name, now - since), now)

    def _raise(self, alert: Alert, now: float) -> list[Change]:
        self._held[alert.type] = _Held(alert, now, now)
        return [Change(Kind.RAISED, alert)]

    def _update(self, held: _Held, now: float) -> list[Change]:
        before = held.alert
        if now < held.told_at + UPDATED_EVERY:
            return []
        if not before.operations and not self._conditions.is_known(now):
            return []  # what was kept over a restart says more
        alert = worded(before.type, self._settings, self._conditions, now, before)
        told = (before.operations, before.reason, before.s3_code)
        news = (alert.operations, alert.reason, alert.s3_code) != told
        if not alert.operations or (not news and (before.request_id or not alert.request_id)):
            return []
        held.alert, held.told_at = alert, now
        return [Change(Kind.UPDATED, alert)]

    def _end(self, kind: AlertType, why: End) -> list[Change]:
        held = self._held.pop(kind)
        return [Change(Kind.FORGOTTEN if held.hidden else Kind.RESOLVED, held.alert, why)]
