"""The soak, so short that it only shows that all of it runs; `make soak` is the long form."""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.figures import MEBIBYTE, Sample, slope
from tests.soak.report import figures, remarks
from tests.soak.soak import Plan, soak

SECONDS = 6.0


async def test_nothing_grows(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """In both forms at once, since most of it is waiting."""
    seed = int(os.environ.get("R2_EXPORTER_SEED", random.randrange(1 << 32)))
    record_property("seed", seed)
    async with asyncio.TaskGroup() as tasks:
        under_way = []
        for form in ("python", "python -X dev"):
            (folder := tmp_path / form).mkdir()
            plan = Plan(SECONDS, 100.0, dev="dev" in form, seed=seed)
            under_way.append(tasks.create_task(soak(folder, plan, print)))
    for soaked in (each.result() for each in under_way):
        told = list(figures(soaked))
        assert all(figure.held for figure in told), "\n".join([*map(str, told), *remarks(soaked)])


def test_a_slope_is_told_from_a_flat_line() -> None:
    flat = [Sample(at, 100 * MEBIBYTE + at % 7 * 1000, 5) for at in range(0, 3600, 5)]
    leaking = [Sample(each.at, each.memory + int(each.at) * 5000, 5) for each in flat]
    assert abs(slope(flat)[0]) < MEBIBYTE / 10
    assert slope(leaking)[0] == pytest.approx(5000 * 3600, rel=0.01)
    assert slope(leaking)[1] == pytest.approx(5000 * 2700, rel=0.01)
