"""Writes what deploy/ takes from elsewhere: `python -m deploy.build`.

Helm reads no file outside a chart: the rules, the dashboards and the configuration's schema are copied in.
The table of values in its README is made from values.yaml, and Alertmanager's routes in deploy/compose are
those of the example in rules/.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CHART = Path(__file__).parent / "helm" / "r2-exporter"
COMPOSE = Path(__file__).parent / "compose"
ROUTES = "global:\n", "receivers:\n"
"""What stands between these two is the example's; the receivers are the folder's own."""
BEGIN, END = "<!-- made from values.yaml -->\n", "<!-- end -->\n"
SAYS = "# -- "


def texts() -> dict[Path, str]:
    """Every file that is made, with its text."""
    copied = [ROOT / "rules" / "r2-exporter.yml", *sorted((ROOT / "grafana" / "dashboards").glob("*.json"))]
    readme, alertmanager = CHART / "README.md", COMPOSE / "alertmanager.yml"
    return {
        **{CHART / "files" / file.name: file.read_text() for file in copied},
        CHART / "values.schema.json": json.dumps(schema(), indent=2) + "\n",
        readme: between(readme.read_text(), BEGIN, END, table((CHART / "values.yaml").read_text())),
        alertmanager: between(alertmanager.read_text(), *ROUTES, routes()),
    }


def routes() -> str:
    """The example's routes and inhibitions."""
    example = (ROOT / "rules" / "alertmanager.yml").read_text()
    begin, end = ROUTES
    return example.partition(begin)[2].partition(end)[0]


def schema() -> dict[str, Any]:
    """The chart's own schema with that of exporter.yaml as `config`."""
    whole: dict[str, Any] = yaml.safe_load((CHART.parent / "values.schema.yaml").read_text())
    config = json.loads((ROOT / "exporter" / "config" / "exporter.schema.json").read_text())
    definitions = config.pop("$defs")
    del config["$schema"]
    # The chart's own values name no target; templates/_helpers.tpl says so with an example.
    del config["properties"]["targets"]["minItems"]
    whole["properties"]["config"] = _for_go(config)
    whole["$defs"] = {**_for_go(definitions), **whole["$defs"]}
    return whole


def _for_go(node: Any) -> Any:
    """Without patterns that look ahead: Go has none of them, and the exporter checks them itself."""
    if isinstance(node, list):
        return [_for_go(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _for_go(value) for key, value in node.items() if not (key == "pattern" and "(?" in value)}
    if patterns := kept.get("patternProperties"):
        kept["patternProperties"] = {".*" if "(?" in key else key: value for key, value in patterns.items()}
    return kept


def between(text: str, begin: str, end: str, new: str) -> str:
    """The text with `new` between two marks; raises ValueError if one is missing."""
    start = text.index(begin) + len(begin)
    return text[:start] + new + text[text.index(end, start) :]


def table(values: str) -> str:
    """A row for each value: those that a comment describes, and others that hold no further values."""
    root = yaml.compose(values, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError("values.yaml holds no mapping")
    rows = [
        f"| `{key}` | `{default}` | {text} |\n" for key, default, text in _rows(root, values.splitlines())
    ]
    return "| value | default | what it is |\n|---|---|---|\n" + "".join(rows)


def _rows(mapping: yaml.MappingNode, lines: list[str], above: str = "") -> Iterator[tuple[str, str, str]]:
    for name, value in mapping.value:
        key, text = f"{above}{name.value}", _described(lines, name.start_mark.line)
        if not text and isinstance(value, yaml.MappingNode) and value.value:
            yield from _rows(value, lines, f"{key}.")
        else:
            plain = yaml.load(yaml.serialize(value), yaml.SafeLoader)
            yield key, json.dumps(plain), text


def _described(lines: list[str], line: int) -> str:
    """The comment that ends right above `line`, from the mark that begins a description."""
    block: list[str] = []
    for above in reversed(lines[:line]):
        if not (comment := above.strip()).startswith("#"):
            break
        if comment.startswith(SAYS):
            return " ".join([comment.removeprefix(SAYS), *block])
        block.insert(0, re.sub(r"^#\s*", "", comment))
    return ""


def main() -> None:
    made = texts()
    (CHART / "files").mkdir(exist_ok=True)
    for old in (CHART / "files").iterdir():
        if old not in made:
            old.unlink()
    for file, text in made.items():
        file.write_text(text)


if __name__ == "__main__":
    main()
