"""Counters, gauges and histograms of one label set each, and the text they are written as."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import inf

from exporter.blocks import Block, go_number

Labels = list[tuple[str, str]]

EXEMPLAR_LIMIT = 128
"""Characters an exemplar's label names and values may have in sum (OpenMetrics 1.0.0)."""


class Format(StrEnum):
    """The two text formats a scrape can ask for."""

    TEXT = "text/plain; version=0.0.4"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True, slots=True)
class Exemplar:
    """What to look up about one observation: labels such as a request id, and Unix time in seconds.

    Raises ValueError when the labels are longer than OpenMetrics allows.
    """

    labels: Mapping[str, str]
    timestamp: float

    def __post_init__(self) -> None:
        length = sum(len(name) + len(value) for name, value in self.labels.items())
        if length > EXEMPLAR_LIMIT:
            raise ValueError(f"exemplar labels have {length} characters, the limit is {EXEMPLAR_LIMIT}")

    def suffix(self, value: float) -> bytes:
        """What follows the sample's value on its line."""
        number, labels = go_number(value), _join(sorted(self.labels.items()))
        return f" # {{{labels}}} {number} {self.timestamp}".encode(errors="replace")


class Counter:
    """A sum that only grows. For use at once, as are the others: its place may be another's later."""

    __slots__ = ("_block", "_place")

    def __init__(self, block: Block, place: int) -> None:
        self._block = block
        self._place = place

    def inc(self, amount: float = 1.0, exemplar: Exemplar | None = None) -> None:
        """Add `amount`. Raises ValueError if it is negative."""
        if amount < 0:
            raise ValueError("a counter cannot go down")
        self._block.values[self._place] += amount
        if exemplar:
            self._block.exemplify(self._place, exemplar.suffix(amount))


class Gauge:
    """A value that goes up and down."""

    __slots__ = ("_block", "_place")

    def __init__(self, block: Block, place: int) -> None:
        self._block = block
        self._place = place

    def set(self, value: float) -> None:
        self._block.values[self._place] = value or 0.0  # not -0.0: it is the same number


@dataclass(frozen=True, slots=True)
class Buckets:
    """The finite upper edges of a histogram's buckets, rising; `+Inf` is added."""

    edges: tuple[float, ...]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, edges: Iterable[float]) -> "Buckets":
        """Raises ValueError unless the edges rise strictly from above zero."""
        finite = tuple(edges)
        if not finite or not all(low < high for low, high in pairwise((0.0, *finite, inf))):
            raise ValueError("bucket edges must rise strictly from above zero")
        return cls(finite, tuple(f'le="{go_number(edge)}"' for edge in (*finite, inf)))


class Histogram:
    """Observations counted by bucket, with their sum.

    Its values are the lines of its text: the count of each bucket and those below it, then of all, then
    the sum.
    """

    __slots__ = ("_block", "_edges", "_place")

    def __init__(self, edges: Sequence[float], block: Block, place: int) -> None:
        self._block = block
        self._place = place
        self._edges = edges

    def observe(self, value: float, exemplar: Exemplar | None = None) -> None:
        """Count `value`, which must not be NaN, into the bucket it belongs to and all above."""
        values, bucket = self._block.values, self._place + bisect_left(self._edges, value)
        total = self._place + len(self._edges) + 2
        changed = [count + 1 for count in values[bucket:total]]
        changed.append(values[total] + value)
        values[bucket : total + 1] = array("d", changed)  # at once: a page may be rendered in another thread
        if exemplar:
            self._block.exemplify(bucket, exemplar.suffix(value))


def simple_heads(name: str, labels: Labels) -> list[str]:
    """What stands before the value of a counter or a gauge. Values of labels must be escaped."""
    return [f"{name}{_braced(labels)} "]


def histogram_heads(name: str, buckets: Buckets, labels: Labels) -> list[str]:
    """The same for each value of a histogram."""
    # `le` takes its place in the alphabetical order of the labels.
    before = "".join(f"{_pair(*label)}," for label in labels if label[0] < "le")
    after = "".join(f",{_pair(*label)}" for label in labels if label[0] > "le")
    lines = [f"{name}_bucket{{{before}{le}{after}}} " for le in buckets.labels]
    return [*lines, f"{name}_count{_braced(labels)} ", f"{name}_sum{_braced(labels)} "]


def escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _join(labels: Labels) -> str:
    return ",".join(_pair(name, escape(value)) for name, value in labels)


def _braced(labels: Labels) -> str:
    return f"{{{','.join(_pair(*label) for label in labels)}}}" if labels else ""


def _pair(name: str, value: str) -> str:
    return f'{name}="{value}"'
