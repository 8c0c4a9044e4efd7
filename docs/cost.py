"""What probing costs a month at R2's prices: `python docs/cost.py`, `--help` has its options.

https://developers.cloudflare.com/r2/pricing/ (standard storage; what the free tier takes off is left in)
"""

import argparse
from collections.abc import Iterable, Iterator

from exporter.app import SWEEP_INTERVAL
from exporter.config.values import parse_duration
from exporter.outcome import BillingClass, Operation
from exporter.probe import BILLING

DOLLARS_A_MILLION = {BillingClass.A: 4.50, BillingClass.B: 0.36, BillingClass.FREE: 0.0}
MONTH_SECONDS = 30 * 86400
INTERVALS = ("10s", "15s", "30s", "1m", "2m", "5m", "15m")
CHOICES = ("put,get,delete", "put,get,head,list,delete", "get,head,list", "get")


def requests(seconds: float, operations: Iterable[Operation]) -> dict[BillingClass, float]:
    """Requests a month of one target by billing class, the hourly sweep's included."""
    runs = MONTH_SECONDS / seconds
    counts = dict.fromkeys(BillingClass, 0.0)
    chosen = tuple(operations)
    for operation in chosen:
        counts[BILLING[operation]] += runs
    if Operation.PUT in chosen:
        counts[BillingClass.A] += MONTH_SECONDS / SWEEP_INTERVAL
    return counts


def dollars(counts: dict[BillingClass, float]) -> float:
    return sum(count * DOLLARS_A_MILLION[each] / 1e6 for each, count in counts.items())


def rows(intervals: Iterable[str], choices: Iterable[str], targets: int) -> Iterator[str]:
    """The table in Markdown."""
    yield "| operations | interval | class A a month | class B a month | dollars a month |"
    yield "|---|---|---:|---:|---:|"
    for choice in choices:
        operations = [Operation(name) for name in choice.split(",")]
        for interval in intervals:
            counts = requests(parse_duration(interval), operations)
            a, b = (targets * counts[each] for each in (BillingClass.A, BillingClass.B))
            named = choice.replace(",", ", ")
            yield f"| {named} | {interval} | {a:,.0f} | {b:,.0f} | {targets * dollars(counts):,.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--interval", action="append", help="such as 30s (repeatable)")
    parser.add_argument("--operations", action="append", help="such as put,get,delete (repeatable)")
    parser.add_argument("--targets", type=int, default=1, help="how many buckets (default: %(default)s)")
    options = parser.parse_args()
    for row in rows(options.interval or INTERVALS, options.operations or CHOICES, options.targets):
        print(row)  # noqa: T201 - a command answers on standard output


if __name__ == "__main__":
    main()
