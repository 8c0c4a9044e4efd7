"""The JSON is what the code makes, Grafana's own schema reads it, and it is laid out well."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.build import FOLDER, texts
from tests.grafana.boards import Json, annotations, boards

COLUMNS = 24
BOARDS = boards()
PROVISIONING = FOLDER.with_name("provisioning")


def test_the_json_is_what_the_code_makes() -> None:
    kept = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert kept == texts(), "run `python -m grafana.build`"


@pytest.mark.parametrize("uid", BOARDS)
def test_the_schema_reads_every_field(uid: str) -> None:
    board = BOARDS[uid]
    read = json.loads(json.dumps(Dashboard.from_json(json.loads(json.dumps(board))), cls=JSONEncoder))
    # The texts of Prometheus' annotations are the data source's, which the schema knows nothing of.
    for annotation in annotations(board):
        assert [annotation.pop(name) for name in ("titleFormat", "step", "useValueForTime")]
    assert read == board


@pytest.mark.parametrize("uid", BOARDS)
def test_ids_are_unique(uid: str) -> None:
    ids = [panel["id"] for panel in BOARDS[uid]["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("uid", BOARDS)
def test_panels_neither_overlap_nor_leave_gaps(uid: str) -> None:
    for one, other in combinations(BOARDS[uid]["panels"], 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in BOARDS[uid]["panels"])
    for y in range(height):
        width = sum(
            panel["gridPos"]["w"]
            for panel in BOARDS[uid]["panels"]
            if panel["gridPos"]["y"] <= y < panel["gridPos"]["y"] + panel["gridPos"]["h"]
        )
        assert width == COLUMNS, f"line {y} is {width} wide"


@pytest.mark.parametrize("uid", BOARDS)
def test_a_repeated_row_is_the_last(uid: str) -> None:
    rows = [panel for panel in BOARDS[uid]["panels"] if panel["type"] == "row"]
    assert rows
    assert not any(row.get("repeat") for row in rows[:-1])


def test_provisioning_is_as_grafana_reads_it() -> None:
    [source] = _read("datasources/prometheus.yml")["datasources"]
    assert (source["type"], source["access"]) == ("prometheus", "proxy")
    assert source["jsonData"]["timeInterval"] == "15s"
    [provider] = _read("dashboards/r2-exporter.yml")["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/etc/grafana/")
    assert not provider["allowUiUpdates"]


def _read(path: str) -> Any:
    content = yaml.safe_load((PROVISIONING / Path(path)).read_text())
    assert content["apiVersion"] == 1
    return content


def _overlap(one: Json, other: Json) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or above)
