"""Alerts as they are kept: raised, told of by Alertmanager, resolved by their condition's end or by hand."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Connection = sqlite3.Connection
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resolution:
    """Who ended an alert by hand, and what to remember of it. Times are Unix seconds."""

    by: str
    notes: str | None = None
    silence_id: str | None = None
    silenced_until: float | None = None


CARRIED_OVER = "r2-exporter"
"""Who resolved by hand what a history that was begun anew does not know more of."""


class NoSuchAlertError(Exception):
    """There is no alert of this number."""


class ResolvedAlreadyError(Exception):
    """The alert is over."""


def raise_alert(
    connection: Connection, target: str, alert_type: str, severity: str, message: str, at: float
) -> int:
    """Keeps an alert of the exporter's own, from `at` (Unix seconds) on; its number."""
    _take_place(connection, target, alert_type, at)
    added = connection.execute(
        "INSERT INTO service_alerts (target, type, severity, message, created_at, updated_at) "
        "VALUES (:target, :type, :severity, :message, :at, :at) RETURNING id",
        {"target": target, "type": alert_type, "severity": severity, "message": message, "at": at},
    )
    (number,) = added.fetchone()
    return int(number)


def update_alert(connection: Connection, target: str, alert_type: str, message: str, at: float) -> None:
    """Keeps what has become of an open alert of the exporter's own."""
    connection.execute(
        "UPDATE service_alerts SET message = :message, updated_at = :at "
        "WHERE target = :target AND type = :type AND resolved_at IS NULL AND source = 'exporter'",
        {"target": target, "type": alert_type, "message": message, "at": at},
    )


def end_condition(connection: Connection, target: str, alert_type: str, at: float) -> None:
    """What raised an alert is over: it is resolved, if nobody has done that by hand."""
    connection.execute(
        "UPDATE service_alerts SET condition_ended_at = :at, updated_at = :at, "
        "resolved_at = coalesce(resolved_at, :at) "
        "WHERE target = :target AND type = :type AND condition_ended_at IS NULL AND source = 'exporter'",
        {"target": target, "type": alert_type, "at": at},
    )


@dataclass(frozen=True, slots=True)
class Held:
    """An alert that is active, since `raised_at` (Unix seconds)."""

    target: str
    type: str
    severity: str
    message: str
    raised_at: float


def keep_all(connection: Connection, held: Sequence[Held], hidden: Sequence[Held], at: float) -> None:
    """Makes the open alerts those that are active; `hidden` are resolved by hand, and their cause lasts."""
    lasting = {(row["target"], row["type"]): row for row in lasting_alerts(connection)}
    active = {(alert.target, alert.type): alert for alert in held}
    silent = {(alert.target, alert.type): alert for alert in hidden}
    for target, alert_type in lasting.keys() - active.keys() - silent.keys():
        end_condition(connection, target, alert_type, at)
    for key, alert in active.items():
        if key not in lasting or lasting[key]["resolved_at"] is not None:
            raise_alert(connection, *key, alert.severity, alert.message, alert.raised_at)
    for key in silent.keys() - lasting.keys():
        alert = silent[key]
        number = raise_alert(connection, *key, alert.severity, alert.message, alert.raised_at)
        resolve_by_hand(connection, number, Resolution(CARRIED_OVER), at)


def resolve_by_hand(connection: Connection, number: int, resolution: Resolution, at: float) -> Row:
    """Resolves an open alert; the row. Raises NoSuchAlertError and ResolvedAlreadyError."""
    row = find_alert(connection, number)
    if row["resolved_at"] is not None:
        raise ResolvedAlreadyError
    connection.execute(
        "UPDATE service_alerts SET resolved_at = :at, updated_at = :at, resolved_by = :by, notes = :notes, "
        "silence_id = :silence_id, silenced_until = :silenced_until WHERE id = :id",
        {
            "id": number,
            "at": at,
            "by": resolution.by,
            "notes": resolution.notes,
            "silence_id": resolution.silence_id,
            "silenced_until": resolution.silenced_until,
        },
    )
    return find_alert(connection, number)


def find_alert(connection: Connection, number: int) -> Row:
    """One alert. Raises NoSuchAlertError."""
    cursor = connection.execute("SELECT * FROM service_alerts WHERE id = ?", (number,))
    found = cursor.fetchone()
    if found is None:
        raise NoSuchAlertError
    return _as_row(cursor, found)


def lasting_alerts(connection: Connection) -> list[Row]:
    """The exporter's own alerts whose condition has not ended, those resolved by hand among them."""
    cursor = connection.execute(
        "SELECT * FROM service_alerts INDEXED BY service_alerts_lasting "
        "WHERE condition_ended_at IS NULL AND source = 'exporter' ORDER BY target, type"
    )
    return [_as_row(cursor, found) for found in cursor.fetchall()]


def alert_page(
    connection: Connection, target: str | None, *, resolved: bool, limit: int, offset: int
) -> tuple[int, list[Row]]:
    """How many alerts there are, open or all, and some of them, newest first."""
    conditions = {"resolved_at IS NULL": not resolved, "target = :target": target is not None}
    given = " AND ".join(text for text, holds in conditions.items() if holds) or "TRUE"
    values = {"target": target, "limit": limit, "offset": offset}
    (total,) = connection.execute(
        f"SELECT count(*) FROM service_alerts WHERE {given}",  # noqa: S608 - constants
        values,
    ).fetchone()
    cursor = connection.execute(
        f"SELECT * FROM service_alerts WHERE {given} "  # noqa: S608 - constants
        "ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset",
        values,
    )
    return total, [_as_row(cursor, found) for found in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class Notice:
    """What Alertmanager told somebody of one alert. Times are Unix seconds."""

    target: str
    type: str
    severity: str
    message: str
    receiver: str
    started_at: float
    ended_at: float | None


def keep_notices(connection: Connection, notices: list[Notice], at: float) -> None:
    """Keeps that somebody was told. An alert that nobody has raised here is kept as Alertmanager's.

    None began or ended after `at`, when it was told, nor ended before it began: it would come first of
    all for ever, and never be too old to be kept.
    """
    for notice in notices:
        if notice.ended_at is None:
            _keep_firing(connection, notice, at)
        else:
            _keep_ended(connection, notice, notice.ended_at, at)


def _keep_firing(connection: Connection, notice: Notice, at: float) -> None:
    values = {
        "target": notice.target,
        "type": notice.type,
        "severity": notice.severity,
        "message": notice.message,
        "receiver": notice.receiver,
        "started_at": min(notice.started_at, at),
        "at": at,
    }
    told = connection.execute(
        "UPDATE service_alerts SET notified_at = :at, notified_by = :receiver "
        "WHERE target = :target AND type = :type AND resolved_at IS NULL",
        values,
    )
    if told.rowcount or _resolved_by_hand(connection, notice):
        return
    connection.execute(
        "INSERT INTO service_alerts (target, type, severity, message, source, created_at, updated_at, "
        "notified_at, notified_by) VALUES (:target, :type, :severity, :message, 'alertmanager', "
        ":started_at, :at, :at, :receiver)",
        values,
    )


def _keep_ended(connection: Connection, notice: Notice, ended_at: float, at: float) -> None:
    values = {"target": notice.target, "type": notice.type, "ended_at": min(ended_at, at), "at": at}
    connection.execute(
        "UPDATE service_alerts SET resolution_notified_at = :at WHERE id = "
        "(SELECT max(id) FROM service_alerts WHERE target = :target AND type = :type) "
        "AND notified_at IS NOT NULL",
        values,
    )
    connection.execute(
        "UPDATE service_alerts SET resolved_at = max(created_at, :ended_at), "
        "condition_ended_at = max(created_at, :ended_at), updated_at = :at "
        "WHERE target = :target AND type = :type AND resolved_at IS NULL AND source = 'alertmanager'",
        values,
    )


def _resolved_by_hand(connection: Connection, notice: Notice) -> bool:
    """Whether somebody resolved it while it was firing, so that it is no new one."""
    found = connection.execute(
        "SELECT resolved_by FROM service_alerts WHERE target = :target AND type = :type "
        "AND resolved_by IS NOT NULL AND (resolved_at >= :started_at OR condition_ended_at IS NULL "
        "AND source = 'exporter') ORDER BY id DESC LIMIT 1",
        {"target": notice.target, "type": notice.type, "started_at": notice.started_at},
    ).fetchone()
    return found is not None


def _take_place(connection: Connection, target: str, alert_type: str, at: float) -> None:
    """Ends what was said of the same before, for of each target and type one alert is open, and one lasts."""
    end_condition(connection, target, alert_type, at)
    connection.execute(
        "UPDATE service_alerts SET resolved_at = :at, condition_ended_at = :at, updated_at = :at "
        "WHERE target = :target AND type = :type AND resolved_at IS NULL",
        {"target": target, "type": alert_type, "at": at},
    )


def _as_row(cursor: sqlite3.Cursor, found: tuple[Any, ...]) -> Row:
    """By name, whatever the connection makes of its rows."""
    return dict(zip((column[0] for column in cursor.description), found, strict=True))
