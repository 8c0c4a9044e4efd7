"""The YAML reader: plain text with positions, every mistake at its line, no word of a secret."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field

from exporter.config.document import ConfigError, Document, Problem, Section, load_model, read_text
from exporter.config.values import Duration, Secret


class Inner(Section):
    interval: Duration = 30.0
    retries: int = 3


class Outer(Section):
    name: str
    inner: Inner = Inner()
    hosts: tuple[str, ...] = ()
    weights: dict[str, float] = Field(default_factory=dict)
    items: tuple[Inner, ...] = ()
    enabled: bool = True
    password: Secret | None = None


def load(text: str, env: Mapping[str, str] | None = None) -> Outer:
    return load_model(Outer, "outer.yaml", text, env or {})


def problems(text: str, env: Mapping[str, str] | None = None) -> list[tuple[int | None, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(text, env)
    return [(p.line, p.path, p.message) for p in caught.value.problems]


def data(text: str, env: Mapping[str, str] | None = None) -> Any:
    document = Document.parse("outer.yaml", text, env or {})
    assert document.problems == ()
    return document.data


def test_scalars_stay_text() -> None:
    assert data("a: 0123e45\nb: on\nc: 1_000\nd: 2020-01-01\ne: '~'\nf: ~\ng:\nh: ''") == {
        "a": "0123e45",
        "b": "on",
        "c": "1_000",
        "d": "2020-01-01",
        "e": "~",
        "f": None,
        "g": None,
        "h": "",
    }


def test_the_model_gives_types_and_empty_keys_their_defaults() -> None:
    outer = load("name: 007\ninner:\nenabled: off\nweights: {a: 1.5}\nitems:\n- interval: 1m\n- {}\n")
    assert (outer.name, outer.inner, outer.enabled, outer.weights) == ("007", Inner(), False, {"a": 1.5})
    assert [item.interval for item in outer.items] == [60.0, 30.0]


def test_every_mistake_at_once_with_its_line() -> None:
    text = """\
inner:
  intervall: 5s
  interval: 5 sec
  retries: [1]
hosts: one
weights:
  a: heavy
items:
  - interval: 1s
  - retries: many
retries: 3
nonsense:
"""
    assert problems(text) == [
        (1, "name", "is required"),
        (2, "inner.intervall", 'unknown key; did you mean "interval"?'),
        (3, "inner.interval", 'expected a duration such as 30s or 1h30m, got "5 sec"'),
        (4, "inner.retries", "expected a whole number, got a list"),
        (5, "hosts", "expected a list, got text"),
        (7, "weights.a", 'expected a number, got "heavy"'),
        (10, "items[1].retries", 'expected a whole number, got "many"'),
        (11, "retries", 'unknown key; did you mean "retries" under "inner"?'),
        (
            12,
            "nonsense",
            "unknown key; known here: name, inner, hosts, weights, items, enabled, password",
        ),
    ]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("false", "got false; write {enabled: false}"),
        ("'No'", "got No; write {enabled: false}"),
        ("on", "got on; write {enabled: true}"),
        ("0", "got 0; write {enabled: false}"),
        ("12", "got a number"),
        ("-1.5e3", "got a number"),
        ("nan", "got text"),
        ("off-hand", "got text"),
        ("7h", "got text"),
        ("[false]", "got a list"),
        ("${FLAG}", "got text"),
    ],
)
def test_what_stands_in_the_place_of_a_section(written: str, words: str) -> None:
    class Switched(Section):
        enabled: bool = True

    class Whole(Section):
        breaker: Switched = Switched()
        history: Inner | None = None

    with pytest.raises(ConfigError) as caught:
        load_model(Whole, "whole.yaml", f"breaker: {written}\nhistory: {written}\n", {"FLAG": "false"})
    breaker, history = caught.value.problems
    assert breaker.message == f"expected a mapping of keys to values, {words}"
    assert history.message == f"expected a mapping of keys to values, {words.partition(';')[0]}"


def test_how_errors_read() -> None:
    with pytest.raises(ConfigError) as caught:
        load("inner: {intervall: 5s}\n")
    error = caught.value
    assert str(error).splitlines() == [
        'outer.yaml:1: inner.intervall: unknown key; did you mean "interval"?',
        "outer.yaml:1: name: is required",
    ]
    assert str(error.problems[0]) == 'line 1: inner.intervall: unknown key; did you mean "interval"?'
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(ConfigError("x.yaml", [Problem("", None, "is empty")])) == "x.yaml: is empty"


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("name: a\nname: b", 2, "twice, first in line 1"),
        ("name: a\n? [x]\n: b", 2, "plain text"),
        ("name: a\n~: b", 2, "plain text"),
        ("name: a\nhosts: &a [*a]", 2, "inside the value"),
        ("name: a\nhosts: *a", 2, "without its anchor"),
        ("name: &a a\nhosts: [&a b]", 2, "exists already"),
        ("name: !!str a", 1, "tags"),
        ("name: !env a", 1, "tags"),
        ("name: !e!nv a", 1, "tag handle"),
        ("name: a\n---\nname: b", 2, "second document"),
        ("name: a\n\tinner: b", 2, "use spaces"),
        ("name: a\nhosts: [", 2, "not valid YAML"),
        ("name: a\nhosts: @b", 2, "quotes"),
        ("name: a: b", 1, "not valid YAML"),
        ('name: "\\UFFFFFFFF"', 1, "not valid YAML"),
        ('name: "a\\0b"', 1, "control characters"),
        ("name: a\nhosts: \0", 2, "U+0000"),
        ("name: \ud800", 1, "U+D800"),
        ("name: a\nhosts: " + "[" * 5000, 2, "nest"),  # libyaml may say it before we do
        ("name: a\n<<: b", 2, "<< takes"),
        ("- a", 1, "expected a mapping"),
        ("a", 1, "expected a mapping"),
        ("name: " + "a" * (5 << 20), 1, "larger than"),
    ],
)
def test_what_has_no_place_in_a_file(text: str, line: int, word: str) -> None:
    found = problems(text)
    assert [message for at, _, message in found if at == line and word in message], found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("inner: {interval: ${A}, retries: 1}", 1),
        ("hosts: [a, x${A}]", 1),
        ("name: a\ninner: {\n  interval: 1s,\n  retries: ${A}\n}", 4),
        ("hosts: [a,\n  $${A}]", 2),
        ("hosts: [a, ${A", 1),
        ("name: \u00e9\U0001f600\r\nhosts: [${A}]", 2),
    ],
)
def test_a_variable_between_braces_needs_quotes(text: str, line: int) -> None:
    ((at, _, message),) = problems(text, {"A": "1s"})
    assert at == line
    assert message.startswith('not valid YAML: ${NAME} inside {} or [] needs quotes: "${NAME}"')


@pytest.mark.parametrize("text", ["inner: {a: b c: ${A}}", "hosts: [{a b", "name: ${A}: b", "hosts: [$ {a}]"])
def test_other_braces_have_words_of_their_own(text: str) -> None:
    ((_, _, message),) = problems(text, {"A": "1s"})
    assert message.startswith("not valid YAML: ")
    assert "quotes" not in message


def test_a_variable_in_quotes_between_braces() -> None:
    text = "name: ${A}\nhosts: [\"${A}\", '${A}']"
    assert data(text, {"A": "a"}) == {"name": "a", "hosts": ["a", "a"]}


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    ((_, _, message),) = problems("\n".join(lines))
    assert message == "too many or too deeply nested values, once aliases (*) are followed"


def test_a_merge_bomb_and_a_merge_chain_are_refused() -> None:
    bomb = ["a0: &a0 {x: y}"] + [
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)
    ]
    chain = ["a0: &a0 {x: y}"] + [f"a{n}: &a{n} {{<<: *a{n - 1}}}" for n in range(1, 5000)]
    for lines in (bomb, chain):
        ((_, _, message),) = problems("\n".join(lines))
        assert "aliases" in message


def test_anchors_and_merge_keys() -> None:
    text = """\
inner: &slow {interval: 1m, retries: 1}
items:
  - *slow
  - <<: *slow
    retries: 2
  - <<: [{retries: 7}, *slow]
name: a
"""
    assert [(i.interval, i.retries) for i in load(text).items] == [(60.0, 1), (60.0, 2), (60.0, 7)]


def test_a_merged_mistake_is_reported_where_it_stands() -> None:
    found = problems("name: a\ninner: &x\n  retries: many\nitems:\n- <<: *x\n")
    assert [(line, path) for line, path, _ in found] == [(3, "inner.retries"), (3, "items[0].retries")]


def test_variables() -> None:
    env = {"A": "x: [y", "EMPTY": ""}
    assert data("a: ${A}-${A}\nb: '${EMPTY}'\nc: $${A}\nd: $A $ {A} $$\n${A}: e", env) == {
        "a": "x: [y-x: [y",
        "b": "",
        "c": "${A}",
        "d": "$A $ {A} $$",
        "${A}": "e",
    }


def test_variables_that_cannot_be_replaced() -> None:
    assert problems(
        "name: ${NO}\nhosts: ['${}', '${1}', '${A']\ninner: {retries: '${NO_2}'}", {"A": "a"}
    ) == [
        (1, "name", "the environment variable NO is not set"),
        (2, "hosts[0]", "expected ${NAME}; write $${ for a literal ${"),
        (2, "hosts[1]", "expected ${NAME}; write $${ for a literal ${"),
        (2, "hosts[2]", "expected ${NAME}; write $${ for a literal ${"),
        (3, "inner.retries", "the environment variable NO_2 is not set"),
    ]


def test_control_characters_from_a_variable() -> None:
    assert problems("name: ${A}", {"A": "a\x1bb"}) == [(1, "name", "the value holds control characters")]


MARK = "h" + "unter2" * 3
POSITIONS = [
    "name: {}",
    "password: [{}]",
    "password: {{a: {}}}",
    "name: a\npassword: {}\nnone: {}",
    "inner: {}",
    "inner: {{interval: {}, retries: {}, none: {}}}",
    "hosts: {}",
    "hosts: [a, {{b: {}}}]",
    "weights: {{a: {}}}",
    "enabled: {}",
    "items: [{}]",
    "- {}",
    "{}",
]


@pytest.mark.parametrize("position", POSITIONS)
def test_no_error_shows_what_came_from_the_environment(position: str) -> None:
    text = position.replace("{}", "'${S}'").replace("{{", "{").replace("}}", "}")
    with pytest.raises(ConfigError) as caught:
        load(text + "\nunknown: 1" if not text.startswith(("-", "'")) else text, {"S": MARK})
    assert MARK not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize(
    "broken", ["*{}", "!{} x", "!{}!x y", "&{} *{}", "'{}", '"{}\\q"', "@{}", "`{}`", "%{}", "a: {}"]
)
def test_no_syntax_error_shows_the_text(broken: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("password: " + broken.replace("{}", MARK))
    assert MARK not in f"{caught.value} {caught.value!r}"


@given(st.text() | st.text(alphabet=" \n\t-:[]{}&*!|>'\"%@`#,?<~ab0\\$\x85\u2028\ufeff"))
@example("%YAML 9" + "9" * 5000 + "\n--- a")
@example("- " * 3000)
@example("? " * 3000)
@example("a: &a\nb: *a")
@example("<<: *a")
@example("{" * 100)
def test_any_text_is_data_or_an_error(text: str) -> None:
    assert all(line.isprintable() for line in complaints(text))


def complaints(text: str) -> list[str]:
    """The lines of the error, one for each problem; none if the text is good."""
    try:
        load(text)
    except ConfigError as error:
        return str(error).split("\n", len(error.problems) - 1)
    return []


scalars = st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)


@given(
    st.recursive(
        scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(scalars.filter(bool), v, max_size=3)
    )
)
def test_what_yaml_writes_is_read_back_as_text(value: Any) -> None:
    text = yaml.safe_dump(_escaped(value), allow_unicode=True)
    read = Document.parse("x.yaml", text, {})
    assert read.problems == ()
    assert read.data == ({} if value is None else value)


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "$${") if value else value


def test_reading_files(tmp_path: Path) -> None:
    good, latin = tmp_path / "good.yaml", tmp_path / "latin.yaml"
    good.write_bytes(b"\xef\xbb\xbfname: a\n")
    latin.write_bytes(b"name: a\n# caf\xe9\n")
    os.mkfifo(tmp_path / "pipe.yaml")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (5 << 20))
    assert read_text(good) == "name: a\n"
    cases = [
        (tmp_path / "none.yaml", "there is no such file; try demo"),
        (good / "below.yaml", "there is no such file; try demo"),
        (tmp_path, "is a folder, not a file; try demo"),
        (tmp_path / ("n" * 300), "cannot be read: File name too long"),
        (tmp_path / "a\0b", "is not a usable file name"),
        (tmp_path / "pipe.yaml", "is a pipe, not a file"),
        (large, "is larger than 4 MiB"),
        (latin, "is not UTF-8 text"),
    ]
    for path, message in cases:
        with pytest.raises(ConfigError) as caught:
            read_text(path, "try demo")
        (problem,) = caught.value.problems
        assert problem.message.startswith(message)
        assert problem.line == (2 if path is latin else None)
