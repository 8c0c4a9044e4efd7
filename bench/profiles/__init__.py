"""What a process spends its time on, as py-spy samples it.

    with profiled(pid, seconds) as profile: ...
    show(profile)

Samples are of the thread that holds the interpreter, so compression and SQLite's own work are not among
them. To take one, py-spy stops the process for a moment: its figures are then higher than without.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SAMPLES_PER_SECOND = 200
SHOWN = 15
NATIVE = "(outside Python)"

_FRAME = re.compile(r"(?P<function>.*) \((?P<path>[^()]*?)(?::\d+)?\)$")


@dataclass(frozen=True)
class Share:
    """Of all samples: those in it (`own`), and those in it or in what it called (`total`)."""

    name: str
    own: float
    total: float


Profile = list[tuple[list[str], int]]
"""Stacks, outermost frame first, and how often each was seen. Empty until the profiler has ended."""


@contextmanager
def profiled(pid: int, seconds: float) -> Iterator[Profile]:
    """Samples a process for so long, if at all; the context ends no sooner."""
    if not seconds:
        yield []
        return
    binary = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if binary is None:
        raise SystemExit("py-spy is missing: `make bench` installs it")
    found: Profile = []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "stacks"
        command = [
            binary,
            "record",
            "--pid",
            str(pid),
            "--duration",
            str(round(seconds)),
            "--function",
            "--gil",
        ]
        command += ["--rate", str(SAMPLES_PER_SECOND), "--format", "raw", "--output", str(output)]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield found
                _, said = process.communicate(timeout=seconds + 60)
            finally:
                process.kill()
        if process.returncode:
            raise SystemExit(f"py-spy failed: {said.strip()}")
        found += _stacks(output.read_text().splitlines())


def _stacks(lines: Iterable[str]) -> Iterator[tuple[list[str], int]]:
    for line in lines:
        stack, _, count = line.rpartition(" ")
        yield stack.split(";"), int(count)


def shares(profile: Profile, name: Callable[[str], str]) -> list[Share]:
    """By what `name` makes of a frame; the largest own share first."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack, count in profile:
        names = [name(frame) for frame in stack]
        own[names[-1]] += count
        total.update(dict.fromkeys(names, count))
    whole = max(1, sum(own.values()))
    found = [Share(each, own[each] / whole, total[each] / whole) for each in total]
    return sorted(found, key=lambda share: (-share.own, -share.total))


def module(frame: str) -> str:
    """`exporter.metrics` for a frame in .../exporter/metrics.py."""
    found = _FRAME.match(frame)
    if found is None:
        return NATIVE
    path = found["path"].removesuffix(".py").removesuffix("/__init__")
    return path.rpartition("site-packages/")[2].strip("/").replace("/", ".")


def function(frame: str) -> str:
    found = _FRAME.match(frame)
    return f"{module(frame)}: {found['function']}" if found else NATIVE


def show(profile: Profile) -> None:
    """Modules and functions by what they spend themselves; functions by what their callees spend as well."""
    functions = shares(profile, function)
    held = sum(count for _, count in profile) / SAMPLES_PER_SECOND
    print(f"    the interpreter was held for {held:.1f} s")
    _table("module", shares(profile, module))
    _table("function, by own", functions)
    whole = max((share.total for share in functions), default=0.0)
    inner = [share for share in functions if share.total < whole]  # not the way to the event loop
    _table("function, by total", sorted(inner, key=lambda share: -share.total))


def _table(head: str, listed: Sequence[Share]) -> None:
    print(f"    {'own':>7}{'total':>8}  {head}")
    for share in listed[:SHOWN]:
        print(f"    {share.own:>7.1%}{share.total:>8.1%}  {share.name}")
