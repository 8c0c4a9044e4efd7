"""The reference pages are those of this code, and what they show works."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from docs.alerts import WORDS
from docs.build import FOLDER, PAGES
from docs.configuration import PARTS, Part
from docs.metrics import BUCKETS, FURTHER, NOTES, QUERIES, Metric, exporter_metrics, guard_metrics, values
from docs.rules import alerting_rules, asks_for
from exporter.alerts import SEVERITIES
from exporter.breaker import State
from exporter.config import load_settings
from exporter.config.model import ConfigFile
from exporter.guard import CircuitBreaker, GuardMetrics, Verdict
from exporter.guard.metrics import REJECTED
from exporter.metrics import Metrics
from exporter.overrides import SETTINGS
from exporter.series import Format
from tests.deploy.guides import anchors, blocks, links
from tests.deploy.tool import run
from tests.rules.cases import CASES
from tests.test_metrics import full_page

ROOT = FOLDER.parent
ENV = {
    "AM_PASSWORD": "secret",
    "AM_TOKEN": "secret",
    "R2_ACCESS_KEY_ID": "id",
    "R2_SECRET_ACCESS_KEY": "key",
}


def text(name: str) -> str:
    return FOLDER.joinpath(name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """What stands below a heading, up to the next of its level or above."""
    level = heading.partition(" ")[0]
    found = text(name).split(f"\n{heading}\n")
    assert len(found) == 2, heading
    return re.split(rf"^#{{1,{len(level)}}} ", found[1], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    assert text(name) == PAGES[name](), "run `make generate`"


@pytest.mark.parametrize("name", PAGES)
def test_links_of_a_page_lead_somewhere(name: str) -> None:
    found = list(links(FOLDER / name))
    assert found
    dead = [
        f"{file}#{anchor}"
        for file, anchor in found
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert dead == []


# -- configuration.md


def test_every_section_is_there_in_the_order_of_the_file() -> None:
    assert [part.path for part in PARTS if "." not in part.path] == list(ConfigFile.model_fields)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: str(part.path))
def test_every_key_is_there_with_its_words(part: Part) -> None:
    rows = [
        re.split(r"(?<!\\)\|", row)[1:-1]
        for row in section("configuration.md", f"## `{part.path}`").splitlines()
        if row.startswith("| `")
    ]
    assert [row[0].strip(" `") for row in rows] == list(part.section.model_fields)
    assert all(row[2].strip() and row[3].strip() for row in rows)


def test_every_setting_that_put_changes_is_there() -> None:
    for name, place in SETTINGS.items():
        (row,) = [
            row
            for row in section("configuration.md", f"## `{place.section}`").splitlines()
            if row.startswith(f"| `{place.key}` |")
        ]
        assert row.endswith(f"| `{name}`{' (ms)' if place.scale == 1000 else ''} |")


@pytest.mark.parametrize(
    ("path", "key", "words"),
    [
        ("probe", "timeout", "a duration between 10ms and 5m"),
        ("probe", "fresh_connection_every", "a whole number from 0 to 10,000"),
        ("breaker", "failure_rate_threshold", "a ratio above 0, at most 1"),
        ("alerts", "slo_objective", "a ratio from 0.5 to 0.99999"),
        ("alerts", "monthly_budget", "a number above 0, at most 1,000,000"),
        ("history", "max_size", "a size between 16MiB and 1TiB"),
        ("api", "tokens", "a list; each the keys of [`api.tokens`](#apitokens)"),
        ("targets", "endpoint", "an http or https URL without user, query or fragment"),
        ("targets", "ca_file", "a path"),
    ],
)
def test_what_a_key_takes_is_said_with_its_bounds(path: str, key: str, words: str) -> None:
    assert re.search(
        rf"^\| `{key}` \| [^|]* \| {re.escape(words)} \|",
        section("configuration.md", f"## `{path}`"),
        re.MULTILINE,
    )


@pytest.mark.parametrize("part", PARTS, ids=lambda part: str(part.path))
def test_an_example_loads(part: Part, tmp_path: Path) -> None:
    for name in ("api-token", "deploy", "grafana"):
        secret = tmp_path / "secrets" / name
        secret.parent.mkdir(exist_ok=True)
        secret.write_text(f"the-token-in-{name}")
    (example,) = re.findall(
        r"^```yaml\n(.*?)^```$", section("configuration.md", f"## `{part.path}`"), re.M | re.S
    )
    assert set(yaml.safe_load(example)) == {part.path.partition(".")[0]}
    bucket = "targets: [{name: media, endpoint: https://s3.example.org, bucket: media}]\n"
    file = tmp_path / "exporter.yaml"
    file.write_text(example + ("" if part.path == "targets" else bucket))
    load_settings(file, ENV)


def test_every_command_and_flag_is_there() -> None:
    commands = re.findall(r"^### `r2-exporter ([\w-]+)`", text("configuration.md"), re.MULTILINE)
    assert commands == ["serve", "demo", "check", "check-config", "healthcheck"]
    for command in commands:
        said = subprocess.run(
            [sys.executable, "-m", "exporter", command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        flags = set(re.findall(r"(?<!\S)(--[\w.-]+)", said)) - {"--help"}
        part = section("configuration.md", f"### `r2-exporter {command}`")
        assert set(re.findall(r"^\| `(--[\w.-]+)", part, re.MULTILINE)) == flags


# -- metrics.md


def test_every_metric_is_there() -> None:
    names = re.findall(r"^### `(\w+)`", text("metrics.md"), re.MULTILINE)
    assert names == [each.name for each in [*exporter_metrics(), *guard_metrics()]]
    assert set(Metrics().registry.families) == {each.name for each in exporter_metrics()}
    assert set(QUERIES) | set(NOTES) | set(BUCKETS) | set(FURTHER) <= set(names)


Seen = dict[str, dict[str, set[str]]]


def seen(page: str) -> Seen:
    """The labels of each metric on a page, with their values."""
    found: Seen = {}
    for family in text_string_to_metric_families(page):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = found.setdefault(name, {})
        for sample in family.samples:
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def exposed() -> Seen:
    """A page of the exporter on which everything happened."""
    metrics = full_page()
    for state in State:
        metrics.breaker_state("media", state)
    for kind, severity in SEVERITIES.items():
        metrics.alert("media", kind, severity.label, active=True)
    return seen(b"".join(metrics.registry.render(Format.TEXT)).decode())


def guarded() -> Seen:
    """A page of an application on which everything happened."""
    registry = CollectorRegistry()
    metrics = GuardMetrics(registry)
    breaker = CircuitBreaker("one")
    metrics.watch(breaker)
    for result in (*(verdict.value for verdict in Verdict), REJECTED):
        metrics.count("one", "put", result)
    breaker.force_open()
    breaker.disable()
    found: Seen = {}
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            for label, value in sample.labels.items():
                found.setdefault(name, {}).setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize(
    ("metrics", "page"),
    [(exporter_metrics(), exposed()), (guard_metrics(), guarded())],
    ids=["exporter", "guard"],
)
def test_the_values_of_a_label_are_those_that_are_exposed(metrics: Iterable[Metric], page: Seen) -> None:
    told = {
        (metric.name, label): values(metric.name, label)
        for metric in metrics
        for label in metric.labels
        if values(metric.name, label)
    }
    assert told
    strange = {
        place: page[place[0]][place[1]] - set(known) for place, known in told.items() if place[0] in page
    }
    assert {place: some for place, some in strange.items() if some} == {}


def test_the_labels_and_buckets_are_those_that_are_exposed() -> None:
    page = exposed()
    for metric in exporter_metrics():
        further = {"le"} if metric.kind == "histogram" else set()
        if metric.name in FURTHER:
            assert set(page[metric.name]) >= set(metric.labels)
        else:
            assert set(page[metric.name]) == {*metric.labels, *further}
        if metric.kind == "histogram":
            assert {float(edge) for edge in page[metric.name]["le"]} == {*BUCKETS[metric.name], float("inf")}
    assert {each.name for each in guard_metrics() if each.kind == "histogram"} <= set(BUCKETS)


def test_the_labels_of_the_build_are_those_that_serve_gives() -> None:
    calls = [
        node
        for node in ast.walk(ast.parse(ROOT.joinpath("exporter", "serve.py").read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "set_build_info"
    ]
    given = {f"`{keyword.arg}`" for call in calls for keyword in call.keywords}
    assert given == set(FURTHER["r2_exporter_build_info"])


def test_every_question_is_promql(tmp_path: Path) -> None:
    queries = [query.strip() for query in blocks(FOLDER / "metrics.md", "promql")]
    assert queries == [
        QUERIES[each.name] for each in [*exporter_metrics(), *guard_metrics()] if each.name in QUERIES
    ]
    assert all(asks_for(name, query) for name, query in QUERIES.items())
    rules = [{"record": f"asked:n{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run("promtool", "check", "rules", file)


@pytest.mark.parametrize(
    ("metric", "asked", "asks"),
    [
        ("r2_probes_total", "rate(r2_probes_total[5m])", True),
        ("r2_probe_duration_seconds", "rate(r2_probe_duration_seconds_bucket[5m])", True),
        ("r2_probes", "r2_probes_total", False),
        ("r2_probe_success", "min(target_operation:r2_probe_success:last2m)", False),
        ("target:r2_operations_down:ratio3", "target:r2_operations_down:ratio30d", False),
    ],
)
def test_what_uses_a_metric_is_told_by_its_whole_name(metric: str, asked: str, asks: bool) -> None:
    assert asks_for(metric, asked) is asks


# -- alerts.md


def test_every_alert_is_there() -> None:
    groups = yaml.safe_load(ROOT.joinpath("rules", "r2-exporter.yml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert re.findall(r"^\| \[`(\w+)`\]", text("alerts.md"), re.MULTILINE) == alerts
    assert list(WORDS) == alerts
    for name in alerts:
        lines = re.findall(r"^- \*\*(.+?)\*\*", section("alerts.md", f"### {name}"), re.MULTILINE)
        assert lines == ["Comes", "Ends", "Look first at", "It is not", "Rests on"]


def test_every_type_of_the_exporter_is_there() -> None:
    table = section("alerts.md", "## Pushed, from the rules, or both")
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(SEVERITIES)


def test_alerts_rest_on_what_their_recording_rules_ask_for() -> None:
    thresholds = {rule.name: rule.thresholds for rule in alerting_rules()}
    assert thresholds["R2ExporterDown"] == []
    assert thresholds["R2ProbingBill"] == ["monthly_budget_dollars"]
    assert "slo_objective" in thresholds["R2ErrorBudgetBurnSlow"]


def test_who_an_alert_is_about_is_as_the_page_says() -> None:
    about = {case.alert: set(case.labels) for case in CASES if case.fires}
    page = section("alerts.md", "## Labels and annotations")
    assert "`R2ExporterAbsent` has none of these" in page
    assert {name: labels for name, labels in about.items() if labels != {"target"}} == {
        "R2ExporterDown": {"job", "instance"},
        "R2HistoryNotWriting": {"job", "instance"},
        "R2ExporterAbsent": set(),
    }
