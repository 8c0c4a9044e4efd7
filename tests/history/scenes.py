"""Scenes that need a process of their own: a limit on its files, or a user who may not write.

python -m tests.history.scenes SCENE FOLDER
"""

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from tests.history.disks import Disk, full_and_free
from tests.history.rig import DEADLINE, check, count, event, keeping

NOBODY = 65_534


def limited(folder: Path) -> None:
    """No file may grow beyond a page, and then it may again."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(soft: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    full_and_free(Disk(folder, fill=limit(4096), free=limit(hard)))


def read_only(folder: Path) -> None:
    """Nobody but root may write to the folder when it begins, and then everybody may."""
    give_up_root(folder)
    folder.chmod(0o555)
    path = folder / "history.db"
    with keeping(path) as kept:
        kept.put(check())
        assert not kept.announce(event())
        assert "unable to open database file" in kept.state.error, kept.state
        assert kept.state.queued == 2
        folder.chmod(0o755)
        kept.wait_until_written()
        assert kept.state.dropped == 0
        assert (count(path), kept.causes()) == (1, ["failures"])


def read_only_file(folder: Path) -> None:
    """The file itself becomes read-only between two runs, and is writable again during the second."""
    give_up_root(folder)
    path = folder / "history.db"
    with keeping(path) as kept:
        kept.keep(check())
    path.chmod(0o444)
    with keeping(path) as kept:
        kept.wait_until_down()
        # That there was nothing to write proves nothing.
        kept.settle()
        assert kept.backlog.transact(lambda _: None).exception(DEADLINE) is not None
        assert not kept.state.up
        kept.put(check())
        for part in folder.iterdir():  # SQLite gave its log the same permissions
            part.chmod(0o644)
        kept.wait_until_written()
        assert kept.state.dropped == 0
        assert count(path) == 2


def give_up_root(folder: Path) -> None:
    """Root may write everywhere."""
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.setgid(NOBODY)
        os.setuid(NOBODY)


SCENES = {scene.__name__: scene for scene in (limited, read_only, read_only_file)}

if __name__ == "__main__":
    SCENES[sys.argv[1]](Path(sys.argv[2]))
