"""The configurations of deploy/compose at work together: the real programs, on this machine's own ports."""

import asyncio
import re
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.deploy.composed import COMPOSE, lay_out
from tests.deploy.tool import tool
from tests.prometheus import prometheus
from tests.running import DEADLINE, Client, Samples, demo_server, eventually, serving_command

LISTENING = re.compile(r'msg="Listening on" address=(\S+)')
ALERT = {"alertname": "R2CircuitBreakerOpen", "target": "media", "severity": "critical"}


def edit(file: Path, texts: Mapping[str, str]) -> str:
    """Other addresses and a quicker pace in a configuration; each must have been there."""
    text = file.read_text()
    for old, new in texts.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return text


@asynccontextmanager
async def alertmanager(file: Path) -> AsyncIterator[Client]:
    process = await asyncio.create_subprocess_exec(
        tool("prometheus-alertmanager"),
        f"--config.file={file}",
        f"--storage.path={file.with_name('data')}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
        stderr=PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE):
            while not (found := LISTENING.search((await process.stderr.readline()).decode())):
                assert process.returncode is None
        drain = asyncio.create_task(process.stderr.read())
        yield Client(f"http://{found[1]}")
        drain.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def prepare(token: Path, bucket: str) -> None:
    subprocess.run([sys.executable, COMPOSE / "prepare.py", token, bucket], timeout=DEADLINE, check=True)


def test_preparing_again_changes_nothing(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with demo_server() as storage:
        prepare(token, f"{storage}/compose")
        made = token.read_text()
        prepare(token, f"{storage}/compose")
    assert token.read_text() == made
    assert re.fullmatch(r"[0-9a-f]{64}\n", made)
    assert token.stat().st_mode & 0o777 == 0o440


async def test_they_work_together(tmp_path: Path) -> None:
    folders = {name: lay_out(name, tmp_path / name) for name in ("exporter", "prometheus", "alertmanager")}
    config = folders["exporter"] / "etc/r2-exporter/exporter.yaml"
    token = config.parent / "secrets/api-token"
    token.parent.mkdir()
    with demo_server() as storage:
        prepare(token, f"{storage}/media")
        edit(config, {"http://moto:5000": storage, "interval: 15s": "interval: 1s"})
        async with serving_command(config) as exporter:
            told = folders["alertmanager"] / "etc/alertmanager/alertmanager.yml"
            quick = {
                "http://exporter:9977": exporter.url,
                "/etc/alertmanager/secrets/api-token": str(token),
                "group_wait: 5s": "group_wait: 100ms",
            }
            edit(told, quick)
            async with alertmanager(told) as teller:
                await _scraped(folders["prometheus"] / "etc/prometheus", exporter.url, teller.url)
                await _told(teller)


async def _scraped(folder: Path, exporter: str, alertmanager: str) -> None:
    """Prometheus scrapes the exporter, has its rules, and knows Alertmanager."""
    addresses = {
        "exporter:9977": exporter.partition("//")[2],
        "alertmanager:9093": alertmanager.partition("//")[2],
        ": 15s": ": 1s",
    }
    async with prometheus(folder, edit(folder / "prometheus.yml", addresses)) as server:

        async def up() -> bool:
            return await server.query("r2_target_up == 1") == {"target=media": 1.0}

        async def announced() -> bool:
            return bool((await server.get("alertmanagers"))["activeAlertmanagers"])

        for condition in (up, announced):
            await eventually(condition)
        assert (await server.get("rules"))["groups"]


async def _told(teller: Client) -> None:
    """Alertmanager tells the exporter's webhook, with its token."""
    await _send(teller.url)

    async def delivered() -> bool:
        samples = Samples.of((await teller.get("/metrics"))[1])
        assert samples("alertmanager_notifications_failed_total", integration="webhook") == 0
        return samples("alertmanager_notifications_total", integration="webhook") > 0

    await eventually(delivered)


async def _send(url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        tool("amtool"),
        f"--alertmanager.url={url}",
        "alert",
        "add",
        *(f"{name}={value}" for name, value in ALERT.items()),
        stderr=PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors
