"""A history that something else cuts short or writes over while it is open, which SQLite does not notice."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exporter.history import HistoryUnavailableError
from tests.api.rig import Api
from tests.history.rig import (
    DEADLINE,
    beside,
    damage,
    integrity,
    keeping,
    kept_aside,
    numbered,
    request_ids,
    wait_for,
)
from tests.running import eventually, running, target
from tests.running import write as write_config

CONFIG = "/api/health/config"
CHANGED = "SELECT * FROM health_check_config WHERE value = '6'"


def cut(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


def zero_the_first_page(path: Path) -> None:
    damage(path, 0, 4096, byte=0)


HARMS = pytest.mark.parametrize(
    "harm",
    [cut(0), cut(100), cut(600), cut(4096), cut(20_000), zero_the_first_page],
    ids=["emptied", "a few bytes", "less than a page", "the first page", "half", "without a beginning"],
)


def all_in_the_file(path: Path) -> None:
    """Its log is copied into it, as happens by itself once there is enough of it."""
    with closing(sqlite3.connect(path)) as other:
        wait_for(lambda: other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)


@HARMS
def test_it_is_kept_aside_and_begun_anew(path: Path, harm: Callable[[Path], None]) -> None:
    with capture_logs() as lines, keeping(path) as kept:
        kept.keep(*numbered(range(1000)))
        all_in_the_file(path)
        kept.keep(*numbered([1000]))
        harm(path)
        kept.put(*numbered([2000]))
        wait_for(lambda: kept_aside(path))
        kept.wait_until_written()
        assert kept.ids() == ["2000"]
        assert kept.state.dropped == 0
    assert integrity(path) == "ok"
    [line] = [line for line in lines if line["event"] == "the history cannot be written now"]
    assert "something else" in line["cause"]
    assert "lost" in line["cause"]
    assert [line for line in lines if line.get("kept") == str(kept_aside(path)[0])]


def test_what_its_log_holds_is_kept_with_it(path: Path) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered([1]))
        log = beside(path, "-wal").read_bytes()
        os.truncate(path, 0)
        with pytest.raises((OSError, sqlite3.DatabaseError)):
            request_ids(path)  # who only reads does not remove it
        kept.put(*numbered([2]))
        wait_for(lambda: kept_aside(path))
        kept.wait_until_written()
    assert beside(kept_aside(path)[0], "-wal").read_bytes() == log


def test_what_another_program_may_do_with_it_is_no_harm(path: Path) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered(range(5000)))
        emptied = kept.backlog.transact(lambda each: each.execute("DELETE FROM r2_health_checks").rowcount)
        assert emptied.result(DEADLINE) == 5000
        all_in_the_file(path)
        kept.keep(*numbered([5000]))
        size = path.stat().st_size
        with closing(sqlite3.connect(path)) as other:
            other.execute("VACUUM")
        all_in_the_file(path)
        assert path.stat().st_size < size
        path.touch()
        kept.keep(*numbered([5001]))
        assert kept.ids() == ["5000", "5001"]
        assert kept.state.up
    assert not kept_aside(path)


@pytest.mark.parametrize("harm", [cut(0), zero_the_first_page], ids=["emptied", "without a beginning"])
async def test_settings_changed_at_run_time_are_carried_over(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    config = write_config(tmp_path / "exporter.yaml", target("media", "http://127.0.0.1:1", "media"))
    path = tmp_path / "r2-exporter.db"
    async with running(config) as exporter:
        await Api(exporter.url).put(CONFIG, {"failureThreshold": 6})
        all_in_the_file(path)
        harm(path)
        await exporter.get("/probe?target=media&operations=list")

        async def carried_over() -> bool:
            with suppress(HistoryUnavailableError):  # it is not there yet
                changed = await exporter.app.history.read(lambda each: each.execute(CHANGED).fetchall())
                return bool(kept_aside(path) and changed)
            return False

        await eventually(carried_over)
    async with running(config) as exporter:
        assert exporter.app.settings.targets[0].breaker.failure_threshold == 6
