"""docs/scaling.md keeps its word: discovery and hash give each target to exactly one Prometheus."""

import asyncio
import json
import re
from asyncio.subprocess import PIPE
from pathlib import Path

from tests.deploy.guides import blocks
from tests.deploy.tool import ROOT, tool
from tests.running import eventually, running, target, write

PAGE = ROOT / "docs" / "scaling.md"
TARGETS = [f"bucket-{number}" for number in range(12)]


async def scraped(folder: Path, shard: int, exporter: str) -> set[str]:
    """The targets that the page's server of this number would scrape, at `exporter`."""
    (text,) = blocks(PAGE, "yaml", "http_sd_configs")
    address = exporter.removeprefix("http://")
    text = text.replace('regex: "0"', f'regex: "{shard}"').replace("r2-exporter-0:9977", address)
    file = folder / f"prometheus-{shard}.yml"
    file.write_text(text)
    folder.joinpath("r2-exporter.yml").write_text("groups: []\n")
    process = await asyncio.create_subprocess_exec(
        tool("promtool"),
        "check",
        "service-discovery",
        "--timeout=1s",
        str(file),
        "r2-probe",
        stdout=PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    kept = [each["labels"] for each in json.loads(said) if each["labels"]]
    assert {each["__metrics_path__"] for each in kept} == {"/probe"}
    return {each["__param_target"] for each in kept}


async def test_each_target_is_scraped_by_exactly_one_server(tmp_path: Path) -> None:
    config = tmp_path / "exporter.yaml"
    disabled = {"enabled": False}
    write(config, *(target(name, "http://127.0.0.1:1", name, probe=disabled) for name in TARGETS))
    first: set[str] = set()
    second: set[str] = set()

    async def all_found() -> bool:
        nonlocal first, second
        first, second = await asyncio.gather(*(scraped(tmp_path, shard, exporter.url) for shard in (0, 1)))
        return first | second == set(TARGETS)

    async with running(config) as exporter:
        await eventually(all_found)  # promtool waits a second for what it discovers, and no longer
    assert first
    assert second
    assert not first & second


def test_the_page_s_exporter_probes_nothing_by_itself() -> None:
    (text,) = blocks(PAGE, "yaml", "targets:\n")
    assert re.search(r"^probe: \{enabled: false\}$", text, re.M)
