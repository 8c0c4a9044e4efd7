"""`POST` endpoints that steer: close a breaker, start and stop probing."""

import time

from aiohttp import web

from exporter.app import App
from exporter.overrides import ALL
from exporter.web.api.breaker import breaker_seen
from exporter.web.api.declare import answered, posting, unknown_target
from exporter.web.api.models import Breakers, Monitored, Monitoring
from exporter.web.api.parameters import NoBody, OfTarget
from exporter.web.keys import APP, CALLER


@posting(
    "/api/health/circuit-breaker/reset", query=OfTarget, body=NoBody, answer=Breakers, refusals=(404, 503)
)
async def reset(request: web.Request, asked: OfTarget, _body: NoBody) -> web.Response:
    """Close a circuit breaker by hand.

    It forgets the failures that it has seen; one that exporter.yaml disables stays so.
    """
    app = request.app[APP]
    if asked.target is not None and asked.target not in app.targets:
        return unknown_target(request, asked.target)
    names = _names(app, asked)
    await app.reset_breakers(names)
    now, wall_clock = time.monotonic(), time.time()
    # A reload may have removed some meanwhile.
    items = [
        breaker_seen(name, app.targets[name].breaker.status(now), now, wall_clock)
        for name in names
        if name in app.targets
    ]
    return answered(Breakers(items=items, events=None))


@posting("/api/health/monitoring/start", query=OfTarget, body=NoBody, answer=Monitoring, refusals=(404, 503))
async def start(request: web.Request, asked: OfTarget, _body: NoBody) -> web.Response:
    """Probe on the interval again.

    It is in force at once, and after a restart too.
    """
    return await _set_enabled(request, asked, enabled=True)


@posting("/api/health/monitoring/stop", query=OfTarget, body=NoBody, answer=Monitoring, refusals=(404, 503))
async def stop(request: web.Request, asked: OfTarget, _body: NoBody) -> web.Response:
    """Probe no more but when asked to.

    It is in force at once, and after a restart too. What is due meanwhile counts as stopped.
    """
    return await _set_enabled(request, asked, enabled=False)


async def _set_enabled(request: web.Request, asked: OfTarget, *, enabled: bool) -> web.Response:
    app = request.app[APP]
    if asked.target is not None and asked.target not in app.targets:
        return unknown_target(request, asked.target)
    await app.change(asked.target or ALL, {"enabled": enabled}, CALLER.get())
    items = [
        Monitored(target=name, enabled=app.targets[name].settings.probe.enabled)
        for name in _names(app, asked)
    ]
    return answered(Monitoring(items=items))


def _names(app: App, asked: OfTarget) -> list[str]:
    return [name for name in app.targets if asked.target in (None, name)]
