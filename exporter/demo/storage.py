"""The demo's S3 server as the exporter sees it: a child process that starts, answers and ends."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib.util import find_spec
from types import TracebackType
from typing import Self

from exporter.demo.story import BUCKETS, SCENES, Scene, scene_at, seconds_left

START_SECONDS = 30.0
STOP_SECONDS = 5.0

# The breaker bears the throttled scene and opens in the failing one, within one loop of the story.
SETTINGS_HEAD = """\
probe: {interval: 5s, timeout: 3s, operations: [put, get, head, list, delete]}
breaker: {failure_threshold: 10, monitoring_window: 20s, recovery_timeout: 15s, slow_call_threshold: 500ms}
alerts: {error_rate_threshold: 0.2, slow_response_threshold: 500ms}
targets:
"""
SETTINGS_TARGET = """\
  - name: {bucket}
    endpoint: {endpoint}
    bucket: {bucket}
    region: us-east-1
    addressing_style: path
    access_key_id: demo
    secret_access_key: demo-needs-no-secret
"""


class DemoError(Exception):
    """The demo's storage cannot start; the message says what to do."""


class DemoStorage:
    """An S3 server in a child process, playing the story (or holding `scene`) on one of its buckets.

    Entering raises DemoError if the `demo` extra is not installed or the server does not answer
    within 30 s. The child ends when the context is left, and also when this process is killed.
    """

    def __init__(self, *, port: int = 0, scene: str | None = None) -> None:
        self.endpoint = ""
        self._arguments = ["--port", str(port), *(["--scene", scene] if scene else [])]
        self._held = SCENES[scene] if scene else None
        self._process: Process | None = None
        self._started = 0.0

    async def __aenter__(self) -> Self:
        require_moto()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "exporter.demo.server",
            *self._arguments,
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C reaches the exporter first, whose last deletes need a storage
        )
        try:
            self.endpoint = await self._first_line(self._process)
        except BaseException:
            await self._stop(self._process)
            raise
        self._started = time.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            await self._stop(self._process)

    def settings_text(self) -> str:
        """An exporter configuration (YAML) that probes the demo's buckets every 5 s."""
        targets = (SETTINGS_TARGET.format(bucket=bucket, endpoint=self.endpoint) for bucket in BUCKETS)
        return SETTINGS_HEAD + "".join(targets)

    async def scenes(self) -> AsyncIterator[Scene]:
        """The scene that plays now, then each next one as it begins, without end."""
        while True:
            elapsed = time.monotonic() - self._started
            yield self._held or scene_at(elapsed)
            await asyncio.sleep(seconds_left(elapsed))

    @staticmethod
    async def _first_line(process: Process) -> str:
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline() if process.stdout else b""
        except TimeoutError:
            raise DemoError(f"the demo's storage did not answer within {START_SECONDS:.0f} s") from None
        if not line:
            raise DemoError("the demo's storage ended before it answered; its own message is above")
        return line.decode().strip()

    @staticmethod
    async def _stop(process: Process) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                if process.stdin is not None:
                    process.stdin.close()  # which ends it
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def require_moto() -> None:
    """Raise DemoError if the packages of the `demo` extra are missing."""
    missing = [name for name in ("moto", "flask", "flask_cors") if find_spec(name) is None]
    if missing:
        raise DemoError(
            f"the demo needs {', '.join(missing)}, not installed here: pip install 'r2-exporter[demo]'"
        )
