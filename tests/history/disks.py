"""Disks that become full, and what the history has to do on each of them."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from exporter.history.queries import Filter, check_page
from exporter.history.reader import Reader
from tests.history.rig import count, event, integrity, keeping, numbered, wait_for

CAPACITY = 20_000
GIVEN = 23_000
"""Results that do not fit on the disk; so many of the oldest are dropped as are beyond the capacity."""


@dataclass(frozen=True)
class Disk:
    """A folder on it; `fill` leaves no room, and `free` gives it back."""

    folder: Path
    fill: Callable[[], None]
    free: Callable[[], None]


def full_and_free(disk: Disk) -> None:
    """Results wait within their bound while the disk is full, and are written by themselves afterwards."""
    path = disk.folder / "history.db"
    with keeping(path, capacity=CAPACITY) as kept:
        reader = Reader(path, kept.writer.suspect)
        kept.keep(*numbered(range(100)))
        disk.fill()
        try:
            kept.put(*numbered(range(100, 100 + GIVEN)))
            kept.wait_until_down()
            assert kept.state.failed_since is not None
            assert not kept.announce(event("while it was full"))
            # All that was given waits, but for what goes beyond the bound.
            wait_for(lambda: kept.state.queued == CAPACITY + 1)
            assert kept.state.dropped == GIVEN - CAPACITY
            # Reading goes on.
            page = reader.run_now(lambda connection: check_page(connection, Filter(), 10, 0))
            assert page.total == 100
        finally:
            disk.free()
        kept.wait_until_written()
        assert kept.state.failed_since is None
        assert kept.state.dropped == GIVEN - CAPACITY
        kept_ids = [*range(100), *range(100 + GIVEN - CAPACITY, 100 + GIVEN)]
        assert kept.ids() == [str(number) for number in kept_ids]
        assert kept.causes() == ["while it was full"]
        assert integrity(path) == "ok"
        assert count(path) == 100 + CAPACITY
        reader.close()


@contextmanager
def small_disk(folder: Path, size: str = "8m") -> Iterator[Disk]:
    """A file system in memory; a large file fills it to the last byte."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    filler = folder / "filler"
    try:
        yield Disk(folder, fill=lambda: fill(filler), free=filler.unlink)
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def may_mount(folder: Path) -> bool:
    """Whether this user may mount file systems, which root in a container often may not."""
    if os.geteuid() != 0:
        return False
    tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
    if tried.returncode == 0:
        subprocess.run(["umount", folder], check=True)
    return tried.returncode == 0
