"""What is wrong with a file: each problem with its place, and all of them as one exception."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_PROBLEMS = 100
"""Those that are told of a file; who has mended them will see the others."""

Path = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,59}")
_LONGEST_KEY = 60


def show_path(path: Path) -> str:
    """`("targets", 0, "probe", "interval")` as `targets[0].probe.interval`."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            shown += f".{step}" if shown else step
        else:
            key = step if len(step) <= _LONGEST_KEY else step[:_LONGEST_KEY] + "..."
            shown += f"[{json.dumps(key)}]"
    return shown


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: `path` as people write it ("" for the whole file), `line` counted from 1."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.described}" if self.line else self.described

    @property
    def described(self) -> str:
        """The path and the message, without the line."""
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(Exception):
    """A file that cannot be used; holds the problems found, in the order of the lines."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        found = sorted(dict.fromkeys(problems), key=lambda p: (p.line or 0, p.path, p.message))
        if len(found) > MAX_PROBLEMS:
            message = f"{len(found) - MAX_PROBLEMS} more problems are not shown"
            found[MAX_PROBLEMS:] = [Problem("", None, message)]
        self.source = source
        self.problems = tuple(found)
        super().__init__(source, self.problems)

    def __str__(self) -> str:
        places = (f"{self.source}:{p.line}" if p.line else self.source for p in self.problems)
        return "\n".join(f"{place}: {p.described}" for place, p in zip(places, self.problems, strict=True))
