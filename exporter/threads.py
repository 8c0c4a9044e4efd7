"""The threads for what blocks, and an end that does not wait for those that hang."""

import asyncio
import logging
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import structlog

_MAIN = threading.main_thread()

log = structlog.get_logger(__name__)


def blocking_threads(loop: asyncio.AbstractEventLoop) -> ThreadPoolExecutor:
    """Those that `asyncio.to_thread` uses from now on."""
    threads = ThreadPoolExecutor(thread_name_prefix="blocking-work")
    loop.set_default_executor(threads)
    return threads


async def leave_stuck_threads(threads: ThreadPoolExecutor, status: int) -> None:
    """Ends the process if a thread does not: Python's own end would wait for it, be it for ever.

    Such as one that reads from a disk that hangs, or runs a `credential_process`.
    """
    threads.shutdown(wait=False, cancel_futures=True)
    for _ in range(10):
        stuck = [each.name for each in threading.enumerate() if not each.daemon and each is not _MAIN]
        if not stuck:
            return
        await asyncio.sleep(0.01)
    log.warning("threads are left behind", threads=stuck)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)
