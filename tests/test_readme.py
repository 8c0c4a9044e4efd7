"""The README keeps its word: its configuration loads, its rules are valid, its metrics exist."""

import re
from pathlib import Path

import yaml
from mypy.api import run as mypy

from exporter.alerts import ALERT_NAMES, SEVERITIES
from exporter.config import load_settings
from exporter.metrics import Metrics
from exporter.outcome import Reason
from tests.deploy.tool import run

ROOT = Path(__file__).parents[1]
README = ROOT.joinpath("README.md").read_text()


def fenced(holding: str) -> str:
    """The one YAML block that holds this text, its indentation taken off."""
    blocks = re.findall(r"^( *)```yaml\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
    found = [
        re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in blocks if holding in block
    ]
    assert len(found) == 1, holding
    return found[0]


def test_the_first_screen_has_the_two_commands_and_the_picture() -> None:
    first_screen = "\n".join(README.splitlines()[:20])
    assert "make run" in first_screen
    assert "make test" in first_screen
    picture = re.search(r"!\[[^]]+\]\(([^)]+)\)", first_screen)
    assert picture is not None
    assert ROOT.joinpath(picture[1]).is_file()


def test_its_links_into_the_repository_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not ROOT.joinpath(link).exists()] == []


def test_its_configuration_loads(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text(fenced("R2_ACCESS_KEY_ID"))
    settings = load_settings(file, {"R2_ACCESS_KEY_ID": "id", "R2_SECRET_ACCESS_KEY": "secret"})
    assert [target.name for target in settings.targets] == ["media"]


def test_its_alerts_are_those_of_the_rules() -> None:
    table = README.partition("## Your alerts")[2].partition("\n## ")[0]
    listed = dict(re.findall(r"^\| `(R2\w+)` \| (\w+) \|", table, re.MULTILINE))
    groups = yaml.safe_load(ROOT.joinpath("rules", "r2-exporter.yml").read_text())["groups"]
    alerts = {
        rule["alert"]: rule["labels"]["severity"]
        for group in groups
        for rule in group["rules"]
        if "alert" in rule
    }
    own = {ALERT_NAMES[kind]: severity.label for kind, severity in SEVERITIES.items()}
    assert listed == own
    assert own.items() <= alerts.items()


def test_promtool_takes_its_scrape_configuration(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(fenced("job_name: r2\n") + fenced("r2-probe"))
    assert "SUCCESS" in run("promtool", "check", "config", file)


def test_its_python_is_typed(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    file = tmp_path / "readme.py"
    file.write_text(program)
    said, errors, code = mypy(["--strict", str(file)])
    assert code == 0, said + errors


def test_it_lists_metrics_that_there_are() -> None:
    table = README.partition("## Metrics")[2].partition("\n## ")[0]
    listed = re.findall(
        r"`(r2_\w+)`", "\n".join(row.split("|")[1] for row in table.splitlines() if "|" in row)
    )
    assert len(listed) > 12
    assert set(listed) <= set(Metrics().registry.families)


def test_it_explains_every_reason() -> None:
    table = README.partition("## Why it failed")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [reason.value for reason in Reason]
