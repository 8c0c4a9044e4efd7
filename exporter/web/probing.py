"""`/probe` and `/sd`: the blackbox convention, and Prometheus' HTTP service discovery for it."""

from aiohttp import web

from exporter.config import TargetSettings
from exporter.masking import MASK, is_secret_key, mask
from exporter.on_demand import NotNowError
from exporter.outcome import Operation, Outcome
from exporter.s3.printable import printable
from exporter.storage import Reply
from exporter.target import Run
from exporter.web.api.parameters import repeated
from exporter.web.errors import error
from exporter.web.keys import APP
from exporter.web.metrics import one_target

routes = web.RouteTableDef()

PARAMETERS = ("target", "operations", "debug")
SCRAPE_TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
ANSWER_SECONDS = 0.5
"""Kept back of the scrape's timeout (at most half of it), so that we answer before Prometheus gives up."""
HEADER_LIMIT = 1000
"""Characters that are shown of a header of the storage."""


@routes.get("/probe")
async def probe(request: web.Request) -> web.StreamResponse:
    if twice := repeated(request.query):
        named = ", ".join(name for name in twice if name in PARAMETERS) or "a parameter"
        return error(400, "repeated_parameter", f"{named}: is given more than once")
    app, name = request.app[APP], request.query.get("target", "")
    if name not in app.targets:
        message = (
            app.shard.unknown(name) if name else "The parameter target is missing; /sd lists the targets."
        )
        return error(404 if name else 400, "unknown_target" if name else "missing_target", message)
    try:
        operations = _operations(request.query.get("operations", ""))
    except ValueError as wrong:
        return error(400, "unknown_operation", str(wrong))
    settings = app.targets[name].settings
    longest = len(operations or settings.probe.operations) * settings.probe.timeout
    limit = _limit(request.headers.get(SCRAPE_TIMEOUT, ""), longest)
    try:
        run = await app.probe_now(name, operations, limit)
    except NotNowError as refused:
        return error(503, refused.code, str(refused))
    except KeyError:
        return error(404, "unknown_target", f"a reload has just removed the target {name!r}")
    if request.query.get("debug", "").lower() in {"true", "1"}:
        return web.Response(text=_report(settings, run))
    return await one_target(request, name)


@routes.get("/sd")
async def service_discovery(request: web.Request) -> web.Response:
    """One entry a target, ready to scrape with no relabelling.

    https://prometheus.io/docs/prometheus/latest/http_sd/
    The address is the one that Prometheus reached us at, and `instance` the target's name.
    """
    entries = [
        {
            "targets": [request.host],
            "labels": {
                **target.settings.labels,
                "__metrics_path__": "/probe",
                "__param_target": name,
                "instance": name,
            },
        }
        for name, target in request.app[APP].targets.items()
    ]
    return web.json_response(entries)


def _operations(text: str) -> list[Operation]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [operation.value for operation in Operation]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown operation {', '.join(unknown)}; there are {', '.join(known)}")
    return [Operation(name) for name in names]


def _limit(header: str, longest: float) -> float | None:
    """Seconds that the run may take, of the scrape timeout that Prometheus says it has.

    None if that cuts nothing short: who has more time than a run can take shares it with others.
    """
    try:
        whole = float(header)
    except ValueError:
        return None
    limit = max(whole - ANSWER_SECONDS, whole / 2)
    return limit if 0 < limit < longest else None


def _report(settings: TargetSettings, run: Run) -> str:
    place = f"bucket {settings.bucket} at {settings.endpoint}, region {settings.region}"
    head = f"target {settings.name}: {place}\n"
    skipped = (f"\n{operation.value}: skipped, {reason}\n" for operation, reason in run.skipped.items())
    return mask(
        head + "".join(_describe(outcome, reply) for outcome, reply in run.results) + "".join(skipped)
    )


def _describe(outcome: Outcome, reply: Reply) -> str:
    verdict = "success" if outcome.failure is None else f"FAILURE {outcome.failure.reason}"
    lines = [f"\n{outcome.operation.value}: {verdict} after {outcome.duration:.6f}s"]
    if outcome.failure is not None:
        lines.append(f"  cause: {outcome.failure.message}")
        lines += [f"  hint: {outcome.failure.hint}"] if outcome.failure.hint else []
    lines += [f"  phase {phase.value}: {seconds:.6f}s" for phase, seconds in outcome.phases.items()]
    lines += ["  a kept connection was closed by the storage and replaced"] if outcome.reconnected else []
    lines.append(f"  > {reply.request.method} {reply.request.url}")
    lines += [f"  > {header}: {value}" for header, value in reply.request.headers.items()]
    if reply.answer is not None:
        lines.append(f"  < HTTP {reply.answer.status}, {len(reply.answer.body)} bytes")
        lines += [f"  < {_shown(header, value)}" for header, value in reply.answer.headers.items()]
    return "\n".join(lines) + "\n"


def _shown(header: str, value: str) -> str:
    return printable(f"{header}: {MASK if is_secret_key(header) else value}", HEADER_LIMIT)
