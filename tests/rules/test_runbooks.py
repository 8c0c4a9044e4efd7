"""Each alert has a page, and what a page tells to type works."""

import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.alertmanager.rig import Alertmanager, alertmanager
from tests.rules.promtool import run
from tests.rules.queried import alerts, asked, commands, existing, queries, runbooks

PAGES = runbooks()
HEADINGS = ["## What it means", "## What to look at", "## What to do", "## How to silence"]


def test_each_alert_has_a_page_and_each_page_an_alert() -> None:
    assert set(PAGES) == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_a_page_says_everything_in_the_same_order(rule: dict[str, dict[str, str]]) -> None:
    lines = PAGES[str(rule["alert"])].splitlines()
    assert lines[0] == f"# {rule['alert']}"
    assert lines[2] == f"{rule['labels']['severity']} · type `{rule['labels']['type']}`"
    assert [line for line in lines if line.startswith("## ")] == HEADINGS
    assert max(map(len, lines)) <= 150


def test_links_between_pages_lead_somewhere() -> None:
    linked = {part.partition(".md)")[0] for page in PAGES.values() for part in page.split("](")[1:]}
    assert linked
    assert linked <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_queries_parse_and_ask_for_what_is_there(name: str, tmp_path: Path) -> None:
    found = queries(PAGES[name])
    assert len(found) >= 2
    recording = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(found)]
    file = tmp_path / "queries.json"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": recording}]}))
    done = run(["promtool", "check", "rules", file])
    assert done.returncode == 0, done.stdout + done.stderr
    assert asked("\n".join(found)) - existing() == set()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Alertmanager]:
    async with alertmanager(tmp_path / "alertmanager") as running:
        yield running


async def test_the_commands_silence_their_alerts(server: Alertmanager) -> None:
    silencing = {name: commands(page) for name, page in PAGES.items()}
    assert all(len(found) == 1 for found in silencing.values())
    for (command,) in silencing.values():
        done = run([*shlex.split(command), f"--alertmanager.url={server.url}", "--author=test"])
        assert done.returncode == 0, done.stderr
    async with server.session.get(f"{server.url}/api/v2/silences") as answer:
        kept = await answer.json()
    silenced = {each["value"] for one in kept for each in one["matchers"] if each["name"] == "alertname"}
    assert silenced == set(PAGES)
