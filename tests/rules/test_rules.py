"""The rules are sound, ask for what is there, and are the same for Prometheus Operator."""

import re

import pytest
import yaml

from exporter.alerts import ALERT_NAMES, SEVERITIES
from exporter.config import TargetSettings
from exporter.target import thresholds
from rules.build import RESOURCE, resource
from tests.alerting import target
from tests.rules.promtool import run
from tests.rules.queried import alerts, asked, existing, rules
from tests.rules.simulated import RULES

TEXT = "\n".join(f"{rule['expr']} {rule.get('annotations')} ." for rule in rules())
THRESHOLD = re.compile(r'target_name:r2_config_threshold:last2m\{name="(\w+)"\}')


def test_promtool_finds_nothing_amiss() -> None:
    done = run(["promtool", "check", "rules", RULES])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout


def test_rules_ask_only_for_what_is_there() -> None:
    wanted = asked(TEXT)
    assert len(wanted) > 30
    assert wanted - existing() == set()


def test_thresholds_are_those_that_the_exporter_shows() -> None:
    settings: TargetSettings = target()
    named = set(THRESHOLD.findall(RULES.read_text()))
    assert {"error_rate", "slow_response_seconds", "slo_objective"} <= named
    assert named - set(thresholds(settings)) == set()


def test_records_are_named_by_level_metric_and_operations() -> None:
    records = [rule["record"] for rule in rules() if "record" in rule]
    assert len(records) == len(set(records)) > 10
    assert [name for name in records if not re.fullmatch(r"target(_\w+)?:r2_\w+:\w+", name)] == []


def test_every_record_is_asked_for() -> None:
    assert {rule["record"] for rule in rules() if "record" in rule} - asked(TEXT) == set()


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert set(rule["labels"]) == {"type", "severity"}
    assert rule["labels"]["severity"] in {"info", "warning", "high", "critical"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{rule['alert']}.md")


def test_the_five_types_are_those_that_the_exporter_pushes() -> None:
    ours = {rule["alert"]: rule["labels"] for rule in alerts()}
    for kind, name in ALERT_NAMES.items():
        assert ours[name] == {"type": kind.value, "severity": SEVERITIES[kind].label}


def test_the_rules_of_prometheus_operator_are_current() -> None:
    assert RESOURCE.read_text() == resource(), "run `python -m rules.build`"
    assert yaml.safe_load(resource())["spec"] == yaml.safe_load(RULES.read_text())
