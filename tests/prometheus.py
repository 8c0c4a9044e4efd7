"""A real Prometheus for a test: started on a free port, asked by PromQL, ended with the test."""

import asyncio
import re
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

LISTENING = re.compile(r'msg="Listening on" address=(\S+)')
START_SECONDS = 30


class Prometheus:
    """The HTTP API of one server, at `url`."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def query(self, promql: str) -> dict[str, float]:
        """An instant query: each series' labels, sorted and without its name, and its value."""
        data = await self.get("query", query=promql)
        return {_labels(series["metric"]): float(series["value"][1]) for series in data["result"]}

    async def get(self, path: str, **parameters: str) -> Any:
        async with self._session.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
            body = await answer.json()
        assert body["status"] == "success", body
        return body["data"]


async def _ready(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            async with session.get(f"{url}/-/ready") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.1)


def _labels(metric: dict[str, str]) -> str:
    dropped = {"__name__", "instance", "job"}
    return ",".join(f"{name}={value}" for name, value in sorted(metric.items()) if name not in dropped)


@asynccontextmanager
async def prometheus(folder: Path, config: str) -> AsyncIterator[Prometheus]:
    """Runs Prometheus on `config` with its data under `folder` until the context ends."""
    binary = shutil.which("prometheus")
    assert binary, "prometheus is not installed: `make test` installs it"
    file = folder / "prometheus.yml"
    file.write_text(config)
    process = await asyncio.create_subprocess_exec(
        binary,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--enable-feature=exemplar-storage",
        stderr=PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (found := LISTENING.search((await process.stderr.readline()).decode())):
                assert process.returncode is None
        drain = asyncio.create_task(process.stderr.read())
        url = f"http://{found[1]}"
        async with aiohttp.ClientSession() as session:
            await _ready(session, url)
            yield Prometheus(url, session)
        drain.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
