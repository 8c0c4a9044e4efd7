"""The reference pages are those of this code, and what they show works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.build import FOLDER, PAGES
from docs.configuration import SECTIONS
from docs.metrics import QUERIES, exporter_metrics, guard_metrics
from exporter.config import load_settings
from exporter.config.model import ConfigFile
from exporter.metrics import Metrics

ROOT = FOLDER.parent


def text(name: str) -> str:
    return FOLDER.joinpath(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    assert text(name) == PAGES[name](), "run `make generate`"


@pytest.mark.parametrize("name", PAGES)
def test_links_of_a_page_lead_somewhere(name: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text(name)) if "://" not in link]
    assert links
    assert [link for link in links if not FOLDER.joinpath(link).exists()] == []


def test_every_section_and_key_of_the_file_is_there() -> None:
    described = {path: section for path, section, _ in SECTIONS}
    assert set(ConfigFile.model_fields) <= set(described)
    page = text("configuration.md")
    for path, section in described.items():
        part = page.partition(f"## `{path}`\n")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) == list(section.model_fields)


def test_every_key_has_its_words() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]*\| ([^|]+) \| ([^|]+) \|", text("configuration.md"), re.MULTILINE)
    assert len(rows) == sum(len(section.model_fields) for _, section, _ in SECTIONS)


@pytest.mark.parametrize(("path", "example"), [(path, example) for path, _, example in SECTIONS])
def test_an_example_loads(path: str, example: str, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    folder.joinpath("deploy").write_text("0123456789abcdef")
    bucket = "targets: [{name: media, endpoint: https://s3.example.org, bucket: media}]\n"
    file = tmp_path / "exporter.yaml"
    file.write_text(example + ("" if path == "targets" else f"\n{bucket}"))
    assert set(yaml.safe_load(example)) == {path.partition(".")[0]}
    load_settings(file, {"AM_PASSWORD": "secret"})


def test_every_command_and_flag_is_there() -> None:
    page = text("configuration.md")
    commands = re.findall(r"^### `r2-exporter ([\w-]+)`", page, re.MULTILINE)
    assert commands == ["serve", "demo", "check", "check-config", "healthcheck"]
    for command in commands:
        part = page.partition(f"### `r2-exporter {command}`\n")[2].partition("\n##")[0]
        said = subprocess.run(
            [sys.executable, "-m", "exporter", command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        flags = set(re.findall(r"(?<!\S)(--[\w.-]+)", said)) - {"--help"}
        assert set(re.findall(r"^\| `(--[\w.-]+)", part, re.MULTILINE)) == flags


def test_every_metric_is_there() -> None:
    names = re.findall(r"^### `(\w+)`", text("metrics.md"), re.MULTILINE)
    assert names == [each.name for each in [*exporter_metrics(), *guard_metrics()]]
    assert set(Metrics().registry.families) == {each.name for each in exporter_metrics()}
    assert set(QUERIES) <= set(names)


def test_every_question_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"asked:n{number}", "expr": query} for number, query in enumerate(QUERIES.values())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_every_alert_is_there() -> None:
    groups = yaml.safe_load(ROOT.joinpath("rules", "r2-exporter.yml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert re.findall(r"^\| \[`(\w+)`\]", text("alerts.md"), re.MULTILINE) == alerts
