"""What the C library does with memory that was freed: it goes back to the system. mallopt(3)"""

import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8

LARGE = 64 << 10
"""Bytes from which on a block is taken from the system alone, and given back at once."""

ARENAS = 2
"""For all threads: one each, as glibc has it, would keep as much as its thread ever needed at a time."""


def give_back_what_is_freed() -> None:
    """Before the first thread begins. Pages and answers are large, and come and go by the second.

    By itself glibc raises what it calls large to the largest that was freed, and what lies between small
    blocks stays: there was soon as much free as in use. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
        mallopt(_M_MMAP_THRESHOLD, LARGE)
