"""A running exporter whose disk is full: it probes, answers and says so, and keeps all of it later."""

import resource
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.rig import Api
from tests.history.disks import may_mount, small_disk
from tests.running import Client, Spawned, eventually, new_bucket, serving_command, target, write

UP = "r2_exporter_history_up"


@dataclass
class Full:
    """An exporter whose disk can be filled and freed."""

    exporter: Spawned
    fill: Callable[[], object]
    free: Callable[[], object]


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="full-disk-") as made:
        yield Path(made)


@asynccontextmanager
async def limited(storage: str, bucket: str) -> AsyncIterator[Full]:
    """No file of its process may grow beyond a page."""
    with folder() as place:
        config = write(place / "exporter.yaml", target("media", storage, bucket))
        async with serving_command(config) as exporter:
            pid = exporter.process.pid
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)

            def limit(soft: int) -> None:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))

            yield Full(exporter, fill=lambda: limit(4096), free=lambda: limit(hard))


@asynccontextmanager
async def small(storage: str, bucket: str) -> AsyncIterator[Full]:
    """Its file lies on a file system of a few megabytes."""
    with folder() as place, small_disk(place / "disk") as disk:
        config = write(disk.folder / "exporter.yaml", target("media", storage, bucket))
        async with serving_command(config) as exporter:
            yield Full(exporter, disk.fill, disk.free)


@pytest.mark.parametrize("disk", [limited, small])
async def test_everything_goes_on_while_the_disk_is_full(
    disk: Callable[[str, str], object], storage: str, tmp_path: Path
) -> None:
    if disk is small and not may_mount(tmp_path):
        pytest.skip("none may be mounted here; `limited` shows the same with another error")
    async with disk(storage, new_bucket(storage)) as full:  # type: ignore[attr-defined]
        client, api = Client(full.exporter.url), Api(full.exporter.url)
        await api.check()
        healthy = await api.get("/api/health")
        assert (healthy["status"], healthy["history"]["status"]) == ("healthy", "available")
        full.fill()

        async def checked_and_down() -> bool:
            """There may be some room left in the file itself."""
            await api.check()
            return await client.has_value(0, UP)

        await eventually(checked_and_down)

        health = await api.get("/api/health")
        assert health["status"] == "healthy"
        assert health["history"]["status"] == "unavailable"
        assert health["history"]["error"]
        assert health["history"]["failedSince"]
        assert any("history is unavailable" in reason for reason in health["reasons"])
        before = (await client.metrics())("r2_probes_total", result="success")
        await api.check()
        assert (await client.metrics())("r2_probes_total", result="success") == before + 3
        assert (await client.get("/"))[0] == 200
        refused = await api.put("/api/health/config", {"timeout": 700}, 503)
        assert refused["error"]["code"] == "history_unavailable"

        full.free()
        await eventually(lambda: client.has_value(1, UP))

        async def all_kept() -> bool:
            return bool((await api.get("/api/health/history"))["total"] == before + 3)

        await eventually(all_kept)
        assert await full.exporter.end() == 0
