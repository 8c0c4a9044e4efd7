"""What a soak measures, and the bounds within which it is flat."""

import json
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MEBIBYTE = 1 << 20
HOUR = 3600.0

BAD = (
    *("Traceback", "unexpected", "never awaited", "never retrieved", "destroyed but it is pending"),
    *("logger=py.warnings", "ResourceWarning", "unclosed", "left behind", "exception was never"),
)
"""What no line of the log may hold."""

_SLOW = re.compile(r"Executing <.*> took ([0-9.]+) seconds")


@dataclass(frozen=True)
class Sample:
    """What the process had at that second: bytes of anonymous resident memory, and threads."""

    at: float
    memory: int
    threads: int


@dataclass(frozen=True)
class Inside:
    """What is alive in the exporter at a moment when nothing is under way.

    Bytes in use are those that the C library has given away; free are those that it keeps for what comes
    next, between the others. Python's own arenas, for objects of up to 512 bytes, are in neither.
    """

    descriptors: int
    tasks: dict[str, int]
    threads: list[str]
    objects: int
    in_use: int
    free: int
    types: dict[str, int]

    @property
    def all_tasks(self) -> int:
        return sum(self.tasks.values())

    def __str__(self) -> str:
        parts = f"{self.descriptors} descriptors", f"{self.all_tasks} tasks", f"{self.objects} objects"
        memory = f"{self.in_use / MEBIBYTE:.1f} MiB in use, {self.free / MEBIBYTE:.1f} free"
        return ", ".join([*parts, memory, f"threads {self.threads}"])

    @classmethod
    def of(cls, line: str, descriptors: int) -> "Inside":
        """From the line that tests/soak/inside.py writes."""
        return cls(descriptors, **json.loads(line.removeprefix("inside ")))


@dataclass(frozen=True)
class Figure:
    """One figure, and what it may come to at most; None if it is told for its own sake."""

    name: str
    value: float
    most: float | None = None
    least: float | None = None

    @property
    def held(self) -> bool:
        low = -float("inf") if self.least is None else self.least
        high = float("inf") if self.most is None else self.most
        return low <= self.value <= high

    def __str__(self) -> str:
        bounds = [
            *([f"at least {self.least:,g}"] if self.least is not None else []),
            *([f"at most {self.most:,g}"] if self.most is not None else []),
        ]
        verdict = "" if not bounds else "held" if self.held else "NOT HELD"
        value = f"{self.value:,.3f}".rstrip("0").rstrip(".")
        return f"{self.name:<52}{value:>14}  {', '.join(bounds):<22}{verdict}".rstrip()


def slope(samples: Sequence[Sample]) -> tuple[float, float]:
    """Bytes an hour by which memory grows, by least squares; and by how much it grew at the mean.

    The second compares the last quarter's median with the first's: one step does not tilt it.
    """
    line = statistics.linear_regression([s.at for s in samples], [s.memory for s in samples])
    quarter = max(1, len(samples) // 4)
    first, last = (
        statistics.median(s.memory for s in part) for part in (samples[:quarter], samples[-quarter:])
    )
    return line.slope * HOUR, last - first


def slow_steps(lines: Iterable[str]) -> list[float]:
    """Seconds of each step of the event loop that asyncio's debug mode found too long."""
    return [float(found[1]) for line in lines if (found := _SLOW.search(line))]


def bad_lines(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if any(word in line for word in BAD)]


def more(first: dict[str, int], last: dict[str, int]) -> dict[str, int]:
    """What there is more of now, the most first."""
    grown: dict[str, Any] = {name: last[name] - first.get(name, 0) for name in last}
    return {name: by for name, by in sorted(grown.items(), key=lambda each: -each[1]) if by > 0}
