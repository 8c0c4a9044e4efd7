"""The writer while all goes well, and with what it cannot write."""

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from exporter.history import History, HistoryUnavailableError
from exporter.history.backlog import BATCH, Backlog
from exporter.history.entries import TEXT_LIMIT, Check, Skip
from exporter.history.queries import Filter, check_page
from exporter.history.writer import Writer
from exporter.outcome import Failure, Operation, Outcome, Reason
from tests.history.rig import DEADLINE, FOREVER, MIDNIGHT, check, count, event, keeping, numbered, rows

HUGE = 1 << 64
SURROGATE = "\udc80"


def test_results_are_written_by_themselves(path: Path) -> None:
    with keeping(path) as kept:
        kept.put(*numbered(range(3)))
        kept.wait_until_written()
        assert kept.ids() == ["0", "1", "2"]
        assert kept.state.written == 3
        assert kept.state.write_seconds > 0


def test_more_than_a_batch_is_written_whole_and_counted_in_the_sums(path: Path) -> None:
    with keeping(path) as kept:
        kept.keep(*numbered(range(2 * BATCH + 1)))
        kept.keep(Skip(MIDNIGHT, "media", Operation.PUT, 7))
    assert count(path) == 2 * BATCH + 1
    sums = rows(path, "SELECT period, sum(checks), sum(skipped) FROM r2_operation_metrics GROUP BY period")
    assert [tuple(row) for row in sums] == [("day", 2 * BATCH + 1, 7), ("hour", 2 * BATCH + 1, 7)]


def test_sums_go_on_after_a_restart(path: Path) -> None:
    for _ in range(2):
        with keeping(path) as kept:
            kept.keep(check(), check(success=False))
    [sums] = rows(path, "SELECT checks, failures FROM r2_operation_metrics WHERE period = 'hour'")
    assert tuple(sums) == (4, 2)


def test_an_event_is_on_the_disk_when_it_is_said_to_be(path: Path) -> None:
    with keeping(path) as kept:
        assert kept.announce(event("first"))
        assert kept.causes() == ["first"]
        assert kept.announce(event("second"))
        assert kept.causes() == ["first", "second"]


def test_work_is_on_the_disk_when_it_answers(path: Path) -> None:
    def change(connection: sqlite3.Connection) -> int:
        connection.execute("UPDATE health_check_config SET value = '5' WHERE setting = 'timeout'")
        return 42

    with keeping(path) as kept:
        assert kept.backlog.transact(change).result(DEADLINE) == 42
        [row] = rows(path, "SELECT value FROM health_check_config WHERE setting = 'timeout'")
        assert row["value"] == "5"


def test_work_that_fails_leaves_nothing_and_harms_nobody(path: Path) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE health_check_config SET value = '5'")
        raise KeyError("no such setting")

    def break_a_rule(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO health_check_config SELECT * FROM health_check_config")

    with keeping(path) as kept:
        kept.put(check())
        failing = kept.backlog.transact(fail)
        breaking = kept.backlog.transact(break_a_rule)
        good = kept.backlog.transact(lambda connection: connection.execute("SELECT 1").fetchone())
        with pytest.raises(KeyError, match="no such setting"):
            failing.result(DEADLINE)
        with pytest.raises(sqlite3.IntegrityError):
            breaking.result(DEADLINE)
        assert good.result(DEADLINE) == (1,)
        kept.settle()
        assert kept.state.up
    assert count(path) == 1
    assert not rows(path, "SELECT * FROM health_check_config WHERE value IS NOT NULL")


def test_stopping_writes_what_is_left(path: Path) -> None:
    backlog = Backlog()
    writer = Writer(path, backlog, FOREVER)
    writer.start()
    for entry in numbered(range(3 * BATCH)):
        backlog.put(entry)
    announced = backlog.announce(event())
    assert writer.stop(DEADLINE)
    assert announced.result(0) is True
    assert not path.with_name(f"{path.name}-wal").exists()
    assert count(path) == 3 * BATCH
    assert backlog.announce(event("too late")).result(0) is False


@pytest.mark.parametrize(
    "poison",
    [
        check(target=f"media{SURROGATE}"),
        check(status=HUGE),
        check(duration=float("nan")),
        check(duration=float("inf")),
        check(at=float("nan")),
        Skip(MIDNIGHT, "media", Operation.PUT, HUGE),
    ],
    ids=["a lone surrogate", "a huge number", "no duration", "for ever", "at no time", "too many skips"],
)
def test_a_result_that_no_database_takes_is_dropped_alone(path: Path, poison: Check | Skip) -> None:
    with keeping(path) as kept:
        before, after = numbered([1]), numbered([2])
        with kept.held():
            kept.put(*before, poison, *after)
            work = kept.backlog.transact(lambda _: "done")
            announced = kept.backlog.announce(event())
        assert announced.result(DEADLINE) is True
        assert work.result(DEADLINE) == "done"
        kept.settle()
        assert kept.ids() == ["1", "2"]
        assert kept.state.dropped == 1
        assert kept.state.up
        assert not kept.state.queued
        kept.keep(*numbered([3]))
        assert kept.ids() == ["1", "2", "3"]
    sums = rows(path, "SELECT checks FROM r2_operation_metrics WHERE period = 'day'")
    assert [row["checks"] for row in sums] == [3]


def test_an_event_that_no_database_takes_is_dropped_alone(path: Path) -> None:
    with keeping(path) as kept:
        with kept.held():
            bad, good = kept.backlog.announce(event(f"bad{SURROGATE}")), kept.backlog.announce(event("good"))
        assert bad.result(DEADLINE) is False
        assert good.result(DEADLINE) is True
        assert kept.causes() == ["good"]
        assert kept.state.dropped == 1


def test_results_that_only_this_file_cannot_take_do_not_stay_for_ever(path: Path) -> None:
    with keeping(path) as kept:
        half = Skip(MIDNIGHT, "media", Operation.PUT, 1 << 62)
        with kept.held():
            kept.put(half, half)
        kept.settle()
        assert kept.state.dropped == 1  # the second, whose sum is too much
        kept.keep(half)
        assert kept.state.dropped == 2  # by itself it would be none too much
        kept.keep(check())
        assert kept.state.up
        assert count(path) == 1


def test_what_a_storage_says_is_kept_as_text(path: Path) -> None:
    failure = Failure(Reason.SERVER, f"bad{SURROGATE}" + "x" * 3 * TEXT_LIMIT, s3_code="", hint="nul \0")
    outcome = Outcome("media", Operation.PUT, 0.0, 0.1, request_id=SURROGATE, failure=failure)
    with keeping(path) as kept:
        kept.keep(Check(MIDNIGHT, outcome))
        assert kept.state.dropped == 0
    [row] = rows(path, "SELECT request_id, message, s3_code, hint FROM r2_health_checks")
    assert row["message"] == ("bad?" + "x" * 3 * TEXT_LIMIT)[:TEXT_LIMIT]
    assert (row["request_id"], row["s3_code"], row["hint"]) == ("?", None, "nul \0")


async def test_the_event_loop_s_side_of_it(path: Path) -> None:
    history = History(path, FOREVER)
    history.start()
    began = time.time()
    for entry in numbered(range(5)):
        history.record(entry.outcome)
    history.skip("media", Operation.PUT, 2)
    # A question sees what was recorded before it.
    page = await history.read(lambda connection: check_page(connection, Filter(), 10, 0))
    assert page.total == 5
    assert all(began <= row["checked_at"] <= time.time() for row in page.rows)
    assert await history.announce(event())
    assert await history.change(lambda connection: connection.execute("SELECT 1").fetchone()[0]) == 1
    assert history.state().written == 7
    assert await history.stop(DEADLINE)
    with pytest.raises(HistoryUnavailableError, match="stopping"):
        await history.change(lambda _: None)
    assert await history.announce(event()) is False


async def test_who_no_longer_waits_is_no_trouble(path: Path) -> None:
    history = History(path, FOREVER)
    history.start()
    announcing = history.announce(event())
    changing = asyncio.create_task(history.change(lambda _: None))
    await asyncio.sleep(0)
    announcing.cancel()
    changing.cancel()
    await asyncio.gather(announcing, changing, return_exceptions=True)
    assert await history.announce(event("after"))
    assert history.state().up
    assert await history.stop(DEADLINE)


async def test_a_question_that_takes_too_long_is_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.history.reader.LONGEST", 0.1)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    history = History(path, FOREVER)
    history.start()
    with pytest.raises(HistoryUnavailableError, match="interrupted"):
        await history.read(lambda connection: connection.execute(endless).fetchone())
    assert await history.stop(DEADLINE)


async def test_a_question_cannot_write(path: Path) -> None:
    history = History(path, FOREVER)
    history.start()
    with pytest.raises(HistoryUnavailableError, match="readonly"):
        await history.read(lambda connection: connection.execute("DELETE FROM r2_health_checks"))
    assert await history.stop(DEADLINE)
