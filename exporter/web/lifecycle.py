"""`/-/healthy`, `/-/ready` and `/-/reload`, as Prometheus has them."""

from aiohttp import web

from exporter.config import ConfigError
from exporter.web.errors import error
from exporter.web.keys import APP, RELOAD

routes = web.RouteTableDef()


@routes.get("/-/healthy")
async def healthy(_request: web.Request) -> web.Response:
    return web.Response(text="r2-exporter is healthy.\n")


@routes.get("/-/ready")
async def ready(request: web.Request) -> web.Response:
    if request.app[APP].ready:
        return web.Response(text="r2-exporter is ready.\n")
    return web.Response(status=503, text="r2-exporter is not ready.\n")


@routes.post("/-/reload")
async def reload(request: web.Request) -> web.Response:
    try:
        await request.app[RELOAD]()
    except ConfigError as invalid:
        details = [
            {"path": problem.path, "line": problem.line, "message": problem.message}
            for problem in invalid.problems
        ]
        message = f"{invalid.source} was not reloaded; the configuration before stays in force."
        return error(500, "invalid_configuration", message, details)
    return web.Response(text="Configuration reloaded.\n")
