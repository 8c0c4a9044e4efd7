"""Durations (seconds) counted by bucket, as densely as a row of the history holds them. Pure."""

import math
from array import array
from collections.abc import Iterable, Sequence
from operator import add

BUCKETS_PER_DOUBLING = 16
"""A quantile is off by at most 2.2 %: half of a bucket that is 2^(1/16) wide, in the logarithm."""

SHORTEST = 1e-6
"""Durations below a microsecond count as one."""

_COUNT = "Q"
_BYTES = array(_COUNT).itemsize


def bucket_of(duration: float) -> int:
    """The bucket n with 2^((n-1)/16) < duration <= 2^(n/16)."""
    return math.ceil(math.log2(max(duration, SHORTEST)) * BUCKETS_PER_DOUBLING)


class Histogram:
    """The counts from the first bucket that has one to the last.

    There are two for each operation of each target, for as long as it is probed: a dict would take ten times
    the memory, and go on growing for hours.
    """

    __slots__ = ("_counts", "_first")

    def __init__(self, first: int = 0, counts: Iterable[int] = ()) -> None:
        self._first = first
        self._counts = array(_COUNT, counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.row() == other.row()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Histogram({self._first}, {self._counts.tolist()})"

    def observe(self, duration: float) -> None:
        bucket = bucket_of(duration)
        self._cover(bucket, bucket + 1)
        self._counts[bucket - self._first] += 1

    def add(self, first: int, counts: Sequence[int]) -> None:
        """Adds the counts of the buckets from `first` on."""
        if counts:
            self._cover(first, first + len(counts))
            begin = first - self._first
            end = begin + len(counts)
            self._counts[begin:end] = array(_COUNT, map(add, self._counts[begin:end], counts))

    def merge(self, other: "Histogram") -> None:
        self.add(other._first, other._counts)

    def row(self) -> list[int]:
        """The first bucket, its count, that of the next, and so on."""
        return [self._first, *self._counts]

    def quantile(self, q: float) -> float:
        """The duration that the share `q` did not exceed; NaN without any.

        It is the geometric middle of its bucket, as Prometheus' histogram_quantile takes it for native
        histograms of this scheme.
        """
        rank = math.ceil(q * sum(self._counts)) or 1
        for bucket, count in enumerate(self._counts, self._first):
            rank -= count
            if rank <= 0:
                return math.pow(2.0, (bucket - 0.5) / BUCKETS_PER_DOUBLING)
        return math.nan

    def _cover(self, first: int, end: int) -> None:
        """Makes room for the buckets from `first` until before `end`."""
        if not self._counts:
            self._first = first
        if first < self._first:
            self._counts = array(_COUNT, bytes(_BYTES * (self._first - first))) + self._counts
            self._first = first
        missing = end - self._first - len(self._counts)
        if missing > 0:
            self._counts.frombytes(bytes(_BYTES * missing))
