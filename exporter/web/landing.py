"""`/`: where to go from here, for a person who found the port."""

import math
import time
from html import escape
from urllib.parse import urlencode

from aiohttp import web

from exporter import __version__
from exporter.breaker import State
from exporter.outcome import Operation
from exporter.target import Target
from exporter.web.keys import APP

routes = web.RouteTableDef()

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>r2-exporter</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: .25rem 1rem .25rem 0; }}
</style>
</head>
<body>
<h1>r2-exporter {version}</h1>
<ul>
<li><a href="/metrics">/metrics</a>: all metrics, for Prometheus</li>
<li><a href="/sd">/sd</a>: the targets, for Prometheus' HTTP service discovery</li>
<li><a href="/-/healthy">/-/healthy</a>, <a href="/-/ready">/-/ready</a>: for health checks</li>
</ul>
<h2>Targets</h2>
<table>
<thead>
<tr><th scope="col">Target</th><th scope="col">Bucket</th><th scope="col">Breaker</th>{operations}
<th scope="col">Probe now</th></tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


@routes.get("/")
async def landing(request: web.Request) -> web.Response:
    heads = "".join(f'<th scope="col">{operation.value.upper()}</th>' for operation in Operation)
    rows = "\n".join(_row(name, target) for name, target in request.app[APP].targets.items())
    page = PAGE.format(version=escape(__version__), operations=heads, rows=rows)
    return web.Response(text=page, content_type="text/html")


def _row(name: str, target: Target) -> str:
    query = escape(urlencode({"target": name, "debug": "true"}))
    cells = "".join(f"<td>{_state(target, operation)}</td>" for operation in Operation)
    return (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(target.settings.bucket)}</td>'
        f"<td>{_breaker(target)}</td>{cells}"
        f'<td><a href="/probe?{query}">probe, with details</a></td></tr>'
    )


def _breaker(target: Target) -> str:
    status = target.breaker.status(time.monotonic())
    state = status.state.replace("_", " ")
    return f"{state}, next try in {math.ceil(status.retry_after)} s" if status.state is State.OPEN else state


def _state(target: Target, operation: Operation) -> str:
    if operation not in target.settings.probe.operations:
        return "not probed"
    outcome = target.status.latest.get(operation)
    if outcome is None:
        return "not yet"
    if outcome.failure is not None:
        return escape(f"failed: {outcome.failure.reason}")
    return f"{outcome.duration * 1000:.0f} ms"
