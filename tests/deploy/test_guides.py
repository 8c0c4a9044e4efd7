"""The guides keep their word: links lead somewhere, configurations load and work, commands are taken."""

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from exporter.cli import parser
from exporter.config import load_settings
from tests.deploy.charted import manifests
from tests.deploy.guides import PAGES, STARTS, anchors, blocks, commands, links
from tests.deploy.tool import ROOT, run
from tests.running import demo_server
from tests.running import run as run_exporter

VARIABLES = ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "RGW_ACCESS_KEY", "RGW_SECRET_KEY", "KEY", "SECRET")
ENV = dict.fromkeys(VARIABLES, "a-secret-of-this-test")
PROMETHEUS = [page for page in PAGES if blocks(page, "yaml", "scrape_configs:")]
CONFIGURED = [
    page for page in PAGES if any(re.search(r"^targets:", text, re.M) for text in blocks(page, "yaml"))
]
COST = ROOT / "docs" / "cost.py"


def name_of(page: object) -> str:
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else ""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_into_the_repository_lead_somewhere(page: Path) -> None:
    dead = [
        f"{file}#{anchor}"
        for file, anchor in links(page)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert dead == []


def test_anchors_are_named_as_github_names_them() -> None:
    assert {"your-alerts", "why-it-failed", "the-circuit-breaker"} <= anchors(ROOT / "README.md")
    assert "get-apihealthconfigchanges" in anchors(ROOT / "docs" / "api.md")


@pytest.mark.parametrize("page", CONFIGURED, ids=name_of)
def test_configurations_load(page: Path, tmp_path: Path) -> None:
    for secret in ("api-token", "secrets/api-token", "secrets/deploy", "secrets/grafana"):
        file = tmp_path / secret
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"the token in {secret}".replace(" ", "-"))
    for text in blocks(page, "yaml", "targets:\n"):
        if re.search(r"^targets:", text, re.M):
            config = tmp_path / "exporter.yaml"
            config.write_text(text)
            load_settings(config, ENV)


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with demo_server() as url:
        yield url


@pytest.mark.parametrize("page", STARTS, ids=name_of)
def test_a_start_works_to_the_end(storage: str, page: Path, tmp_path: Path) -> None:
    """As the reader does it, at a storage on this machine."""
    (text,) = blocks(page, "yaml", "targets:\n")
    here, changed = re.subn(r"^    (account_id|endpoint): .*$", f"    endpoint: {storage}", text, flags=re.M)
    assert changed == 1
    (tmp_path / "exporter.yaml").write_text(here)
    keys = {"AWS_ACCESS_KEY_ID": "id-of-this-test", "AWS_SECRET_ACCESS_KEY": "key-of-this-test"}
    done = run_exporter("check", cwd=tmp_path, env={**ENV, **keys, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 targets healthy" in done.stdout


@pytest.mark.parametrize("page", PROMETHEUS, ids=name_of)
def test_prometheus_takes_its_configuration(page: Path, tmp_path: Path) -> None:
    (tmp_path / "r2-exporter.yml").write_text(ROOT.joinpath("rules/r2-exporter.yml").read_text())
    for text in blocks(page, "yaml", "scrape_configs:"):
        file = tmp_path / "prometheus.yml"
        file.write_text(text)
        assert "SUCCESS" in run("promtool", "check", "config", file)


def test_every_query_can_be_parsed(tmp_path: Path) -> None:
    queries = [query for page in PAGES for query in blocks(page, "promql")]
    rules = [{"record": f"of_a_guide:query:{n}", "expr": query} for n, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "guides", "rules": rules}]}))
    assert queries
    assert f"{len(queries)} rules found" in run("promtool", "check", "rules", file)


def test_every_command_is_taken() -> None:
    found = [line for page in PAGES for line in commands(page)]
    assert len(found) > 5
    for line in found:
        parser().parse_args(shlex.split(line))


def test_the_chart_takes_the_network_policy_of_the_security_page() -> None:
    (text,) = blocks(ROOT / "docs" / "security.md", "yaml", "networkPolicy:")
    values = {**yaml.safe_load(text), "existingConfigMap": "mine"}
    assert "NetworkPolicy" in {each["kind"] for each in manifests(values)}


def test_the_table_of_the_bill_is_what_the_command_computes() -> None:
    page = ROOT.joinpath("docs", "cost.md").read_text()
    table = page.partition("<!-- python docs/cost.py -->\n")[2].partition("<!-- end -->")[0]
    done = subprocess.run([sys.executable, COST], cwd=ROOT, capture_output=True, text=True, check=True)
    assert table == done.stdout


def test_the_bill_at_the_defaults_is_what_the_pages_say() -> None:
    cost = runpy.run_path(str(COST))
    put_get_delete = [cost["Operation"](name) for name in ("put", "get", "delete")]
    counts = cost["requests"](30, put_get_delete)
    # 86,400 runs in 30 days, and the sweep lists 720 times
    assert [counts[each] for each in cost["BillingClass"]] == [86_400 + 720, 86_400, 86_400]
    assert round(cost["dollars"](counts), 2) == 0.42
    assert "42 cents a month" in ROOT.joinpath("docs", "faq.md").read_text()
