"""Settings changed at run time: kept by target and setting, with who changed what and when."""

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CARRIED_OVER = "r2-exporter"
"""Who drops, from a file put in the place of another, what is not in force."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Who changed a setting last, and when (Unix seconds)."""

    at: float
    who: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What is changed now, by target and setting; `version` is the number of the last change."""

    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    version: int = 0
    marks: Mapping[tuple[str, str], Mark] = field(default_factory=dict)
    """By target and setting."""


class ChangedMeanwhileError(Exception):
    """Somebody else changed the settings since they were read."""


def kept_overrides(connection: sqlite3.Connection) -> Kept:
    """The settings that do not come from exporter.yaml."""
    rows = connection.execute(
        "SELECT target, setting, value, updated_at, updated_by FROM health_check_config "
        "WHERE value IS NOT NULL"
    ).fetchall()
    values: dict[str, dict[str, Any]] = {}
    marks: dict[tuple[str, str], Mark] = {}
    for target, setting, text, at, who in rows:
        try:
            value = json.loads(text)
        except ValueError:  # somebody wrote it by hand
            continue
        values.setdefault(target, {})[setting] = value
        marks[target, setting] = Mark(at or 0.0, who or "")
    return Kept(values, _version(connection), marks)


def keep_changes(
    connection: sqlite3.Connection,
    where: Mapping[str, Mapping[str, Any]],
    *,
    who: str,
    at: float,
    version: int | None = None,
) -> Kept:
    """Writes changes (None: back to exporter.yaml) by target, '' for all, and the audit trail.

    `at` is Unix time in seconds. Raises ChangedMeanwhileError if the last change is not `version`.
    """
    before = kept_overrides(connection)
    if version is not None and version != before.version:
        raise ChangedMeanwhileError(f"the settings are at version {before.version}, not {version}")
    for target, setting, value in (
        (target, setting, value) for target, changes in where.items() for setting, value in changes.items()
    ):
        old = before.values.get(target, {}).get(setting)
        if old == value:
            continue
        connection.execute(
            "INSERT INTO health_check_config (target, setting, value, default_value, updated_at, updated_by) "
            "VALUES (:target, :setting, :value, coalesce((SELECT default_value FROM health_check_config "
            "WHERE target = '' AND setting = :setting), 'null'), :at, :who) "
            "ON CONFLICT (target, setting) DO UPDATE SET value = :value, updated_at = :at, updated_by = :who",
            {"target": target, "setting": setting, "value": _json(value), "at": at, "who": who},
        )
        connection.execute(
            "INSERT INTO health_check_config_changes "
            "(change, changed_at, changed_by, target, setting, old_value, new_value) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (before.version + 1, at, who, target, setting, _json(old), _json(value)),
        )
    return kept_overrides(connection)


def keep_again(connection: sqlite3.Connection, kept: Kept) -> Kept:
    """Lets a file that was begun anew, or is another one, hold what is in force, and say who changed it."""
    found = kept_overrides(connection)
    for target, setting in found.marks.keys() - kept.marks.keys():
        keep_changes(connection, {target: {setting: None}}, who=CARRIED_OVER, at=time.time())
    for (target, setting), mark in kept.marks.items():
        value = kept.values[target][setting]
        keep_changes(connection, {target: {setting: value}}, who=mark.who, at=mark.at)
    return kept_overrides(connection)


def changes_page(connection: sqlite3.Connection, limit: int, offset: int) -> tuple[int, Sequence[Any]]:
    """How many changed settings there are, and some of them, newest first."""
    (total,) = connection.execute("SELECT count(*) FROM health_check_config_changes").fetchone()
    rows = connection.execute(
        "SELECT * FROM health_check_config_changes ORDER BY id DESC LIMIT ? OFFSET ?", (limit, offset)
    )
    return total, rows.fetchall()


def values_before(connection: sqlite3.Connection, change: int) -> dict[str, dict[str, Any]]:
    """What to write, by target, to take a change back; empty for one that is not known."""
    rows = connection.execute(
        "SELECT target, setting, old_value FROM health_check_config_changes WHERE change = ?", (change,)
    ).fetchall()
    values: dict[str, dict[str, Any]] = {}
    for target, setting, old in rows:
        values.setdefault(target, {})[setting] = None if old is None else json.loads(old)
    return values


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute(
        "SELECT coalesce(max(change), 0) FROM health_check_config_changes"
    ).fetchone()
    return int(version)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
