"""Writes the rules as a PrometheusRule for Prometheus Operator: `python -m rules.build`."""

from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).with_name("r2-exporter.yml")
RESOURCE = Path(__file__).with_name("prometheusrule.yaml")

HEADER = """\
# Made from r2-exporter.yml by `python -m rules.build`; change that file instead.
# Where the operator's ruleSelector asks for labels, add them to metadata.labels.
"""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are read best."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def resource() -> str:
    """The resource's text."""
    document: dict[str, Any] = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "r2-exporter", "labels": {"app.kubernetes.io/name": "r2-exporter"}},
        "spec": yaml.safe_load(RULES.read_text()),
    }
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=110)


def main() -> None:
    RESOURCE.write_text(resource())


if __name__ == "__main__":
    main()
