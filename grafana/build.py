"""Writes the dashboards as the JSON that Grafana loads: `python -m grafana.build`."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.exporter import exporter
from grafana.overview import overview
from grafana.slo import slo
from grafana.target import target

FOLDER = Path(__file__).with_name("dashboards")


def texts() -> dict[str, str]:
    """Every dashboard's JSON by its file's name, written so that a small change is a small diff."""
    boards = [numbered(make().build()) for make in (overview, target, slo, exporter)]
    return {
        f"{board.uid}.json": json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for board in boards
    }


def numbered(board: Dashboard) -> Dashboard:
    """The dashboard with ids on its panels, which links to a single panel name."""
    for number, panel in enumerate(board.panels or (), start=1):
        panel.id_val = number
    return board


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
