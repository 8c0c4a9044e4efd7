"""Every dashboard keeps the rules, and the rules find what breaks them."""

import copy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.grafana.boards import Json, boards, filled, label_values, panels, queries, variables
from tests.grafana.linter import problems

BOARDS = boards()
ANY = dict.fromkeys(("__rate_interval", "__interval", "__range", "window"), "5m") | {"top": "10"}
MATCHERS = dict.fromkeys(("job", "target", "operation", "instance"), ".+")


@pytest.mark.parametrize("uid", BOARDS)
def test_no_problems(uid: str) -> None:
    assert problems(BOARDS[uid], set(BOARDS)) == []


def test_they_are_the_four_and_each_has_its_variables() -> None:
    assert set(BOARDS) == {"r2-overview", "r2-target", "r2-slo", "r2-exporter"}
    for uid in ("r2-overview", "r2-target", "r2-slo"):
        assert {"datasource", "job", "target", "operation"} <= set(variables(BOARDS[uid]))
    assert not variables(BOARDS["r2-target"])["target"]["multi"]


def test_every_query_is_promql(tmp_path: Path) -> None:
    tool = shutil.which("promtool")
    assert tool, "promtool is not installed: `make test` installs it"
    expressions = [
        filled(asked.expr, ANY | MATCHERS) for board in BOARDS.values() for asked in queries(board)
    ]
    for board in BOARDS.values():
        asked = (each["query"] for each in variables(board).values() if each["type"] == "query")
        expressions += [filled(label_values(query)[0], ANY | MATCHERS) for query in asked]
    rules = [{"record": f"r{number}", "expr": expr} for number, expr in enumerate(expressions)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    done = subprocess.run([tool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


# --- the rules themselves ---


def _first(board: Json, kind: str = "timeseries") -> Json:
    return next(panel for panel in panels(board) if panel["type"] == kind)


def _break_query(old: str, new: str) -> Callable[[Json], None]:
    def breaking(board: Json) -> None:
        targets = [target for panel in panels(board) for target in panel["targets"] if old in target["expr"]]
        targets[0]["expr"] = targets[0]["expr"].replace(old, new)

    return breaking


BROKEN: dict[str, Callable[[Json], None]] = {
    "can be edited": lambda board: board.update(editable=True),
    "no refresh": lambda board: board.update(refresh=""),
    "does not have": lambda board: _first(board).update(title="$cluster"),
    "nothing uses": lambda board: variables(board)["top"].update(name="most"),
    "exactly one data source": lambda board: variables(board)["datasource"].update(query="loki"),
    "no variable job": lambda board: variables(board)["job"].update(allValue=".*"),
    "no label": lambda board: variables(board)["target"].update(label=""),
    "holds values": lambda board: variables(board)["target"].update(query="label_values(up, instance)"),
    "depend on the job": lambda board: variables(board)["target"].update(query="label_values(up, target)"),
    "not asked again": lambda board: variables(board)["target"].update(refresh=1),
    "lead to the other": lambda board: board["links"][0].update(keepTime=False),
    "not there": lambda board: _first(board, "table").update(links=[{"url": "/d/r2-nowhere"}]),
    "no description": lambda board: _first(board).update(description=""),
    "data source of its own": lambda board: _first(board).update(datasource={"uid": "P1809F7CD0C75ACF3"}),
    "asks nothing": lambda board: _first(board).update(targets=[]),
    "unknown unit": lambda board: _first(board)["fieldConfig"]["defaults"].update(unit="seconds"),
    "no unit": lambda board: _first(board)["fieldConfig"]["defaults"].pop("unit"),
    "no thresholds": lambda board: _first(board)["fieldConfig"]["defaults"].pop("thresholds"),
    "names for its values": lambda board: _first(board)["fieldConfig"]["defaults"].update(unit="none"),
    "each target": lambda board: _first(board).update(repeat="target"),
    "without pages": lambda board: _first(board, "table")["options"]["footer"].update(enablePagination=False),
    "have no name": lambda board: _first(board)["targets"][0].update(legendFormat=""),
    "without matchers": _break_query('{job=~"$job",target=~"$target"}', ""),
    "chosen job": _break_query('job=~"$job",', ""),
    "chosen targets": _break_query('target=~"$target",', ""),
    "neither a rate": _break_query("rate(", "delta("),
    "not over $__rate_interval": _break_query("[$__rate_interval]", "[5m]"),
    "range of its own": _break_query("[$__range]", "[17m]"),
    "other targets": _break_query(" @ end()", ""),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_the_linter_finds(problem: str) -> None:
    board = copy.deepcopy(BOARDS["r2-overview"])
    BROKEN[problem](board)
    assert any(problem in found for found in problems(board, set(BOARDS))), problems(board, set(BOARDS))
