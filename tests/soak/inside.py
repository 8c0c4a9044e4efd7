"""`r2-exporter` as users start it, but on SIGUSR1 it says what is alive inside of it.

On SIGUSR2 it says so after it has collected garbage. That is for the end alone: until then memory is what
the exporter's own settings of the collector make of it.
"""

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import threading
from collections import Counter

from exporter.cli import main

TYPES = 30
"""Of how many kinds of objects, the most frequent ones, the number is told."""


class Mallinfo(ctypes.Structure):
    """What the C library has asked of the system, and of it is in use; mallinfo(3)."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


_mallinfo = ctypes.CDLL(None).mallinfo2
_mallinfo.restype = Mallinfo


def tell(number: int, _: object) -> None:
    """A line of JSON on standard error, written past `sys.stderr`, which may be in the middle of another."""
    if number == signal.SIGUSR2:
        gc.collect()
    memory = _mallinfo()
    objects = Counter(type(each).__qualname__ for each in gc.get_objects())
    told = {
        "tasks": Counter(_name(task) for task in asyncio.all_tasks()),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "objects": objects.total(),
        "in_use": memory.uordblks + memory.hblkhd,
        "free": memory.fordblks,
        "types": dict(objects.most_common(TYPES)),
    }
    os.write(sys.stderr.fileno(), f"inside {json.dumps(told)}\n".encode())


def _name(task: "asyncio.Task[object]") -> str:
    return str(getattr(task.get_coro(), "__qualname__", task.get_coro()))


if __name__ == "__main__":
    for each in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(each, tell)
    main()
