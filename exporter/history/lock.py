"""One exporter writes a history: of two, each would write its sums over those of the other."""

import fcntl
import os
import sqlite3
from contextlib import suppress
from pathlib import Path


class TakenError(sqlite3.OperationalError):
    """Another exporter has the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"another r2-exporter writes to {path}: end it, or give this one a file of its own with "
            "--storage.path"
        )


def lock_of(path: Path) -> Path:
    """The file beside a history that is locked; closing the history's own would let go of SQLite's locks."""
    return path.with_name(f"{path.name}-lock")


class Lock:
    """The lock of the history at `path`; the system takes it back when the process ends, however it does."""

    def __init__(self, path: Path) -> None:
        self._history = path
        self._path = path
        self._file: int | None = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def take(self) -> None:
        """Raises TakenError. Where nothing can be locked or written, SQLite is left to say more of it."""
        path = lock_of(Path(os.path.realpath(self._history)))  # by whichever of its names it was opened
        if self._file is not None and path == self._path and _is_at(self._file, path):
            return
        self.release()
        self._path = path
        while self._file is None:
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError:
                return
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(file)
                if isinstance(error, BlockingIOError):
                    raise TakenError(self._history) from None
                return
            if _is_at(file, self._path):
                self._file = file
            else:  # whoever had it has just removed it
                os.close(file)

    def release(self) -> None:
        """Removes the file, too, if it is still there, and nobody has written anything into it."""
        file, self._file = self._file, None
        if file is not None:
            if _is_at(file, self._path) and not os.fstat(file).st_size:
                with suppress(OSError):
                    self._path.unlink()
            os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False
