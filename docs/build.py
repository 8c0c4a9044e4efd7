"""Writes the pages of docs/ that are made from the code: `python -m docs.build`."""

from pathlib import Path

from docs import alerts, configuration, metrics

FOLDER = Path(__file__).parent
PAGES = {"alerts.md": alerts.page, "configuration.md": configuration.page, "metrics.md": metrics.page}


def main() -> None:
    for name, page in PAGES.items():
        FOLDER.joinpath(name).write_text(page())


if __name__ == "__main__":
    main()
