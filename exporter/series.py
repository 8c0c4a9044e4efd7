"""Counters, gauges and histograms of one label set each, and the text they are written as."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise
from math import inf
from typing import Protocol

from prometheus_client.utils import floatToGoString

Labels = list[tuple[str, str]]

EXEMPLAR_LIMIT = 128
"""Characters an exemplar's label names and values may have in sum (OpenMetrics 1.0.0)."""

_EXPONENT_FROM = 1_000_000  # from here on floatToGoString writes 1e+06
_number: Callable[[float], str] = floatToGoString


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

    def suffix(self, value: float) -> str:
        """What follows the sample's value on its line."""
        return f" # {{{_join(sorted(self.labels.items()))}}} {_number(value)} {self.timestamp}"


class Series(Protocol):
    """One label set of a family."""

    def text(self, fmt: Format, /) -> str: ...


class Counter:
    """A sum that only grows."""

    __slots__ = ("_changed", "_exemplar", "_head", "_value")

    def __init__(self, name: str, labels: Labels, changed: Callable[[], None]) -> None:
        self._head = f"{name}{_braced(labels)} "
        self._changed = changed
        self._value = 0.0
        self._exemplar = ""

    def inc(self, amount: float = 1.0, exemplar: Exemplar | None = None) -> None:
        """Add `amount`. Raises ValueError if it is negative."""
        if amount < 0:
            raise ValueError("a counter cannot go down")
        self._value += amount
        if exemplar:
            self._exemplar = exemplar.suffix(amount)
        self._changed()

    def text(self, fmt: Format, /) -> str:
        exemplar = self._exemplar if fmt is Format.OPENMETRICS else ""
        return f"{self._head}{_number(self._value)}{exemplar}\n"


class Gauge:
    """A value that goes up and down."""

    __slots__ = ("_changed", "_head", "_value")

    def __init__(self, name: str, labels: Labels, changed: Callable[[], None]) -> None:
        self._head = f"{name}{_braced(labels)} "
        self._changed = changed
        self._value = 0.0

    def set(self, value: float) -> None:
        self._value = value
        self._changed()

    def text(self, _fmt: Format, /) -> str:
        return f"{self._head}{_number(self._value)}\n"


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
        return cls(finite, tuple(f'le="{_number(edge)}"' for edge in (*finite, inf)))


class Histogram:
    """Observations counted by bucket, with their sum."""

    __slots__ = (
        "_after",
        "_before",
        "_buckets",
        "_changed",
        "_counts",
        "_exemplars",
        "_labels",
        "_name",
        "_sum",
    )

    def __init__(self, name: str, labels: Labels, changed: Callable[[], None], buckets: Buckets) -> None:
        # `le` takes its place in the alphabetical order of the labels.
        self._before = f"{name}_bucket{{" + "".join(f"{_join([p])}," for p in labels if p[0] < "le")
        self._after = "".join(f",{_join([p])}" for p in labels if p[0] > "le") + "} "
        self._name = name
        self._labels = _braced(labels)
        self._changed = changed
        self._buckets = buckets
        self._counts = [0] * len(buckets.labels)
        self._exemplars: list[str] = []
        self._sum = 0.0

    def observe(self, value: float, exemplar: Exemplar | None = None) -> None:
        """Count `value`, which must not be NaN, into the bucket it belongs to."""
        index = bisect_left(self._buckets.edges, value)
        self._counts[index] += 1
        self._sum += value
        if exemplar:
            if not self._exemplars:
                self._exemplars = [""] * len(self._counts)
            self._exemplars[index] = exemplar.suffix(value)
        self._changed()

    def text(self, fmt: Format, /) -> str:
        before, after, total = self._before, self._after, sum(self._counts)
        # A whole number below the exponent is its digits and ".0": a third of floatToGoString's time.
        counts: Iterable[int | str] = accumulate(self._counts)
        point = ".0"
        if total >= _EXPONENT_FROM:
            counts, point = map(_number, accumulate(self._counts)), ""
        if fmt is Format.OPENMETRICS and self._exemplars:
            rows = zip(self._buckets.labels, counts, self._exemplars, strict=True)
            lines = [f"{before}{le}{after}{count}{point}{exemplar}\n" for le, count, exemplar in rows]
        else:
            pairs = zip(self._buckets.labels, counts, strict=True)
            lines = [f"{before}{le}{after}{count}{point}\n" for le, count in pairs]
        lines.append(f"{self._name}_count{self._labels} {_number(total)}\n")
        lines.append(f"{self._name}_sum{self._labels} {_number(self._sum)}\n")
        return "".join(lines)


def escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _join(labels: Labels) -> str:
    return ",".join(f'{name}="{escape(value)}"' for name, value in labels)


def _braced(labels: Labels) -> str:
    return f"{{{_join(labels)}}}" if labels else ""
