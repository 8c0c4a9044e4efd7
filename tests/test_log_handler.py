"""Lines are written by a thread: in order, whole, and without keeping anybody waiting."""

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.log_handler import LAST_WORDS_SECONDS, ThreadedHandler
from tests.faults.pipes import PIPE


class Pipe:
    """A small one, which nobody reads until somebody does."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self._unread = b""
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, PIPE)

    def read(self, lines: int) -> list[str]:
        """So many lines, however long it takes."""
        while self._unread.count(b"\n") < lines:
            self._unread += os.read(self.reading, PIPE)
        *whole, self._unread = self._unread.split(b"\n", lines)
        return [line.decode() for line in whole]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    it = Pipe()
    yield it
    os.close(it.reading)  # and with it ends a write that is under way


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("a", logging.INFO, "", 0, text, (), None)


def say(handler: logging.Handler, *texts: str) -> None:
    for text in texts:
        handler.handle(record(text))


def logged(path: Path, text: str) -> bytes:
    """What is in a file right after the last line was waited for."""
    with path.open("wb") as file:
        handler = ThreadedHandler(file.fileno())
        say(handler, text)
        handler.flush()
        return path.read_bytes()


def test_lines_come_whole_and_in_order(pipe: Pipe) -> None:
    texts = [f"{number} {'é' * 300}" for number in range(200)]
    say(ThreadedHandler(pipe.writing), *texts)
    assert pipe.read(len(texts)) == texts


def test_of_several_threads_each_line_comes_once(pipe: Pipe) -> None:
    handler = ThreadedHandler(pipe.writing)
    texts = [[f"{thread} {number}" for number in range(100)] for thread in range(4)]
    threads = [threading.Thread(target=say, args=(handler, *each)) for each in texts]
    for thread in threads:
        thread.start()
    lines = pipe.read(400)
    assert sorted(lines) == sorted(text for each in texts for text in each)
    assert [line for line in lines if line.startswith("2 ")] == texts[2]


def test_what_does_not_fit_is_lost_and_the_log_says_where(pipe: Pipe) -> None:
    handler = ThreadedHandler(pipe.writing, waiting=3 * PIPE)
    say(handler, *(f"{number:04} {'x' * 1018}" for number in range(20)))
    assert handler.lost == 8
    lines = pipe.read(12)
    assert [line[:4] for line in lines] == [f"{number:04}" for number in range(12)]
    handler.flush()
    say(handler, "after")
    assert pipe.read(2) == ["8 lines of the log are lost: nobody took them", "after"]
    assert handler.lost == 8


def test_the_end_does_not_wait_for_a_reader_that_is_gone(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.log_handler.LAST_WORDS_SECONDS", 0.01)
    handler = ThreadedHandler(pipe.writing)
    say(handler, "x" * 3 * PIPE)
    handler.flush()
    assert pipe.read(1) == ["x" * 3 * PIPE]
    assert LAST_WORDS_SECONDS < 1


def test_the_end_waits_but_once_for_a_reader_that_is_gone(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = ThreadedHandler(pipe.writing)
    say(handler, "x" * 3 * PIPE)
    monkeypatch.setattr("exporter.log_handler.LAST_WORDS_SECONDS", 0.01)
    handler.flush()
    monkeypatch.setattr("exporter.log_handler.LAST_WORDS_SECONDS", "nobody asks")
    handler.flush()
    assert pipe.read(1) == ["x" * 3 * PIPE]


def test_the_end_waits_for_the_last_line(tmp_path: Path) -> None:
    assert logged(tmp_path / "log", "stopping") == b"stopping\n"


def test_a_terminal_that_somebody_made_non_blocking_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing, False)
    texts = [f"{number} {'x' * 3000}" for number in range(20)]
    handler = ThreadedHandler(pipe.writing)
    say(handler, *texts)
    assert pipe.read(len(texts)) == texts
    assert handler.lost == 0


def test_what_a_full_disk_does_not_take_is_counted() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    handler = ThreadedHandler(full)
    say(handler, "one", "two")
    handler.flush()
    say(handler, "three")
    handler.flush()
    assert handler.lost == 3
    os.close(full)


def test_after_half_a_line_the_next_one_begins_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, room, write = tmp_path / "log", [5], os.write

    def fills(descriptor: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    with path.open("wb") as file:
        handler = ThreadedHandler(file.fileno())
        monkeypatch.setattr("exporter.streams.os.write", fills)
        say(handler, "123456789")
        handler.flush()
        room[0] = 1000
        say(handler, "next")
        handler.flush()
    assert path.read_text() == "12345\n1 lines of the log are lost: nobody took them\nnext\n"


def test_what_has_no_utf8_is_written_all_the_same(tmp_path: Path) -> None:
    assert logged(tmp_path / "log", "name \udcff") == b"name \\udcff\n"
