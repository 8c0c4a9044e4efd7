"""`serve` and `demo`: the exporter from its start to its last signal."""

import asyncio
import gc
import logging
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from exporter import __version__, logs
from exporter.app import App
from exporter.background import Background
from exporter.config import ConfigError, Settings, load_settings
from exporter.demo import DemoStorage
from exporter.history import NewerSchemaError
from exporter.log_handler import LAST_WORDS_SECONDS
from exporter.memory import give_back_what_is_freed
from exporter.metrics import Metrics
from exporter.shard import WHOLE, Shard
from exporter.streams import tell
from exporter.threads import blocking_threads, leave_stuck_threads
from exporter.web.server import Server

SWITCH_INTERVAL = 0.0005
"""Seconds; `bench/history.py` has what it comes to."""

GC_THRESHOLDS = (2_000, 5, 1_000)
"""Allocations beyond deallocations until the youngest are collected, and how many such rounds until the
older are, and the oldest."""

ASYNCIO_OLDEST = 3
"""The same of the oldest on asyncio's own loop: each of its transports refers to itself, so that every
connection that was closed waits for the collector. uvloop's do not."""

log = structlog.get_logger(__name__)


async def serve(
    load: Callable[[], Settings],
    storage: Path,
    listen: Sequence[tuple[str, int]],
    web_config: Path | None,
    listening: Callable[[Sequence[str]], None] = lambda _: None,
    shard: Shard = WHOLE,
) -> int:
    """Probes and serves until SIGTERM or SIGINT; SIGHUP reloads. `listening` is told the URLs.

    `storage` is the history's file. Returns the exit status: 0, 1 if it cannot listen, or 2 for what is
    unusable, which is told by then.
    """
    give_back_what_is_freed()
    others = asyncio.all_tasks()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    threads = blocking_threads(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    app = App(load, storage, shard)
    app.metrics.set_build_info(
        version=__version__,
        python_version=platform.python_version(),
        implementation=platform.python_implementation(),
    )
    server = Server(app, listen, web_config)
    beside = Background()
    try:
        status = await _serve_until(stopping, app, server, beside, listening)
    except ConfigError as error:
        _tell_unusable(error)
        status = 2
    finally:
        began = time.monotonic()
        await beside.end()
        # The web side goes last: until then /-/ready says 503 and /metrics what the last probes found.
        await app.stop()
        await server.stop()
    tell_left_tasks(others)
    if status == 0:
        log.info("stopped", seconds=round(time.monotonic() - began, 3))
    await leave_stuck_threads(threads, status)
    return status


async def _serve_until(
    stopping: asyncio.Event,
    app: App,
    server: Server,
    beside: Background,
    listening: Callable[[Sequence[str]], None],
) -> int:
    """Starts both, and waits. Returns the exit status."""
    try:
        if not await ends_before(stopping, app.start()):
            log.warning("stopping before it has begun to probe")
            return 0
    except NewerSchemaError as error:
        log.error("the history cannot be used", cause=str(error))
        return 2
    keep_the_loop_free()
    beside.begin(_count_lost_lines(app.metrics))
    try:
        if not await ends_before(stopping, server.start()):
            log.warning("stopping before it has begun to listen")
            return 0
    except OSError as error:
        log.error(
            "cannot listen",
            address=error.filename,
            cause=error.strerror,
            mend="choose another with --web.listen-address",
        )
        return 1
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: beside.begin(_reload(server)))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    listening(server.urls)
    part = {} if app.shard.is_whole else {"shard": app.shard.number, "total_shards": app.shard.total}
    log.info("probing", targets=len(app.targets), version=__version__, **part)
    await stopping.wait()
    log.info("stopping")
    return 0


def _tell_unusable(error: ConfigError) -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()  # what was logged comes first
    tell(str(error), LAST_WORDS_SECONDS)


async def ends_before(stopping: asyncio.Event, start: Coroutine[object, object, None]) -> bool:
    """Whether the start, which may hang, came to its end; it is cancelled once it is to stop."""
    starting, told = asyncio.ensure_future(start), asyncio.ensure_future(stopping.wait())
    await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, told, return_exceptions=True)
        return False
    await starting
    return True


def tell_left_tasks(others: Set[asyncio.Task[Any]]) -> None:
    """Names the tasks, but for `others`, that should have ended: asyncio would cancel them without a word."""
    left = asyncio.all_tasks() - others
    if left:
        names = sorted(getattr(task.get_coro(), "__qualname__", task.get_name()) for task in left)
        log.warning("tasks are left behind", tasks=names)


def keep_the_loop_free() -> None:
    """What is there by now stays: the garbage collector need not look at it again and again.

    What comes later is thousands of results, each of which takes the place of one before and leaves no ring
    of references; so the young are looked at in small portions, and the old, which at ten thousand targets
    would take half a second, hardly ever. And a thread that computes, such as for a long answer of the
    API, lets go of the interpreter sooner than after Python's 5 ms.
    """
    gc.collect()
    gc.freeze()
    youngest, older, oldest = GC_THRESHOLDS
    is_asyncio = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    gc.set_threshold(youngest, older, ASYNCIO_OLDEST if is_asyncio else oldest)
    gc.enable()
    sys.setswitchinterval(SWITCH_INTERVAL)


async def demo(listen: Sequence[tuple[str, int]], web_config: Path | None) -> int:
    """`serve` against a storage of its own. Raises DemoError when that cannot start."""
    async with DemoStorage() as storage:
        with tempfile.TemporaryDirectory(prefix="r2-exporter-demo-") as folder:
            config = Path(folder) / "exporter.yaml"
            config.write_text(storage.settings_text())
            narrator = asyncio.create_task(_narrate(storage))
            try:
                storage_path = Path(folder) / "r2-exporter.db"
                load = partial(load_settings, config, {})
                return await serve(load, storage_path, listen, web_config, _show_around)
            finally:
                narrator.cancel()


def _show_around(urls: Sequence[str]) -> None:
    url = urls[0]
    print(
        f"""
r2-exporter demo: two buckets, one of which plays an outage every few minutes. Ctrl-C ends it.

  status          {url}/
  metrics         {url}/metrics
  probe, in full  {url}/probe?target=media&debug=true
""",
        flush=True,
    )


async def _count_lost_lines(metrics: Metrics) -> None:
    while True:
        metrics.log_lost(logs.lost())
        await asyncio.sleep(1)


async def _reload(server: Server) -> None:
    try:
        await server.reload()
    except ConfigError as error:
        log.error("reload failed; the configuration before stays in force", file=error.source)


async def _narrate(storage: DemoStorage) -> None:
    async for scene in storage.scenes():
        log.info("demo scene", scene=scene.name, storage=scene.description)
