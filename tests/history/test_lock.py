"""Two exporters with one file: the second waits, for each would write its own sums over the other's."""

from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from structlog.testing import capture_logs

from exporter.history.lock import lock_of
from tests.api.rig import Api
from tests.history.rig import Kept, keeping, numbered, rows
from tests.running import Client, eventually, running, serving_command, target, until, write

ALERT = "r2_alert_active"
CONFIG = "/api/health/config"


def sums_of_the_hour(path: Path) -> list[int]:
    return [
        row["checks"] for row in rows(path, "SELECT checks FROM r2_operation_metrics WHERE period = 'hour'")
    ]


def begin(stack: ExitStack, path: Path) -> Kept:
    return stack.enter_context(keeping(path))


def test_the_second_waits_for_the_first_to_end_and_nothing_is_lost(path: Path) -> None:
    with ExitStack() as second_ends, ExitStack() as first_ends:
        first, second = begin(first_ends, path), begin(second_ends, path)
        first.keep(*numbered([1]))
        second.put(*numbered([2]))
        second.wait_until_down()
        assert "another r2-exporter" in second.state.error
        assert str(path) in second.state.error
        assert "--storage.path" in second.state.error
        first.keep(*numbered([3]))
        assert first.state.up
        first_ends.close()
        second.wait_until_written()
        assert second.ids() == ["1", "3", "2"]
        assert sums_of_the_hour(path) == [3]


def test_another_file_beside_it_is_another_history(path: Path) -> None:
    with keeping(path) as first, keeping(path.with_name("other.db")) as second:
        first.keep(*numbered([1]))
        second.keep(*numbered([2]))
    assert not lock_of(path).exists()


def test_a_file_in_the_place_of_a_moved_one_is_locked_too(path: Path) -> None:
    """With its whole folder: the lock that is held is no longer that of the file."""
    with keeping(path) as first, ExitStack() as stack:
        first.keep(*numbered([1]))
        moved = path.with_name("moved")
        moved.mkdir()
        for part in path.parent.glob(f"{path.name}*"):
            part.rename(moved / part.name)
        first.keep(*numbered([2]))
        second = begin(stack, path)
        second.put(*numbered([3]))
        second.wait_until_down()
        stack.callback(first.writer.stop, 30)


def test_what_cannot_be_locked_is_written_all_the_same(path: Path) -> None:
    lock_of(path).mkdir()
    with capture_logs() as lines, keeping(path) as kept:
        kept.keep(*numbered([1]))
    assert ["cannot be locked" in line["event"] for line in lines] == [True]


def test_by_another_name_it_is_the_same_history(path: Path) -> None:
    other = path.with_name("link.db")
    other.symlink_to(path)
    with keeping(path), keeping(other) as second:
        second.wait_until_down()
        assert "another r2-exporter" in second.state.error


def test_a_lock_that_somebody_removed_is_taken_again(path: Path) -> None:
    with keeping(path) as first, ExitStack() as stack:
        first.keep(*numbered([1]))
        lock_of(path).unlink()
        first.keep(*numbered([2]))
        second = begin(stack, path)
        second.wait_until_down()
        stack.callback(first.writer.stop, 30)


def test_somebody_elses_file_of_that_name_stays(path: Path) -> None:
    lock_of(path).write_text("important")
    with keeping(path) as kept:
        kept.keep(*numbered([1]))
    assert lock_of(path).read_text() == "important"


async def test_the_log_of_the_second_exporter_says_what_to_do(tmp_path: Path) -> None:
    config = write(tmp_path / "exporter.yaml", target("media", "http://127.0.0.1:1", "bucket"))
    async with serving_command(config) as first, serving_command(config) as second:
        await until(lambda: second.said("the history cannot be written now", "another r2-exporter"))
        await eventually(lambda: Client(second.url).has_value(0, "r2_exporter_history_up"))
        assert await Client(first.url).has_value(1, "r2_exporter_history_up")
        await first.end()
        await eventually(lambda: Client(second.url).has_value(1, "r2_exporter_history_up"))


async def test_what_the_first_has_kept_last_is_in_force_at_the_second(tmp_path: Path) -> None:
    media = target("media", "http://127.0.0.1:1", "media", breaker={"enabled": False})
    config = write(tmp_path / "exporter.yaml", media)
    async with AsyncExitStack() as first_ends:
        first = await first_ends.enter_async_context(running(config))
        await Api(first.url).put(CONFIG, {"timeout": 700})
        async with running(config) as second:
            await Api(first.url).put(CONFIG, {"timeout": None, "slowResponseThreshold": 800})
            await Api(first.url).check()
            await eventually(lambda: first.has_value(1, ALERT, type="service_degraded"))
            await first_ends.aclose()
            await eventually(lambda: second.has_value(1, ALERT, type="service_degraded"))
            [item] = (await Api(second.url).get(CONFIG))["items"]
            assert (item["timeout"], item["slowResponseThreshold"]) == (5000, 800)
            [alert] = (await Api(second.url).get("/api/health/alerts"))["items"]
            assert alert["type"] == "service_degraded"
