"""Soak the exporter, and say whether anything of it grows.

    python -m tests.soak [--seconds 5400] [--rate 200] [--dev] [--seed N] [--log FILE]

Each figure stands with its bound; the exit status is 1 if one is not held, or something went wrong before.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.report import figures, remarks
from tests.soak.soak import Plan, soak


def main() -> int:
    parser = argparse.ArgumentParser(description="Soak the exporter, and say whether anything of it grows.")
    parser.add_argument("--seconds", type=float, default=5400.0, help="a third fills, at most 1800")
    parser.add_argument("--rate", type=float, default=200.0, help="operations a second")
    parser.add_argument("--dev", action="store_true", help="under `python -X dev`")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--log", type=Path, help="also write what the exporter logged to this file")
    arguments = parser.parse_args()
    plan = Plan(arguments.seconds, arguments.rate, arguments.dev, arguments.seed)
    form = "python -X dev" if plan.dev else "python"
    with tempfile.TemporaryDirectory(prefix="r2-exporter-soak-") as folder:
        soaked = asyncio.run(soak(Path(folder), plan, lambda line: print(f"{form}: {line}", flush=True)))
    if arguments.log:
        arguments.log.write_text("".join(f"{line}\n" for line in soaked.soak.exporter.lines))
    told = list(figures(soaked))
    print(f"== {form}, {plan.seconds:,g} s", *told, *remarks(soaked), sep="\n", flush=True)
    return 0 if all(figure.held for figure in told) else 1


if __name__ == "__main__":
    sys.exit(main())
