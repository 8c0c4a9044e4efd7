"""How long to go on: `make soak` makes the attacks that the suite runs briefly many times as long."""

import os


def times(number: int) -> int:
    """So many, or R2_EXPORTER_SOAK times as many."""
    return round(number * float(os.environ.get("R2_EXPORTER_SOAK", "1")))
