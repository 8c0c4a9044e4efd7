"""A pipe that takes no more."""

import fcntl
import os
from contextlib import suppress
from typing import IO

PIPE = 4096
"""Bytes that it takes in all; the kernel has no smaller one."""


def fill(pipe: int | IO[bytes]) -> None:
    """To the last byte, whichever end it is that we have."""
    descriptor = pipe if isinstance(pipe, int) else pipe.fileno()
    with suppress(OSError):  # it holds more already
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE)
    end = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
    for size in (PIPE, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(end, b"\n" * size)
    os.close(end)
