"""Every query of every dashboard has an answer, on a real Prometheus that scraped good and bad days."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from ssl import SSLContext
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from tests.alertmanager.rig import answering, member
from tests.grafana.boards import Asked, Json, boards, filled, label_values, panels, queries, variables
from tests.prometheus import Prometheus, prometheus
from tests.running import demo_server, serving_command, target, write
from tests.serving import serving as served

PATIENCE_SECONDS = 20
SPAN_SECONDS = 20
TROUBLED = "failing"
TARGETS = {TROUBLED, "throttled", "healthy"}

GLOBALS = {"__interval": "1s", "__rate_interval": "10s", "__range": f"{SPAN_SECONDS}s"}

SCRAPE = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: r2
    static_configs: [{{targets: ["{address}"]}}]
"""

# One without a target, as rules about the exporter itself are, and one that the exporter tells as well.
RULES = """
groups:
  - name: test
    rules:
      - alert: R2HistoryNotWriting
        expr: max(r2_exporter_history_up) == 1
        labels: {severity: high}
      - alert: R2ServiceDegraded
        expr: max by (target) (r2_alert_active{type="service_degraded"}) == 1
        labels: {severity: warning, type: service_degraded}
"""


@asynccontextmanager
async def tls_front(storage: str, context: SSLContext) -> AsyncIterator[str]:
    """A TLS endpoint in front of a storage that has none."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.Response:
            body = await request.read()
            async with session.request(
                request.method, storage + request.raw_path, headers=request.headers, data=body
            ) as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower().startswith(("x-amz", "etag"))}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", forward)
        async with served(application, tls=context) as front:
            yield front.url


@pytest.fixture
async def scraped(tmp_path: Path, authority: trustme.CA, serving: SSLContext) -> AsyncIterator[Prometheus]:
    """Prometheus, and an exporter whose three targets fail, are throttled, and are well."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    probe = {
        "interval": "1s",
        "timeout": "800ms",
        "operations": ["put", "get", "head", "list", "delete"],
        "fresh_connection_every": 2,
    }
    with demo_server("failing") as failing, demo_server("throttled") as throttled:
        async with tls_front(failing, serving) as front, member() as well, member(answering(503)) as ill:
            config = write(
                tmp_path / "exporter.yaml",
                target(TROUBLED, front, "media", addressing_style="path", ca_file=str(bundle), probe=probe),
                target("throttled", throttled, "media", addressing_style="path", probe=probe),
                target("healthy", throttled, "backups", addressing_style="path", probe=probe),
                # Closed for a second, open for a second: both are there whenever Prometheus looks.
                breaker={"recovery_timeout": "1s", "failure_threshold": 5, "monitoring_window": "10s"},
                alertmanager={"urls": [well.url, ill.url]},
            )
            async with serving_command(config) as exporter:
                (tmp_path / "rules.yml").write_text(RULES)
                address = exporter.url.removeprefix("http://")
                async with prometheus(tmp_path, SCRAPE.format(address=address)) as server:
                    yield server


async def test_every_query_has_an_answer(
    scraped: Prometheus, record_testsuite_property: Callable[[str, object], None]
) -> None:
    asked: list[Asked] = []
    for board in boards().values():
        values = await until(partial(chosen, scraped, board))
        asked += [Asked(one.where, filled(one.expr, values), one.instant) for one in queries(board)]
    unanswered = asked
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while unanswered := [one for one in unanswered if not await has_answer(scraped, one)]:
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail("no answer:\n" + "\n".join(f"{one.where}: {one.expr}" for one in unanswered))

    shown = sum(len(panels(board)) for board in boards().values())
    record_testsuite_property("grafana_panels", shown)
    record_testsuite_property("grafana_queries", len(asked))


async def test_an_alert_of_both_is_one_and_leads_to_its_runbook(scraped: Prometheus) -> None:
    [asked] = [one for one in queries(boards()["r2-overview"]) if "Active alerts" in one.where]
    expression = filled(asked.expr, GLOBALS | {"job": ".+", "target": ".+"})
    degraded = f"alertname=R2ServiceDegraded,severity=warning,target={TROUBLED}"

    async def found() -> dict[str, float]:
        both = await scraped.query('count(ALERTS{alertstate="firing"})')
        alerts = await scraped.query(expression)
        return alerts if both and both[""] >= 2 and degraded in alerts else {}

    alerts = await until(found)
    assert alerts[degraded] == 1
    # One that is about no target shows as well.
    assert alerts["alertname=R2HistoryNotWriting,severity=high"] == 1


async def until(ask: Callable[[], Any]) -> Any:
    """Asks until the answer is not empty."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (answer := await ask()):
            await asyncio.sleep(0.2)
    return answer


async def chosen(server: Prometheus, board: Json) -> dict[str, str]:
    """What stands for each variable when a person opens the dashboard; nothing while one has no values.

    All of them where all can be chosen, the target in trouble where one is.
    """
    values = dict(GLOBALS)
    for name, variable in variables(board).items():
        if variable["type"] != "query":
            values[name] = variable.get("current", {}).get("value", "")
            continue
        series, label = label_values(variable["query"])
        found = await server.get(f"label/{label}/values", **{"match[]": filled(series, values)})
        if not found or (name == "target" and set(found) != TARGETS):
            return {}
        values[name] = variable["allValue"] if variable["includeAll"] else TROUBLED
    return values


async def has_answer(server: Prometheus, asked: Asked) -> bool:
    """Whether at least one series has at least one value that is a number."""
    if asked.instant:
        return any(math.isfinite(value) for value in (await server.query(asked.expr)).values())
    now = time.time()
    data = await server.get(
        "query_range", query=asked.expr, start=str(now - SPAN_SECONDS), end=str(now), step="1"
    )
    return any(math.isfinite(float(value)) for series in data["result"] for _, value in series["values"])
