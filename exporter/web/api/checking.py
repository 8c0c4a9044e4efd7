"""`POST /api/health/check`: probes now, and answers what came of it."""

import asyncio
import time
from typing import Annotated

from aiohttp import web
from pydantic import AfterValidator, Field

from exporter.app import App
from exporter.on_demand import NotNowError
from exporter.outcome import Operation, Outcome, SkipReason
from exporter.target import Run
from exporter.web.api.declare import answered, posting, unknown_target
from exporter.web.api.health_models import CheckAnswer, Performed, TargetCheck
from exporter.web.api.parameters import Body, OfTarget, TargetName
from exporter.web.api.units import milliseconds, time_of
from exporter.web.errors import error
from exporter.web.keys import APP


def _once(operations: list[Operation]) -> list[Operation]:
    if len(set(operations)) < len(operations):
        raise ValueError
    return operations


Operations = Annotated[
    list[Operation],
    Field(min_length=1, max_length=len(Operation), json_schema_extra={"uniqueItems": True}),
    AfterValidator(_once),
]


class CheckRequest(Body):
    """What to check."""

    target: TargetName | None = None
    """The target's name, which goes before the query's; without either, all targets."""

    operations: Operations | None = None
    """The S3 operations, in any order; without them, those of the target's turns."""


@posting("/api/health/check", query=OfTarget, body=CheckRequest, answer=CheckAnswer, refusals=(404, 503))
async def check(request: web.Request, asked: OfTarget, body: CheckRequest) -> web.Response:
    """Check now, one target or all.

    Who asks for a check that is under way gets its results. The circuit breaker holds here too: what it
    refuses is answered as skipped.
    """
    app, name = request.app[APP], body.target or asked.target
    if name is not None and name not in app.targets:
        return unknown_target(request, name)
    names = [name] if name is not None else list(app.targets)
    try:
        found = await asyncio.gather(*(_checked(app, each, body.operations or []) for each in names))
    except NotNowError as refused:
        return error(503, refused.code, str(refused))
    results = [each for each in found if each is not None]
    if name is not None and not results:
        return unknown_target(request, name)
    fine = all(each.success for each in results)
    return answered(CheckAnswer(checked_at=time_of(time.time()), success=fine, results=results))


async def _checked(app: App, name: str, operations: list[Operation]) -> TargetCheck | None:
    """None if a reload has just removed the target."""
    try:
        run = await app.probe_now(name, operations)
    except KeyError:
        return None
    return target_check(name, run)


def target_check(name: str, run: Run) -> TargetCheck:
    """A run as the API shows it."""
    operations = [_performed(outcome) for outcome, _ in run.results]
    operations += [_skipped(operation, why) for operation, why in run.skipped.items()]
    return TargetCheck(
        target=name, success=all(each.result == "success" for each in operations), operations=operations
    )


def _performed(outcome: Outcome) -> Performed:
    failure = outcome.failure
    phases = {phase: milliseconds(took) or 0.0 for phase, took in outcome.phases.items()}
    return Performed(
        operation=outcome.operation,
        result="success" if failure is None else "failure",
        duration=milliseconds(outcome.duration),
        phases=phases,
        reason=failure.reason if failure else None,
        s3_code=(failure.s3_code if failure else "") or None,
        status=outcome.status,
        request_id=outcome.request_id or None,
        message=failure.message if failure else None,
        hint=(failure.hint if failure else "") or None,
    )


def _skipped(operation: Operation, why: SkipReason) -> Performed:
    return Performed(
        operation=operation,
        result="skipped",
        duration=None,
        phases={},
        reason=why,
        s3_code=None,
        status=None,
        request_id=None,
        message=None,
        hint=None,
    )
