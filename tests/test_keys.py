"""The keys we write and delete: every one of ours is known again, and no other."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from exporter.keys import ProbeKey, instance_slug, leftovers, new_key, parse_key
from tests.stores import PREFIX, key_at, near_misses

# Unix seconds from 1970 to the end of the year 9999, as far as four digits of a year go.
moments = st.floats(0, 253_402_300_799)
prefixes = st.from_regex(r"[A-Za-z0-9!_.*'()-]{1,20}/([A-Za-z0-9!_.*'()-]{1,20}/)?", fullmatch=True)
SHAPE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*/[0-9]{8}T[0-9]{6}Z-[0-9a-f]{32}", re.ASCII)


def is_shaped_like_ours(prefix: str, key: str) -> bool:
    """Our pattern, told a second time and in other words than the program's."""
    rest = key.removeprefix(prefix)
    return key.startswith(prefix) and SHAPE.fullmatch(rest) is not None and len(rest.partition("/")[0]) <= 63


@given(prefixes, st.text(), moments)
@example(PREFIX, "x" * 62 + "--y", 0.0)
@example(PREFIX, "\u0130stanbul \u212a", 0.0)  # lower() of both gives ASCII letters
def test_every_new_key_is_known_as_ours(prefix: str, instance: str, now: float) -> None:
    key = new_key(prefix, instance, now)
    assert parse_key(prefix, str(key)) == key
    assert is_shaped_like_ours(prefix, str(key))
    assert key.created_at <= now < key.created_at + 1


@given(st.text())
def test_no_other_text_is_ours(text: str) -> None:
    assert parse_key(PREFIX, text) is None
    assert parse_key(PREFIX, PREFIX + text) is None


@given(near_misses())
def test_nothing_that_resembles_a_key_of_ours_is_ours(key: str) -> None:
    assert parse_key(PREFIX, key) is None


@given(st.from_regex(r"\.r2-exporter/[\w.-]*/\d{8}T\d{6}Z-[0-9a-f]{32}\s?", fullmatch=True))
def test_whatever_is_taken_for_ours_has_our_shape_and_could_have_been_made_by_us(key: str) -> None:
    ours = parse_key(PREFIX, key)
    if ours is not None:
        assert is_shaped_like_ours(PREFIX, key)
        assert str(ours) == key
        assert instance_slug(ours.instance) == ours.instance


@given(st.data(), st.text(max_size=10), moments)
def test_a_key_of_ours_with_one_character_changed_is_never_mistaken_for_the_same(
    data: st.DataObject, instance: str, now: float
) -> None:
    key = str(new_key(PREFIX, instance, now))
    at = data.draw(st.integers(0, len(key) - 1))
    other = data.draw(st.characters().filter(lambda char: char != key[at]))
    changed = key[:at] + other + key[at + 1 :]
    found = parse_key(PREFIX, changed)
    assert found is None or (str(found) == changed and is_shaped_like_ours(PREFIX, changed))
    for other_length in (key[:at] + key[at + 1 :], key[:at] + other + key[at:]):
        known = parse_key(PREFIX, other_length)
        assert known is None or known.nonce == key[-32:]  # the instance's name may be any length


@given(prefixes, prefixes)
def test_a_key_under_another_prefix_is_not_ours(mine: str, theirs: str) -> None:
    key = str(new_key(theirs, "here", 0.0))
    assert (parse_key(mine, key) is None) == (mine != theirs)


@given(st.lists(st.tuples(st.integers(-10_000, 10_000), near_misses())), st.integers(1, 7200))
def test_leftovers_are_ours_and_old_enough(listed: list[tuple[int, str]], min_age: int) -> None:
    now = 1_800_000_000.5
    ages = {key_at(now - age): age for age, _ in listed}
    foreign = [key for _, key in listed]
    keys = [key for pair in zip(ages, foreign, strict=False) for key in pair] + list(ages)[len(foreign) :]
    found = leftovers(PREFIX, keys, now, float(min_age))
    assert all(isinstance(key, ProbeKey) for key in found)
    assert [str(key) for key in found] == [key for key, age in ages.items() if age >= min_age]


def test_no_two_keys_are_equal() -> None:
    keys = [new_key(PREFIX, "here", 0.0) for _ in range(10_000)]
    assert len({str(key) for key in keys}) == len({key.nonce for key in keys}) == len(keys)


@given(st.text())
def test_a_slug_is_short_plain_and_stable(name: str) -> None:
    slug = instance_slug(name)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug, re.ASCII)
    assert len(slug) <= 63
    assert instance_slug(slug) == slug


def test_slugs_of_common_names() -> None:
    assert instance_slug("Web-01.example.org") == "web-01-example-org"
    assert instance_slug("__") == instance_slug("") == "exporter"
    assert instance_slug("a" * 62 + ".b") == "a" * 62
