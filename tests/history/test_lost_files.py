"""A file that is taken away, put in place of another, or damaged, while the writer is at work."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exporter.history import History, HistoryUnavailableError
from exporter.history.database import VERSION, open_for_reading, open_for_writing
from exporter.history.queries import Filter, check_page
from tests.history.rig import (
    DEADLINE,
    FOREVER,
    beside,
    check,
    count,
    damage,
    event,
    integrity,
    keeping,
    kept_aside,
    numbered,
    request_ids,
    rows,
    wait_for,
    write,
)

HEADER = b"SQLite format 3\0"


def damage_in_the_middle(path: Path) -> None:
    size = path.stat().st_size
    damage(path, size // 4, size // 2)


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm")], ids=["alone", "with its log"])
def test_a_file_that_is_deleted_begins_anew(path: Path, suffixes: tuple[str, ...]) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered([1]))
        for suffix in suffixes:
            beside(path, suffix).unlink()
        kept.put(*numbered([2]))
        kept.wait_until_written()
        assert kept.ids() == ["2"]
        assert kept.announce(event())
        assert kept.causes() == ["failures"]
        assert integrity(path) == "ok"
        assert kept.state.dropped == 0
    # Its sums too are those of the new file.
    assert [row["checks"] for row in rows(path, "SELECT checks FROM r2_operation_metrics")] == [1, 1]


def test_a_file_that_is_moved_holds_all_that_was_written_to_it(path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved" / "old.db"
    moved.parent.mkdir()
    with keeping(path) as kept:
        kept.keep(*numbered([1, 2]))
        path.rename(moved)
        kept.keep(*numbered([3]))
        assert kept.ids() == ["3"]
        assert request_ids(moved) == ["1", "2"]
    assert integrity(moved) == "ok"
    assert not list(path.parent.glob("*.moved-*"))


def test_the_log_of_a_moved_file_that_it_cannot_take_is_kept_for_it(path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "old.db"
    with capture_logs() as lines, keeping(path) as kept:
        kept.keep(*numbered([1]))
        with closing(open_for_reading(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM r2_health_checks").fetchall()
            kept.keep(*numbered([2]))
            path.rename(moved)
            kept.keep(*numbered([3]))
        assert kept.ids() == ["3"]
        assert integrity(path) == "ok"
    [log] = path.parent.glob("*.moved-*-wal")
    assert str(log) in [line.get("kept") for line in lines]
    log.rename(beside(moved, "-wal"))
    assert request_ids(moved) == ["1", "2"]


def test_a_write_ahead_log_that_is_deleted_loses_nothing(path: Path) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered([1, 2]))
        beside(path, "-wal").unlink()
        beside(path, "-shm").unlink()
        kept.keep(*numbered([3]))
        assert kept.ids() == ["1", "2", "3"]
        assert integrity(path) == "ok"


def test_a_file_that_is_replaced_is_taken_as_it_is(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "backup.db"
    with closing(open_for_writing(other)) as backup:
        # More pages than the one in its place, and other rows on the same of them.
        write(backup, *(check(request_id=f"backup {number}") for number in range(500)))
    with keeping(path) as kept:
        kept.keep(*numbered(range(100)))
        other.rename(path)
        kept.keep(*numbered([1000]))
        ids = kept.ids()
        assert ids == [f"backup {number}" for number in range(500)] + ["1000"]
        assert integrity(path) == "ok"
        assert not kept_aside(path)
    [sums] = rows(path, "SELECT checks FROM r2_operation_metrics WHERE period = 'day'")
    assert sums["checks"] == 501


def test_a_newer_file_in_its_place_is_left_alone_and_nothing_is_lost(path: Path, tmp_path: Path) -> None:
    newer, away = tmp_path / "newer.db", tmp_path / "away.db"
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.commit()
    before = newer.read_bytes()
    with keeping(path) as kept:
        kept.keep(*numbered([1]))
        newer.rename(path)
        kept.put(*numbered([2, 3]))
        kept.wait_until_down()
        assert "this program knows up to" in kept.state.error
        assert path.read_bytes() == before
        path.rename(away)
        kept.wait_until_written()
        assert kept.ids() == ["2", "3"]
        assert kept.state.dropped == 0


@pytest.mark.parametrize("content", [bytes(4096), HEADER + bytes(4080), HEADER + b"no database\n" * 500])
def test_what_is_no_database_any_more_is_kept_aside_at_the_start(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with keeping(path) as kept:
        assert kept.announce(event())
        kept.keep(check())
        assert count(path) == 1
    [aside] = kept_aside(path)
    assert aside.read_bytes() == content


@pytest.mark.parametrize("content", [b"targets: [{name: media}]\n", b"#!/bin/sh\n" * 500, b"x"])
def test_what_never_was_a_database_stays_as_it_is(path: Path, tmp_path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with keeping(path) as kept:
        kept.put(check())
        kept.wait_until_down()
        assert "is no history of r2-exporter" in kept.state.error
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        path.rename(tmp_path / "away")
        kept.wait_until_written()
        assert count(path) == 1
    assert (tmp_path / "away").read_bytes() == content
    assert not kept_aside(path)


def test_a_database_of_another_program_stays_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE dashboards (title TEXT)")
        other.execute(f"PRAGMA user_version = {VERSION}")
    before = path.read_bytes()
    with keeping(path) as kept:
        kept.put(check())
        kept.wait_until_down()
        assert "is no history of r2-exporter" in kept.state.error
    assert path.read_bytes() == before
    assert not kept_aside(path)


def test_the_log_of_what_is_no_database_is_kept_with_it(path: Path) -> None:
    path.write_bytes(HEADER + b"this is no database\n" * 500)
    beside(path, "-wal").write_bytes(b"its log")
    beside(path, "-shm").write_bytes(b"its memory")
    with keeping(path) as kept:
        kept.keep(check())
        assert count(path) == 1
    aside = kept_aside(path)[0]
    assert aside.read_bytes().startswith(HEADER)
    assert beside(aside, "-wal").read_bytes() == b"its log"
    assert beside(aside, "-shm").exists()


def test_an_empty_file_becomes_a_history(path: Path) -> None:
    path.touch()
    with keeping(path) as kept:
        kept.keep(check())
        assert count(path) == 1
    assert not kept_aside(path)


def test_two_corrupt_files_in_one_second_are_both_kept(path: Path) -> None:
    for content in (HEADER + b"first" * 1000, HEADER + b"second" * 1000):
        for suffix in ("", "-wal", "-shm"):
            beside(path, suffix).unlink(missing_ok=True)
        path.write_bytes(content)
        with keeping(path) as kept:
            kept.keep(check())
    assert {aside.read_bytes()[16:21] for aside in kept_aside(path) if aside.suffix[-1] != "m"} >= {
        b"first",
        b"secon",
    }


def test_damage_that_the_writer_meets_is_kept_aside_and_nothing_is_lost(path: Path) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered(range(2000)))
    size = path.stat().st_size
    damage(path, 4096, size - 4096)  # all but the first page
    with keeping(path) as kept:
        kept.put(*numbered([5000, 5001]))
        announced = kept.backlog.announce(event())
        kept.wait_until_written()
        assert kept.ids() == ["5000", "5001"]
        assert kept.causes() == ["failures"]
        assert kept.state.dropped == 0
        assert announced.done()
    aside = kept_aside(path)[0]
    assert aside.stat().st_size == size
    assert integrity(path) == "ok"


def test_damage_that_the_writer_meets_at_its_end_loses_nothing(path: Path) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered(range(2000)))
    damage(path, path.stat().st_size - 4096, 4096)
    with keeping(path) as kept:
        with kept.held():
            kept.put(*numbered([5000, 5001]))
            kept.writer.suspect()
            kept.backlog.stop()
        assert kept.writer.stop(DEADLINE)
        assert kept.ids() == ["5000", "5001"]
    assert kept_aside(path)


async def test_damage_that_a_reader_meets_is_kept_aside_too(path: Path) -> None:
    history = History(path, FOREVER)
    history.start()
    for entry in numbered(range(5000)):
        history.record(entry.outcome)
    await history.read(lambda connection: connection.execute("PRAGMA schema_version").fetchone())
    with closing(sqlite3.connect(path)) as other:  # all of it in the file, so that the damage counts
        wait_for(lambda: other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
    damage_in_the_middle(path)
    with pytest.raises(HistoryUnavailableError, match="malformed"):
        await history.read(lambda connection: connection.execute("SELECT * FROM r2_health_checks").fetchall())
    wait_for(lambda: kept_aside(path))
    history.record(check().outcome)
    assert await history.announce(event())
    page = await history.read(lambda connection: check_page(connection, Filter(), 10, 0))
    assert page.total == 1
    assert await history.stop(DEADLINE)
    assert integrity(path) == "ok"


def test_a_suspicion_without_ground_changes_nothing(path: Path) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered([1]))
        kept.writer.suspect()
        kept.keep(*numbered([2]))
        assert kept.ids() == ["1", "2"]
        assert kept.state.up
    assert not kept_aside(path)


def test_a_copy_of_the_file_taken_aside_can_still_be_read(path: Path) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered(range(2000)))
    damage(path, path.stat().st_size - 4096, 4096)
    with keeping(path) as kept:
        kept.writer.suspect()
        wait_for(lambda: kept_aside(path))
        kept.wait_until_written()
    copy = path.with_name("copy.db")
    shutil.copy(kept_aside(path)[0], copy)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT request_id FROM r2_health_checks WHERE id = 1").fetchone() == ("0",)
