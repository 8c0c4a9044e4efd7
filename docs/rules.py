"""The rules of Prometheus as the pages need them: alerts, and what their expressions rest on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).parents[1] / "rules" / "r2-exporter.yml"
_THRESHOLD = re.compile(r'r2_config_threshold(?::last2m)?\{name="(\w+)"')


@dataclass(frozen=True)
class Rule:
    """An alerting rule. `text` is its expression with those of the recording rules that it rests on."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    text: str
    waits: str
    lingers: str

    @property
    def thresholds(self) -> list[str]:
        """What it compares with, by the name in `r2_config_threshold`."""
        return list(dict.fromkeys(_THRESHOLD.findall(self.text)))


def alerting_rules() -> list[Rule]:
    """Every alert, in the file's order."""
    groups = yaml.safe_load(_FILE.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    records = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    return [_rule(rule, records) for rule in rules if "alert" in rule]


def asks_for(name: str, text: str) -> bool:
    """Whether a text asks for this metric, or for this recording rule."""
    return re.search(rf"(?<![\w:]){name}(_bucket|_sum|_count)?(?![\w:])", text) is not None


def _rule(rule: Mapping[str, Any], records: Mapping[str, str]) -> Rule:
    reached = {"": rule["expr"]}
    while new := {
        name: expression
        for name, expression in records.items()
        if name not in reached and any(asks_for(name, text) for text in reached.values())
    }:
        reached |= new
    return Rule(
        rule["alert"],
        rule["labels"],
        rule["annotations"],
        "\n".join(reached.values()),
        rule.get("for", ""),
        rule.get("keep_firing_for", ""),
    )
