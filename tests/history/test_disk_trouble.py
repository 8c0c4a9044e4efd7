"""A disk that takes nothing for a while: results wait within bounds, and writing resumes by itself."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from exporter.history import History, HistoryUnavailableError
from exporter.history.database import open_for_reading
from tests.history.disks import full_and_free, may_mount, small_disk
from tests.history.rig import (
    DEADLINE,
    FOREVER,
    check,
    count,
    event,
    integrity,
    keeping,
    numbered,
    wait_for,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where any user may be given access, unlike pytest's own folders."""
    with tempfile.TemporaryDirectory(prefix="history-") as made:
        inner = Path(made) / "folder"
        Path(made).chmod(0o755)
        inner.mkdir()
        yield inner


@pytest.mark.parametrize("scene", ["limited", "read_only", "read_only_file"])
def test_in_a_process_of_its_own(scene: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.history.scenes", scene, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_full_disk(folder: Path) -> None:
    if not may_mount(folder):
        pytest.skip("none may be mounted here; the scene `limited` shows the same with another error")
    with small_disk(folder / "disk") as disk:
        full_and_free(disk)


def test_a_folder_that_is_missing_and_then_there(tmp_path: Path) -> None:
    path = tmp_path / "not yet" / "history.db"
    with keeping(path) as kept:
        kept.put(*numbered([1]))
        assert not kept.announce(event())
        assert "folder" in kept.state.error
        path.parent.mkdir()
        kept.wait_until_written()
        assert (kept.ids(), kept.causes()) == (["1"], ["failures"])
        assert kept.state.dropped == 0


def test_a_folder_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "mounted" / "history.db"
    path.parent.mkdir()
    away = tmp_path / "away"
    with keeping(path) as kept:
        kept.keep(*numbered([1]))
        path.parent.rename(away)
        kept.put(*numbered([2]))
        kept.wait_until_down()
        away.rename(path.parent)
        kept.wait_until_written()
        assert kept.ids() == ["1", "2"]
        assert integrity(path) == "ok"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to the file and does not come to an end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_file_that_another_program_locks(path: Path) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered([1]))
        with locked(path):
            kept.put(*numbered([2]))
            assert not kept.announce(event())
            assert kept.state.error == "database is locked"
            with pytest.raises(HistoryUnavailableError, match="database is locked"):
                kept.backlog.transact(lambda _: None).result(DEADLINE)
            kept.settle()  # who asks is told that it failed
            assert count(path) == 1  # and reads what is there
        kept.wait_until_written()
        assert (kept.ids(), kept.causes()) == (["1", "2"], ["failures"])
        assert kept.state.dropped == 0


def test_a_file_that_is_locked_at_the_start(path: Path) -> None:
    with keeping(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with keeping(path) as kept:
            kept.put(check())
            kept.wait_until_down()
            other.close()
            kept.wait_until_written()
            assert count(path) == 1


def test_an_old_snapshot_that_is_still_read_does_not_hold_the_writer_up(path: Path) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered([1]))
        with closing(open_for_reading(path)) as reader:
            reader.execute("BEGIN")
            assert len(reader.execute("SELECT * FROM r2_health_checks").fetchall()) == 1
            kept.keep(*numbered(range(2, 10_000)))
            assert kept.state.up
            assert len(reader.execute("SELECT * FROM r2_health_checks").fetchall()) == 1
    assert count(path) == 9999


def test_stopping_while_nothing_can_be_written_gives_up_soon_and_says_what_is_lost(path: Path) -> None:
    with capture_logs() as lines, keeping(path) as kept:
        kept.keep(*numbered([1]))
        with locked(path):
            kept.put(*numbered([2, 3]))
            kept.wait_until_down()
            announced = kept.backlog.announce(event())
            assert kept.writer.stop(DEADLINE)
        assert announced.result(0) is False
        assert kept.ids() == ["1"]
        assert kept.state.queued == 3
    [line] = lost(lines)[:1]
    assert (line["results"], line["breaker_changes"]) == (2, 1)
    assert (line["file"], line["cause"]) == (str(path), "database is locked")
    assert line["log_level"] == "error"


def test_stopping_writes_what_a_disk_takes_again(path: Path) -> None:
    with capture_logs() as lines, keeping(path) as kept:
        kept.keep(*numbered([1]))
        with locked(path):
            kept.put(*numbered([2]))
            kept.wait_until_down()
        assert kept.writer.stop(DEADLINE)
        assert kept.ids() == ["1", "2"]
    assert not lost(lines)


def test_a_stop_that_waits_for_the_disk_says_so(path: Path) -> None:
    with capture_logs() as lines, keeping(path) as kept:
        kept.keep(check())
        with kept.held():
            kept.put(check())
            assert not kept.writer.stop(0.01)
    [line] = lost(lines)
    assert line["results"] == 1
    assert "in time" in line["cause"]


def lost(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What the log says of results that no file holds."""
    return [line for line in lines if line["event"] == "the history did not take its last results"]


async def test_a_relative_path_stays_where_it_was_when_the_working_directory_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    history = History(Path("history.db"), FOREVER)
    history.start()
    assert await history.announce(event())
    shutil.rmtree(here)
    assert not await history.announce(event())
    with pytest.raises(HistoryUnavailableError, match=r"cannot be read.*a folder that it may write"):
        await history.read(lambda connection: connection.execute("SELECT 1"))
    here.mkdir()
    wait_for(lambda: history.state().up)
    assert history.path == here / "history.db"
    assert count(history.path, "circuit_breaker_events") == 1
    assert await history.stop(DEADLINE)


async def test_what_the_system_refuses_a_reader_is_no_failure_of_its_own(path: Path) -> None:
    history = History(path.with_name("x" * 300), FOREVER)
    history.start()
    with pytest.raises(HistoryUnavailableError, match="File name too long"):
        await history.read(lambda connection: connection.execute("SELECT 1"))
    assert await history.stop(DEADLINE)
