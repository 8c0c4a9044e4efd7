"""Every target has one shard, a new shard takes no more than its part, and no release moves a target."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Settings, TargetSettings
from exporter.shard import Shard, ordinal, shard_of

NAMES = st.text(min_size=1, max_size=128)


@given(NAMES, st.integers(1, 200))
def test_every_target_has_exactly_one_shard(name: str, total: int) -> None:
    assert [Shard(number, total).has(name) for number in range(total)].count(True) == 1


@given(NAMES, st.integers(1, 200))
def test_another_shard_moves_a_target_to_itself_or_not_at_all(name: str, total: int) -> None:
    assert shard_of(name, total + 1) in (shard_of(name, total), total)


@pytest.mark.parametrize("total", [2, 3, 4, 7, 10])
def test_shards_are_even_and_a_new_one_takes_its_part(total: int) -> None:
    names = [f"target-{number:05d}" for number in range(20_000)]
    counts = Counter(shard_of(name, total) for name in names)
    assert all(abs(counts[number] - 20_000 / total) < 0.1 * 20_000 / total for number in range(total))
    moved = sum(shard_of(name, total) != shard_of(name, total + 1) for name in names)
    assert abs(moved - 20_000 / (total + 1)) < 0.1 * 20_000 / (total + 1)


def test_no_release_moves_a_target() -> None:
    """These are the numbers of the first release that had shards."""
    names = ["media", "backups", "logs", "ünïcode", "a b"]
    for total, shards in {
        1: [0, 0, 0, 0, 0],
        2: [1, 1, 1, 1, 1],
        3: [1, 1, 2, 1, 2],
        10: [5, 7, 4, 6, 4],
    }.items():
        assert [shard_of(name, total) for name in names] == shards


@pytest.mark.parametrize(
    ("number", "total", "words"),
    [(0, 0, "cannot be 0 shards"), (2, 2, "no shard 2 of 2: from 0 to 1"), (-1, 3, "no shard -1 of 3")],
)
def test_a_shard_that_is_none_is_refused(number: int, total: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Shard(number, total)


@pytest.mark.parametrize(
    ("host_name", "number"),
    [("r2-exporter-0", 0), ("r2-exporter-12", 12), ("r2-exporter-3.r2.monitoring", 3)],
)
def test_the_number_of_a_pod(host_name: str, number: int) -> None:
    assert ordinal(host_name) == number


@pytest.mark.parametrize("host_name", ["", "laptop", "r2-exporter-7f9c6d", "r2-exporter-", "a-²"])
def test_another_host_has_none(host_name: str) -> None:
    with pytest.raises(ValueError, match="StatefulSet"):
        ordinal(host_name)


def test_the_parts_of_a_configuration_are_the_whole() -> None:
    targets = tuple(
        TargetSettings(name=f"t{number}", endpoint="https://s3.example.org", bucket="media")
        for number in range(9)
    )
    whole = Settings(targets=targets)
    parts = [Shard(number, 3).part_of(whole).targets for number in range(3)]
    assert sorted(target.name for part in parts for target in part) == [target.name for target in targets]
    assert Shard().part_of(whole) is whole
