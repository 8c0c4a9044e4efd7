"""The alerts of all targets at work: judged, kept, and told once they are on the disk."""

import asyncio
import math
import sqlite3
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from exporter.alertmanager import Pushed, Pusher
from exporter.alertmanager.silence import SilenceError
from exporter.alerts import SEVERITIES, Alert, AlertType, Change, End, Kept, Kind, TargetAlerts
from exporter.breaker import State, Transition
from exporter.config import TargetSettings
from exporter.history import History, HistoryUnavailableError
from exporter.history.alerts import (
    Held,
    Resolution,
    Row,
    end_condition,
    find_alert,
    keep_all,
    lasting_alerts,
    raise_alert,
    resolve_by_hand,
    update_alert,
)
from exporter.metrics import Metrics
from exporter.outcome import Outcome
from exporter.shard import WHOLE, Shard

KEEPING_SECONDS = 5.0
"""The longest that news waits for the disk: a disk that hangs must not silence it."""

RUNBOOKS = "https://github.com/r2-exporter/r2-exporter/blob/main/docs/runbooks"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _News:
    """Something that happened to an alert, and when (Unix seconds)."""

    at: float
    change: Change


class Alerting:
    """Told of what happens to targets, it raises and resolves their alerts.

    An alert is in the history before the metrics, the log and Alertmanager hear of it. While the history
    cannot be written they hear of it all the same, and it is kept as soon as that works.
    """

    def __init__(self, metrics: Metrics, history: History, pusher: Pusher, shard: Shard = WHOLE) -> None:
        self._metrics = metrics
        self._history = history
        self._pusher = pusher
        self._shard = shard
        # Not a label: what Prometheus' rules raise is the same alert.
        self._from = {} if shard.is_whole else {"shard": str(shard)}
        self._targets: dict[str, TargetAlerts] = {}
        self._due: dict[str, float] = {}
        self._raised_at: dict[tuple[str, AlertType], float] = {}
        self.unkept = False
        """Whether the history missed something."""
        self._resolving = asyncio.Lock()
        self._news: asyncio.Queue[_News] = asyncio.Queue()
        self._teller: asyncio.Task[None] | None = None
        self._hurry: asyncio.Future[None]

    def start(self) -> None:
        """Begins to tell."""
        self._hurry = asyncio.get_running_loop().create_future()
        self._teller = asyncio.get_running_loop().create_task(self._tell_all(), name="alerting")

    async def stop(self, seconds: float) -> None:
        """Tells what is left; what the disk does not take in so many seconds is told all the same."""
        teller, self._teller = self._teller, None
        if teller is not None:
            told = asyncio.ensure_future(self._news.join())
            await asyncio.wait({told}, timeout=seconds)
            self._hurry.set_result(None)
            await told
            teller.cancel()
            await asyncio.gather(teller, return_exceptions=True)

    def begin(self, settings: TargetSettings, now: float) -> None:
        """A target is there, or has other settings. `now` is monotonic, here and below."""
        alerts = self._targets.get(settings.name)
        if alerts is None:
            self._targets[settings.name] = TargetAlerts(settings, now)
            for kind, severity in SEVERITIES.items():
                self._metrics.alert(settings.name, kind, severity.label, active=False)
        else:
            self._take(alerts.configure(settings, now))
            self.evaluate(settings.name, now)

    def end(self, name: str) -> None:
        """A target is gone."""
        if (alerts := self._targets.pop(name, None)) is not None:
            self._due.pop(name, None)
            self._take(alerts.close())

    def observe(self, outcome: Outcome, now: float) -> None:
        """An operation was performed."""
        if (alerts := self._targets.get(outcome.target)) is not None:
            alerts.observe(outcome, now)

    def breaker(self, name: str, transition: Transition) -> None:
        """A target's breaker changed its state."""
        if (alerts := self._targets.get(name)) is not None:
            alerts.breaker(transition)

    def evaluate(self, name: str, now: float) -> None:
        """Raises and resolves what follows from what was told of a target."""
        if (alerts := self._targets.get(name)) is not None:
            self._take(alerts.evaluate(now))
            due = alerts.next_change_at(now)
            if due < math.inf:
                self._due[name] = due
            else:
                self._due.pop(name, None)

    def tick(self, now: float) -> None:
        """Evaluates those targets for which time alone changes something."""
        for name in [name for name, due in self._due.items() if due <= now]:
            self.evaluate(name, now)

    def active(self, name: str) -> Mapping[AlertType, Alert]:
        """The alerts of a target that are raised and not resolved."""
        alerts = self._targets.get(name)
        return {} if alerts is None else alerts.active

    async def restore(self, states: Mapping[str, State]) -> None:
        """Brings back the alerts that were active when the exporter ended; `states` are the breakers'.

        Raises HistoryUnavailableError.
        """
        rows = await self._history.read(lasting_alerts)
        now, wall_clock = time.monotonic(), time.time()
        by_target: dict[str, list[Kept]] = {}
        for row in rows:
            if row["type"] not in SEVERITIES:  # of a later version of this program
                continue
            kept = Kept(
                AlertType(row["type"]),
                max(0.0, wall_clock - row["created_at"]),
                row["message"],
                by_hand=row["resolved_at"] is not None,
            )
            by_target.setdefault(row["target"], []).append(kept)
            self._raised_at[row["target"], kept.type] = row["created_at"]
        for name, alerts in self._targets.items():
            before = alerts.active  # of a history that could not be read at the start
            alerts.restore(by_target.pop(name, ()), states.get(name, State.CLOSED), now)
            self._due[name] = now
            for alert in alerts.active.values():
                self._show(alert, active=True)
            for kind in before.keys() & alerts.hidden.keys():
                self._put(Change(Kind.RESOLVED, before[kind], End.BY_HAND))
        for name, gone in by_target.items():
            # What moved to another shard may be an alert there: to Alertmanager it is the same one.
            how = Kind.RESOLVED if self._shard.has(name) else Kind.FORGOTTEN
            for each in gone:
                self._put(Change(how, Alert(name, each.type, each.message), End.TARGET_GONE))

    async def carry_over(self) -> None:
        """Lets a history that missed something, or was begun anew, hold what is active. Raises
        HistoryUnavailableError."""
        held = [self._held(each) for alerts in self._targets.values() for each in alerts.active.values()]
        hidden = [self._held(each) for alerts in self._targets.values() for each in alerts.hidden.values()]
        await self._history.change(partial(keep_all, held=held, hidden=hidden, at=time.time()))
        self.unkept = False

    async def resolve(self, number: int, *, by: str, notes: str | None, silence: float | None) -> Row:
        """Resolves an alert by hand; the row. `silence` is how many seconds Alertmanager is to say nothing.

        Raises NoSuchAlertError, ResolvedAlreadyError, HistoryUnavailableError and SilenceError, and then
        nothing has changed.
        """
        async with self._resolving:  # two at once would set two silences
            row = await self._resolve(number, Resolution(by, notes), silence)
        known = row["source"] == "exporter" and row["type"] in SEVERITIES  # not only to a later version
        if known and (alerts := self._targets.get(row["target"])) is not None:
            change = alerts.resolve(AlertType(row["type"]))
            self._take([change] if change is not None else [])
        log.info("alert resolved by hand", target=row["target"], type=row["type"], by=by)
        return row

    async def _resolve(self, number: int, resolution: Resolution, silence: float | None) -> Row:
        row = await self._history.read(partial(find_alert, number=number))
        if silence is not None and row["resolved_at"] is None:
            if not row["target"]:
                raise SilenceError("an alert of no target is to be silenced in Alertmanager", asked=False)
            until, comment = time.time() + silence, resolution.notes or f"resolved by hand: {row['message']}"
            labels = {"target": row["target"], "type": row["type"]}
            silenced = await self._pusher.silence(labels, until=until, by=resolution.by, comment=comment)
            resolution = replace(resolution, silence_id=silenced, silenced_until=until)
        work = partial(resolve_by_hand, number=number, resolution=resolution, at=time.time())
        try:
            return await self._history.change(work)
        except BaseException:
            if resolution.silence_id is not None:
                await self._pusher.end_silence(resolution.silence_id)
            raise

    def _held(self, alert: Alert) -> Held:
        raised_at = self._raised_at[alert.target, alert.type]
        return Held(alert.target, alert.type, alert.severity, alert.message, raised_at)

    def _take(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._put(change)

    def _put(self, change: Change) -> None:
        news = _News(time.time(), change)
        if change.kind is Kind.RAISED:
            self._raised_at[change.alert.target, change.alert.type] = news.at
        self._news.put_nowait(news)

    async def _tell_all(self) -> None:
        while True:
            batch = [await self._news.get()]
            while not self._news.empty():
                batch.append(self._news.get_nowait())
            try:
                await self._keep(batch)
                for news in batch:
                    self._tell(news)
            except Exception:
                log.exception("telling alerts failed unexpectedly")
            finally:
                for _ in batch:
                    self._news.task_done()

    async def _keep(self, batch: Sequence[_News]) -> None:
        keeping = asyncio.ensure_future(self._history.change(partial(_keep_all, batch=batch)))
        try:
            await asyncio.wait({keeping, self._hurry}, timeout=KEEPING_SECONDS, return_when=FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
            else:
                self.unkept = True
        except HistoryUnavailableError:
            self.unkept = True
        finally:
            keeping.cancel()

    def _tell(self, news: _News) -> None:
        change = news.change
        alert = change.alert
        if change.kind is Kind.FORGOTTEN:
            return
        resolved = change.kind is Kind.RESOLVED
        self._show(alert, active=not resolved, ended_at=news.at if resolved else None)
        if resolved:
            log.info("alert resolved", target=alert.target, type=alert.type, why=change.end)
        elif change.kind is Kind.RAISED:
            log.warning(
                "alert raised",
                target=alert.target,
                type=alert.type,
                severity=alert.severity,
                cause=alert.message,
            )

    def _show(self, alert: Alert, *, active: bool, ended_at: float | None = None) -> None:
        self._metrics.alert(alert.target, alert.type, alert.severity.label, active)
        started_at = self._raised_at[alert.target, alert.type]
        self._pusher.put(Pushed(alert.labels, {**_annotations(alert), **self._from}, started_at, ended_at))


def _keep_all(connection: sqlite3.Connection, batch: Sequence[_News]) -> None:
    for news in batch:
        change, at = news.change, news.at
        alert = change.alert
        match change.kind:
            case Kind.RAISED:
                raise_alert(connection, alert.target, alert.type, alert.severity, alert.message, at)
            case Kind.UPDATED:
                update_alert(connection, alert.target, alert.type, alert.message, at)
            case _ if change.end is not End.BY_HAND:  # that one is kept already
                end_condition(connection, alert.target, alert.type, at)


def _annotations(alert: Alert) -> dict[str, str]:
    annotations = {
        "summary": f"{alert.target}: {alert.message}",
        "operations": ", ".join(alert.operations),
        "reason": alert.reason or "",
        "s3_code": alert.s3_code,
        "request_id": alert.request_id,
        "runbook_url": f"{RUNBOOKS}/{alert.labels['alertname']}.md",
    }
    return {name: text for name, text in annotations.items() if text}
