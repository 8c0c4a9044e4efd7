"""Memory that was freed is the system's again."""

import subprocess
import sys

PROGRAM = """
import ctypes
import random
import sys
import threading

from exporter.memory import give_back_what_is_freed

SIZES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()


class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in SIZES]


def work(chance):
    for _ in range(50):
        pages = []
        for _ in range(20):
            pages.append(bytearray(chance.randrange(70_000, 400_000)))
            kept.append(bytearray(1000))  # so that nothing lies at the end of the heap


kept = []
if sys.argv[1] == "given back":
    give_back_what_is_freed()
threads = [threading.Thread(target=work, args=[random.Random(seed)]) for seed in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
print(libc.mallinfo2().fordblks)
"""


def test_what_is_freed_between_small_blocks_is_given_back() -> None:
    free = {}
    for form in ("kept", "given back"):
        told = subprocess.run(
            [sys.executable, "-c", PROGRAM, form], capture_output=True, text=True, check=True
        )
        free[form] = int(told.stdout)
    assert free["given back"] < 2 << 20 < free["kept"], free
