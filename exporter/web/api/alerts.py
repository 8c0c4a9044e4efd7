"""`/api/health/alerts`: the alerts that are kept, resolving one by hand, and what Alertmanager tells."""

import asyncio
import sqlite3
import time
from functools import partial

from aiohttp import web

from exporter.alertmanager.silence import SilenceError
from exporter.history.alerts import (
    NoSuchAlertError,
    ResolvedAlreadyError,
    Row,
    alert_page,
    keep_notices,
)
from exporter.web.api.alert_models import OfAlert, Received, ResolveRequest, WebhookBody
from exporter.web.api.declare import answered, getting, in_time, posting
from exporter.web.api.models import Alert, AlertPage
from exporter.web.api.paging import encoded_page
from exporter.web.api.parameters import NothingAsked, OfAlerts, RefusedError
from exporter.web.api.units import time_of, time_or_none
from exporter.web.errors import error
from exporter.web.keys import APP, CALLER
from exporter.web.paths import WEBHOOK

PATH = "/api/health/alerts"


@getting(PATH, query=OfAlerts, answer=AlertPage, refusals=(503,))
async def alerts(request: web.Request, asked: OfAlerts) -> web.Response:
    """Alerts, newest first; without resolved=true those that are open."""
    read = request.app[APP].history.read(partial(_page, asked=asked, sent=dict(request.query)))
    return web.Response(body=await in_time(read), content_type="application/json")


@posting(f"{PATH}/{{id}}/resolve", query=OfAlert, body=ResolveRequest, answer=Alert, refusals=(404, 409, 503))
async def resolve_alert(request: web.Request, asked: OfAlert, body: ResolveRequest) -> web.Response:
    """Resolve an alert by hand, with notes.

    It does not come back while the same condition lasts. With `silence` Alertmanager is asked to say
    nothing of it for so long; without `alertmanager.urls` in exporter.yaml there is nobody to ask.
    """
    app = request.app[APP]
    silence = None if body.silence is None else body.silence / 1000
    try:
        row = await app.alerting.resolve(asked.id, by=CALLER.get(), notes=body.notes, silence=silence)
    except NoSuchAlertError:
        return error(404, "unknown_alert", f"There is no alert {asked.id}; GET {PATH} lists them.")
    except ResolvedAlreadyError:
        return error(409, "resolved_already", f"Alert {asked.id} is resolved already.")
    except SilenceError as refused:
        if not refused.asked:
            raise RefusedError([{"field": "silence", "message": str(refused)}]) from refused
        return error(503, "alertmanager_unavailable", f"Nothing was resolved: {refused}.")
    return answered(alert_of(row))


@posting(WEBHOOK, query=NothingAsked, body=WebhookBody, answer=Received, refusals=(503,))
async def webhook(request: web.Request, _asked: NothingAsked, body: WebhookBody) -> web.Response:
    """Take what Alertmanager tells its webhook receivers, version 4.

    It marks alerts as notified, by which receiver, and their end as told. What Prometheus' rules raised
    and this exporter did not is kept as well; alerts of other systems are ignored.
    """
    app = request.app[APP]
    notices = await asyncio.to_thread(body.notices)
    await app.history.change(partial(keep_notices, notices=notices, at=time.time()))
    return answered(Received(recorded=len(notices), ignored=len(body.alerts) - len(notices)))


def _page(connection: sqlite3.Connection, asked: OfAlerts, sent: dict[str, str]) -> bytes:
    total, rows = alert_page(
        connection, asked.target, resolved=asked.resolved, limit=asked.limit, offset=asked.offset
    )
    items = [alert_of(row) for row in rows]
    return encoded_page(AlertPage, PATH, asked, sent, items=items, total=total)


def alert_of(row: Row) -> Alert:
    """A row of service_alerts as the API shows it."""
    return Alert(
        id=row["id"],
        target=row["target"],
        type=row["type"],
        severity=row["severity"],
        message=row["message"],
        source=row["source"],
        created_at=time_of(row["created_at"]),
        updated_at=time_of(row["updated_at"]),
        notified_at=time_or_none(row["notified_at"]),
        notified_by=row["notified_by"],
        resolution_notified_at=time_or_none(row["resolution_notified_at"]),
        resolved_at=time_or_none(row["resolved_at"]),
        resolved_by=row["resolved_by"],
        notes=row["notes"],
        silence_id=row["silence_id"],
        silenced_until=time_or_none(row["silenced_until"]),
    )
