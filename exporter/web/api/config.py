"""`/api/health/config`: the settings in force, changed at run time, and who changed what."""

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from aiohttp import web

from exporter.config import Settings, TargetSettings
from exporter.history.overrides import ChangedMeanwhileError, Kept, changes_page
from exporter.overrides import ALL, SettingError, in_force, laid_over
from exporter.web.api.config_models import (
    AuditEntry,
    AuditPage,
    Changed,
    Config,
    ConfigChange,
    ConfigChanged,
    OfChange,
    Override,
    TargetConfig,
)
from exporter.web.api.declare import answered, encoded, getting, in_time, posting, unknown_target
from exporter.web.api.paging import encoded_page
from exporter.web.api.parameters import NoBody, OfTarget, Paged, RefusedError
from exporter.web.api.units import time_of
from exporter.web.errors import error
from exporter.web.keys import APP, CALLER

PATH = "/api/health/config"
CHANGES = f"{PATH}/changes"
CHANGED_MEANWHILE = "The settings have changed since they were read: read them again, then change them."


@getting(PATH, query=OfTarget, answer=Config, refusals=(404,), tagged=True)
async def config(request: web.Request, asked: OfTarget) -> web.Response:
    """The settings in force, and where each comes from.

    A setting that is in `overrides` was changed at run time, the others are exporter.yaml's.
    """
    app = request.app[APP]
    if asked.target is not None and asked.target not in app.targets:
        return unknown_target(request, asked.target)
    body = await asyncio.to_thread(_config, app.changed.file, app.changed.kept, asked.target)
    tag = _tag(body)
    sent = request.headers.get("If-None-Match")
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if sent is not None and _holds(sent, tag, weak=True):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type="application/json", headers=headers)


@posting(
    PATH,
    query=OfTarget,
    body=ConfigChange,
    answer=ConfigChanged,
    refusals=(404, 409, 412, 503),
    method="PUT",
    tagged=True,
)
async def change_config(request: web.Request, asked: OfTarget, body: ConfigChange) -> web.Response:
    """Change settings, of one target or of all.

    All of them are changed or none; it is in force at once, and after a restart too. What is not given
    stays; null gives a setting back to exporter.yaml. What is said of all targets goes before what was
    said of single ones until then.
    """
    app = request.app[APP]
    if body.service_name is not None and asked.target not in (None, body.service_name):
        return error(409, "two_targets", "The body's serviceName and the query's target name two targets.")
    name = body.service_name or asked.target
    if name is not None and name not in app.targets:
        return unknown_target(request, name)
    change = partial(app.change, name or ALL, body.changes(), CALLER.get())
    return await _changed(request, asked.target, change)


@getting(CHANGES, query=Paged, answer=AuditPage, refusals=(503,))
async def config_changes(request: web.Request, asked: Paged) -> web.Response:
    """Who changed what at run time, newest first."""
    read = request.app[APP].history.read(partial(_audit, asked=asked, sent=dict(request.query)))
    return web.Response(body=await in_time(read), content_type="application/json")


@posting(
    f"{CHANGES}/{{change}}/revert",
    query=OfChange,
    body=NoBody,
    answer=ConfigChanged,
    refusals=(404, 412, 503),
    tagged=True,
)
async def revert_config(request: web.Request, asked: OfChange, _body: NoBody) -> web.Response:
    """Take a change back.

    What it changed is set to what it was until then, as a change of its own.
    """
    change = partial(request.app[APP].take_back, asked.change, CALLER.get())
    try:
        return await _changed(request, None, change)
    except KeyError:
        return error(404, "unknown_change", f"There is no change {asked.change}; GET {CHANGES} lists them.")


async def _changed(
    request: web.Request,
    target: str | None,
    change: Callable[[int | None], Awaitable[tuple[Kept, Kept]]],
) -> web.Response:
    """Makes a change if it builds on what is there, and answers what is different."""
    app, kept = request.app[APP], request.app[APP].changed.kept
    version, sent = None, request.headers.get("If-Match")
    if sent is not None:
        tag = _tag(await asyncio.to_thread(_config, app.changed.file, kept, target))
        if not _holds(sent, tag, weak=False):
            return error(412, "changed_meanwhile", CHANGED_MEANWHILE)
        version = kept.version
    try:
        before, after = await change(version)
    except ChangedMeanwhileError:
        return error(412, "changed_meanwhile", CHANGED_MEANWHILE)
    except SettingError as wrong:
        details = [{"field": name, "message": message} for name, message in wrong.problems.items()]
        raise RefusedError(details) from wrong
    return answered(await asyncio.to_thread(_difference, app.changed.file, before, after, target))


def _config(file: Settings, kept: Kept, target: str | None) -> bytes:
    return encoded(Config(version=kept.version, items=_items(file, kept, target)))


def _difference(file: Settings, before: Kept, after: Kept, target: str | None) -> ConfigChanged:
    old, new = (_in_force(file, kept, target) for kept in (before, after))
    changed = [
        Changed(service_name=name, setting=setting, from_value=old[name][setting], to_value=value)
        for name, settings in new.items()
        for setting, value in settings.items()
        if old[name][setting] != value
    ]
    return ConfigChanged(
        version=after.version,
        items=_items(file, after, target),
        changed=changed,
        etag=_tag(_config(file, after, target)),
    )


def _items(file: Settings, kept: Kept, target: str | None) -> list[TargetConfig]:
    values = _in_force(file, kept, target)
    return [
        # by the names of the settings, which are the fields' names in JSON
        TargetConfig.model_validate(
            {
                "serviceName": each.name,
                **values[each.name],
                "overrides": dict(_overrides(each, in_force(each), kept)),
            },
            by_alias=True,
        )
        for each in file.targets
        if each.name in values
    ]


def _in_force(file: Settings, kept: Kept, target: str | None) -> Mapping[str, Mapping[str, Any]]:
    settings = laid_over(file, kept.values)
    return {each.name: in_force(each) for each in settings.targets if target in (None, each.name)}


def _overrides(
    target: TargetSettings, of_file: Mapping[str, Any], kept: Kept
) -> Sequence[tuple[str, Override]]:
    own, everywhere = (kept.values.get(name, {}) for name in (target.name, ALL))
    found = []
    for setting in {**everywhere, **own}:
        mark = kept.marks[target.name if setting in own else ALL, setting]
        override = Override(
            scope="target" if setting in own else "all",
            file_value=of_file[setting],
            changed_at=time_of(mark.at),
            changed_by=mark.who,
        )
        found.append((setting, override))
    return found


def _audit(connection: sqlite3.Connection, asked: Paged, sent: dict[str, str]) -> bytes:
    total, rows = changes_page(connection, asked.limit, asked.offset)
    items = [
        AuditEntry(
            change=row["change"],
            at=time_of(row["changed_at"]),
            by=row["changed_by"],
            service_name=row["target"] or None,
            setting=row["setting"],
            from_value=json.loads(row["old_value"] or "null"),
            to_value=json.loads(row["new_value"] or "null"),
        )
        for row in rows
    ]
    return encoded_page(AuditPage, CHANGES, asked, sent, items=items, total=total)


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _holds(sent: str, tag: str, *, weak: bool) -> bool:
    """Whether a condition names this ETag; a weak one never does in If-Match (RFC 9110, section 13.1.1)."""
    tags = [each.strip() for each in sent.split(",")]
    return "*" in tags or tag in [each.removeprefix("W/") if weak else each for each in tags]
