"""The log's way out: lines are written by a thread, as whoever reads them may be slow, or read no more."""

import logging
import threading
from collections import deque
from collections.abc import Sequence

from exporter.streams import write_all

WAITING = 4 << 20
"""Bytes of lines that wait at the most. What comes then is lost: how a trouble began says more of it."""

LAST_WORDS_SECONDS = 0.25
"""The longest that the end of the process waits for its last lines to be written; of its last second
(`exporter.farewell`) the disk, the web side and stuck threads have the rest."""


class ThreadedHandler(logging.Handler):
    """Writes records to a file descriptor, and keeps nobody waiting who logs.

    A pipe that nobody reads is full after 64 KiB, and a disk may hang: the write would stop the event loop,
    and all that it serves and measures. `lost` is how many lines were not written; the log says so, too, as
    soon as it is written again.
    """

    def __init__(self, descriptor: int, waiting: int = WAITING) -> None:
        super().__init__()
        self.lost = 0
        self._descriptor = descriptor
        self._most = waiting
        self._lines: deque[bytes | int] = deque()  # a number stands for so many lines that were lost
        self._size = 0  # bytes, what is being written included
        self._torn = False
        self._in_vain = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write_on, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a record; the text of it is made here and now, as what it speaks of may change."""
        try:
            line = self._line(record)
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            if self._size + len(line) > self._most:
                self._lose(1)
            else:
                self._lines.append(line)
                self._size += len(line)
                self._changed.notify_all()

    def flush(self) -> None:
        """Waits until all is written, but not for long, and once only if that was in vain."""
        with self._changed:
            patience = 0 if self._in_vain else LAST_WORDS_SECONDS
            self._in_vain = not self._changed.wait_for(lambda: not self._size, patience)

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _lose(self, lines: int) -> None:
        self.lost += lines
        if self._lines and isinstance(last := self._lines[-1], int):
            self._lines[-1] = last + lines
        else:
            self._lines.append(lines)

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._size)
                taken = [*self._lines]
                self._lines.clear()
            lines = [each if isinstance(each, bytes) else self._line(_remark(each)) for each in taken]
            if self._torn:
                lines[0] = b"\n" + lines[0]
            written = self._write(b"".join(lines))
            with self._changed:
                self._size -= sum(len(each) for each in taken if isinstance(each, bytes))
                self._account(taken, lines, written)
                self._changed.notify_all()

    def _account(self, taken: Sequence[bytes | int], lines: Sequence[bytes], written: int) -> None:
        """For what was taken to be written, of which so many bytes were."""
        gap, end = 0, 0
        for each, line in zip(taken, lines, strict=True):
            end += len(line)
            if end > written:
                self.lost += isinstance(each, bytes)
                gap += each if isinstance(each, int) else 1
        if gap:
            self._lines.appendleft(gap)

    def _write(self, data: bytes) -> int:
        """How many bytes of it were written. Past `sys.stderr`, whose lock the end of the process needs."""
        written = write_all(self._descriptor, data)
        if written:
            self._torn = not data.endswith(b"\n", 0, written)
        return written


def _remark(lines: int) -> logging.LogRecord:
    text = "%d lines of the log are lost: nobody took them"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (lines,), None)
