"""Where `r2-exporter` and `python -m exporter` begin."""

import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """What `exporter.cli` does; a signal may come before that is there."""
    # The first process of a container has no default: SIGTERM would be lost until it serves.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    try:
        from exporter.cli import main as run  # noqa: PLC0415  it takes a third of a second
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
