"""An S3 server that costs little and tells how long it took, for measurements on this machine.

    with storage() as url: ...

It runs in a process of its own (`python -m bench.storage`), checks no signature and keeps objects in memory.
Its request ids end in the microseconds that it held the request, from its last byte to the answer's first.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

DELAYS = ("none", "constant", "bimodal", "long-tailed")


@dataclass(frozen=True)
class Storage:
    """A server under way."""

    url: str
    pid: int


@contextmanager
def storage(delay: str = "none") -> Iterator[Storage]:
    """Starts one, and ends it with the context."""
    command = [sys.executable, "-m", "bench.storage", "--delay", delay]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Storage(process.stdout.readline().strip(), process.pid)
        finally:
            process.terminate()


def held_seconds(request_id: str) -> float:
    """What a request id says of how long the server held the request."""
    return int(request_id.rpartition("-")[2]) / 1e6
