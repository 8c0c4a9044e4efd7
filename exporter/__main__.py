"""Where `r2-exporter` and `python -m exporter` begin."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """What `exporter.cli` does; Ctrl-C may come before that is there."""
    try:
        from exporter.cli import main as run  # noqa: PLC0415  it takes a third of a second
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
