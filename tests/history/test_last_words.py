"""What an exporter says at its end of all that its history does not hold."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.history.rig import rows
from tests.running import demo_server, running, target, write

LOST = "the history did not take its last results"
ALERTS_LOST = "the history does not know of the last changes of alerts"


@pytest.fixture(scope="module")
def failing() -> Iterator[str]:
    with demo_server("failing") as endpoint:
        yield endpoint


async def test_results_breaker_changes_and_alerts_that_are_lost_are_told(
    tmp_path: Path, failing: str
) -> None:
    media = target("media", failing, "media", breaker={"failure_threshold": 3})
    config = write(tmp_path / "exporter.yaml", media)
    path = tmp_path / "r2-exporter.db"
    with capture_logs() as lines, closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with running(config) as exporter:
            other.execute("BEGIN IMMEDIATE")
            await exporter.get("/probe?target=media")
    said = {line["event"]: line for line in lines if line["log_level"] == "error"}
    assert said[LOST]["file"] == str(path)
    assert said[LOST]["cause"] == "database is locked"
    assert (said[LOST]["results"], said[LOST]["breaker_changes"]) == (3, 1)
    assert ALERTS_LOST in said
    assert not rows(path, "SELECT * FROM r2_health_checks")


async def test_nothing_is_said_where_nothing_is_lost(tmp_path: Path, failing: str) -> None:
    media = target("media", failing, "media", breaker={"failure_threshold": 3})
    with capture_logs() as lines:
        async with running(write(tmp_path / "exporter.yaml", media)) as exporter:
            await exporter.get("/probe?target=media")
    assert not {LOST, ALERTS_LOST} & {line["event"] for line in lines}
