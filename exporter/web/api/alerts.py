"""`/api/health/alerts`: the alerts that are kept, the open ones unless more are asked for."""

import sqlite3
from functools import partial

from aiohttp import web

from exporter.history.queries import Row
from exporter.web.api.declare import encoded, getting, in_time
from exporter.web.api.models import Alert, AlertPage
from exporter.web.api.paging import next_page
from exporter.web.api.parameters import OfAlerts
from exporter.web.api.units import time_of, time_or_none
from exporter.web.keys import APP

PATH = "/api/health/alerts"


@getting(PATH, query=OfAlerts, answer=AlertPage, refusals=(503,))
async def alerts(request: web.Request, asked: OfAlerts) -> web.Response:
    """Alerts, newest first; without resolved=true those that are open."""
    read = request.app[APP].history.read(partial(_page, asked=asked, sent=dict(request.query)))
    return web.Response(body=await in_time(read), content_type="application/json")


def _page(connection: sqlite3.Connection, asked: OfAlerts, sent: dict[str, str]) -> bytes:
    conditions = {"resolved_at IS NULL": not asked.resolved, "target = :target": asked.target is not None}
    given = " AND ".join(text for text, holds in conditions.items() if holds) or "TRUE"
    values = {"target": asked.target, "limit": asked.limit, "offset": asked.offset}
    of_all = f"FROM service_alerts WHERE {given}"
    (total,) = connection.execute(f"SELECT count(*) {of_all}", values).fetchone()
    rows = connection.execute(
        f"SELECT * {of_all} ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset",
        values,
    )
    return encoded(
        AlertPage(
            items=[alert_of(row) for row in rows],
            total=total,
            limit=asked.limit,
            offset=asked.offset,
            next=next_page(PATH, asked, sent, total),
        )
    )


def alert_of(row: Row) -> Alert:
    """A row of service_alerts as the API shows it."""
    return Alert(
        id=row["id"],
        target=row["target"],
        type=row["type"],
        severity=row["severity"],
        message=row["message"],
        created_at=time_of(row["created_at"]),
        updated_at=time_of(row["updated_at"]),
        notified_at=time_or_none(row["notified_at"]),
        notified_by=row["notified_by"],
        resolved_at=time_or_none(row["resolved_at"]),
        resolved_by=row["resolved_by"],
        notes=row["notes"],
    )
