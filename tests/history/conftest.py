"""A place for each test's history, and a writer that soon tries again."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter waits than the real ones, with which `scenes.py` runs."""
    monkeypatch.setattr("exporter.history.writer.RETRY_SECONDS", 0.3)
    monkeypatch.setattr("exporter.history.database.LOCK_SECONDS", 0.2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"
