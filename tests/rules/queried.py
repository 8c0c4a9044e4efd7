"""Which metrics there are, and which a query asks for."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from exporter.metrics import Metrics
from tests.rules.simulated import RULES

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"

_ASKED = re.compile(r"(?<![\w:])(?:\w+:)?r2_\w+(?::\w+)?")
_QUERY = re.compile(r"^```promql\n(.+?)\n```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^```sh\n(amtool .+?)\n```$", re.MULTILINE | re.DOTALL)


@cache
def rules() -> list[dict[str, Any]]:
    """Every rule, in order."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def runbooks() -> dict[str, str]:
    """Each page by the alert that it is named after."""
    return {page.stem: page.read_text() for page in sorted(RUNBOOKS.glob("*.md"))}


def queries(page: str) -> list[str]:
    return _QUERY.findall(page)


def commands(page: str) -> list[str]:
    return _COMMAND.findall(page)


def asked(text: str) -> set[str]:
    """The names of our metrics and recording rules in a text."""
    return set(_ASKED.findall(text))


def existing() -> set[str]:
    """What the exporter shows and what is recorded."""
    families = Metrics().registry.families
    parts = {f"{name}{part}" for name in families for part in ("", "_bucket", "_sum", "_count")}
    return parts | {rule["record"] for rule in rules() if "record" in rule}
