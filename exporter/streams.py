"""Standard input, output and error: there, and holding up nothing, however the program was started."""

import os
import select
import sys
import threading
from io import TextIOWrapper


def open_missing() -> None:
    """Opens /dev/null in the place of each that is closed: the next file or socket would take it."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may show nothing but ASCII


def tell(text: str, patience: float | None = None) -> None:
    """Writes to standard error, and waits no longer than so many seconds for whoever reads it, or for ever.

    Past `sys.stderr`, whose lock the end of the process needs.
    """

    line = f"{text}\n".encode(errors="backslashreplace")
    writing = threading.Thread(target=write_all, args=(2, line), daemon=True)
    writing.start()
    writing.join(patience)


def write_all(descriptor: int, data: bytes) -> int:
    """Writes past Python's own buffers and their locks. How many bytes were taken before an error, if any."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # somebody who has the same terminal made it so
            select.select([], [descriptor], [])
        except OSError:
            break
    return len(data) - len(rest)


def let_go_of_output() -> None:
    """What standard output did not take is lost; Python would try it once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
