"""`/api/health/history`: the results of checks, page by page."""

import sqlite3
from functools import partial

from aiohttp import web

from exporter.history.queries import Filter, Row, check_page
from exporter.outcome import Operation, Phase, Reason
from exporter.web.api.declare import getting, in_time
from exporter.web.api.models import Result, ResultPage
from exporter.web.api.paging import encoded_page
from exporter.web.api.parameters import OfResults
from exporter.web.api.units import milliseconds, time_of
from exporter.web.keys import APP

PATH = "/api/health/history"


@getting(PATH, query=OfResults, answer=ResultPage, refusals=(503,))
async def history(request: web.Request, asked: OfResults) -> web.Response:
    """Recent results of checks, newest first.

    A target that is configured no more can still be asked for.
    """
    read = request.app[APP].history.read(partial(_page, asked=asked, sent=dict(request.query)))
    return web.Response(body=await in_time(read), content_type="application/json")


def _page(connection: sqlite3.Connection, asked: OfResults, sent: dict[str, str]) -> bytes:
    wanted = Filter(asked.target, asked.operation, asked.since, asked.success)
    page = check_page(connection, wanted, asked.limit, asked.offset)
    items = [_result(row) for row in page.rows]
    return encoded_page(ResultPage, PATH, asked, sent, items=items, total=page.total)


def _result(row: Row) -> Result:
    phases = {phase: milliseconds(row[f"{phase.value}_seconds"]) for phase in Phase}
    return Result(
        id=row["id"],
        checked_at=time_of(row["checked_at"]),
        target=row["target"],
        operation=Operation(row["operation"]),
        success=bool(row["success"]),
        duration=milliseconds(row["duration_seconds"]) or 0.0,
        phases={phase: took for phase, took in phases.items() if took is not None},
        reason=Reason(row["reason"]) if row["reason"] else None,
        s3_code=row["s3_code"],
        status=row["status"],
        request_id=row["request_id"],
        message=row["message"],
        hint=row["hint"],
    )
