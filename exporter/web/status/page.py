"""The page itself: what is asked, what is known at this moment, and the answer made of it off the loop."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from exporter import __version__
from exporter.alerts import Alert
from exporter.app import App
from exporter.history import HistoryState, HistoryUnavailableError
from exporter.shard import Shard
from exporter.web.api.declare import in_time
from exporter.web.api.health import Seen
from exporter.web.api.health_models import TargetHealth
from exporter.web.api.verdict import overall
from exporter.web.keys import APP
from exporter.web.status import assets, wording
from exporter.web.status.past import Past, past
from exporter.web.status.selection import ORDER, Asked, Judged, Selection, judge, select
from exporter.web.status.view import target_views

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
AT_A_TURN = 100
"""Targets that are asked before the event loop gets its next turn."""


@dataclass(frozen=True, slots=True)
class Now:
    """Everything that is known without the history. `at` is Unix time, `monotonic` of the breakers' clock."""

    judged: Sequence[Judged]
    alerts: Sequence[Alert]
    history: HistoryState
    shard: Shard
    at: float
    monotonic: float


async def page(request: web.Request) -> web.Response:
    """It answers whatever has become of the history, and says so."""
    app = request.app[APP]
    asked = Asked.of(request.query, request.query.getall("open", []))
    now = await _now(app)
    selection = await asyncio.to_thread(select, now.judged, asked)
    kept = await _past(app, selection, now.at)
    answer = web.Response(
        body=await asyncio.to_thread(render, asked, selection, now, kept),
        content_type="text/html",
        charset="utf-8",
        headers={"Cache-Control": "no-store"},
    )
    answer.enable_compression()
    return answer


routes = [web.get("/", page), *assets.ROUTES]


async def _now(app: App) -> Now:
    seen: list[Seen] = []
    alerts: list[Alert] = []
    at, monotonic = time.time(), time.monotonic()
    for number, (name, each) in enumerate(list(app.targets.items()), 1):
        seen.append(Seen(each.settings, dict(each.status.latest), each.breaker.status(monotonic)))
        alerts += app.alerting.active(name).values()
        if number % AT_A_TURN == 0:
            await asyncio.sleep(0)
    return Now(await asyncio.to_thread(judge, seen), alerts, app.history.state(), app.shard, at, monotonic)


async def _past(app: App, selection: Selection, at: float) -> Past:
    shown = [each.name for each in selection.shown]
    try:
        return await in_time(app.history.read(partial(past, shown=shown, opened=selection.opened, now=at)))
    except HistoryUnavailableError as unavailable:
        return Past(error=str(unavailable))


def render(asked: Asked, selection: Selection, now: Now, kept: Past) -> bytes:
    """The whole page."""
    # What is known of all targets follows from the statuses that there are.
    kinds = [TargetHealth.model_construct(target="", status=each, reasons=[]) for each in selection.counts]
    status, _ = overall(kinds)
    history_error = kept.error if now.history.up else now.history.error
    return (
        _ENVIRONMENT.get_template("page.html")
        .render(
            version=__version__,
            shard=now.shard,
            addresses=assets.ADDRESSES,
            status=status,
            order=ORDER,
            asked=asked,
            selection=selection,
            targets=target_views(selection, kept, now.monotonic, now.at),
            alerts=sorted(kept.alerts, key=lambda alert: SEVERITIES.index(alert["severity"])),
            active=kept.active if kept.error is None else len(now.alerts),
            unkept=now.alerts if kept.error is not None else (),
            resolved=kept.resolved,
            history=now.history,
            history_error=history_error,
            past_known=kept.error is None,
            now=now.at,
        )
        .encode(errors="replace")
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(wording, name)
        for name in ("headline", "latency", "percent", "span", "size", "clock", "moment", "iso")
    }
    environment.globals["words"] = wording.WORDS
    return environment


_ENVIRONMENT = _environment()
