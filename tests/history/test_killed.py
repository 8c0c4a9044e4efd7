"""A kill -9 takes nothing that was announced, and no result older than a second; bench/kills.py does more."""

import random
from pathlib import Path

from bench.kills import GOAL_SECONDS, kills

KILLS = 5


def test_a_kill_takes_nothing_that_was_announced(path: Path) -> None:
    killed = list(kills(path, KILLS, random.Random()))
    assert len(killed) == KILLS
    assert sum(one.recorded for one in killed) > 100
    assert sum(one.announced for one in killed) > 10
    for one in killed:
        assert one.whole, one
        assert one.announced_lost == 0, one
        assert one.lost_seconds <= GOAL_SECONDS, one
