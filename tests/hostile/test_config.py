"""A configuration file that is meant to harm: settings, or an error that is short and tells no secret."""

import json
import math
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.config import ConfigError, Settings, dump, load_settings
from exporter.config.problem import MAX_PROBLEMS
from exporter.config.syntax import MAX_BYTES
from tests.hostile.effort import times
from tests.hostile.held import held
from tests.running import run, target, write

EXAMPLE = Path(__file__).parents[2] / "exporter.yaml"
SECRET = "PLANTEDsecret/+=0123456789"
ENV = {"R2_ACCESS_KEY_ID": "AKIAEXAMPLE", "R2_SECRET_ACCESS_KEY": SECRET, "LONG": "v" * 1000}
LONGEST_LINE = 3000
MEMORY = 512 << 20
"""Bytes of address space, most of which the interpreter and its libraries have."""

WHOLE = """
exporter: {instance: probe-1, probes_in_flight: 10}
probe: {interval: 30s, timeout: 5s, operations: [put, get], key_prefix: .r2/, object_size: 1KiB}
breaker: {failure_threshold: 3, failure_rate_threshold: 0.5, half_open_max_calls: 1}
alerts: {error_rate_threshold: 0.2, on_failure: true, monthly_budget: 10}
alertmanager: {urls: ["http://127.0.0.1:9093"], bearer_token: PLANTEDsecret/+=0123456789}
history: {retention: 30d, max_size: 1GiB}
api:
  token_file: token
  tokens: [{name: a, token_file: other, scope: read}]
  cors_origins: ["*"]
targets:
  - name: media
    endpoint: https://s3.example.org
    bucket: media
    region: auto
    access_key_id: AKIAEXAMPLE
    secret_access_key: PLANTEDsecret/+=0123456789
    session_token: ${R2_SECRET_ACCESS_KEY}
    labels: {team: web}
    probe: {interval: 10s}
  - name: logs
    account_id: 0123456789abcdef
    bucket: logs
    access_key_id: AKIAEXAMPLE
    secret_access_key: ${R2_SECRET_ACCESS_KEY}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("config")
    (made / "token").write_text(f"{SECRET}\n")
    (made / "other").write_text(f"{SECRET}-other\n")
    return made


def load(folder: Path, written: bytes) -> Settings | None:
    """The settings, or None and an error that has been looked at."""
    path = folder / "exporter.yaml"
    path.write_bytes(written)
    try:
        loaded = load_settings(path, ENV)
    except ConfigError as error:
        refused = error
    else:
        assert SECRET not in f"{loaded} {loaded!r} {dump(loaded)} {loaded.model_dump_json()}"
        return loaded
    assert refused.problems
    assert_fit_to_be_read(str(refused), str(path))
    assert SECRET not in repr(refused)
    return None


def assert_fit_to_be_read(said: str, source: str) -> None:
    """Each line names the file and a place in it, and none is made by what stands there."""
    lines = said.split("\n")
    assert len(lines) <= MAX_PROBLEMS + 1
    for line in lines:
        assert re.match(re.escape(source) + r"(:[0-9]+)?: ", line)
        assert line.isprintable()
        assert len(line) <= LONGEST_LINE
    assert SECRET not in said


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def nested(depth: int, kind: Callable[[Any], Any]) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = kind(value)
    return value


ODD = (
    *("30s30s", "-5s", "1e3s", "9" * 400 + "s", "1h 30m", "\u0663s", "0x1f", "1_000", "1KiB1KiB", "1EiB"),
    *("${LONG}", "${", "${}", "$${A}", "${NOT_SET}", "${R2_SECRET_ACCESS_KEY}", "${A\n}", "<<", "~", ""),
    *("../../etc/passwd", "/dev/zero", "token\x00", ".", "a" * 5000, "http://user:pw@h", "http://[::1"),
)
odd_texts = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Cc", "Cf", "Zl", "Zs", "So", "Lo"])),
    st.sampled_from(ODD),
    st.sampled_from(["x", "\xe9", "\u0007", "\U0001f4a5", "9", "("]).map(lambda text: text * 20_000),
)
hostile = st.one_of(
    odd_texts,
    st.none() | st.booleans() | st.integers() | st.floats(),
    st.sampled_from([10**400, -(10**400), math.nan, math.inf, -math.inf, 1e308, 5e-324, -0.0]),
    st.lists(odd_texts, max_size=3),
    st.dictionaries(odd_texts, odd_texts, max_size=3),
    st.integers(1, 60).map(lambda depth: nested(depth, lambda inner: [inner])),
    st.integers(1, 60).map(lambda depth: nested(depth, lambda inner: {"a": inner})),
    st.sampled_from([{}, [], [[]], {"": ""}]),
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The whole configuration with something else in a place or two, or under another name."""
    value = yaml.load(WHOLE, yaml.BaseLoader)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from([each for each in places(value) if each]))
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        match draw(st.sampled_from(["put", "add", "rename", "remove", "repeat"])):
            case "put":
                holder[path[-1]] = draw(hostile)
            case "add" if isinstance(holder, dict):
                holder[draw(odd_texts)] = draw(hostile)
            case "rename" if isinstance(holder, dict):
                holder[draw(odd_texts)] = holder.pop(path[-1])
            case "repeat" if isinstance(holder, list):
                holder *= draw(st.integers(2, 40))
            case _:
                del holder[path[-1]]
    return value


@given(written=mutated(), plain=st.booleans(), flow=st.none() | st.booleans())
@settings(max_examples=times(120))
def test_any_structure_is_settings_or_an_error(
    folder: Path, written: Any, plain: bool, flow: bool | None
) -> None:
    text = yaml.safe_dump(written, allow_unicode=plain, default_flow_style=flow, width=math.inf)
    load(folder, text.encode(errors="surrogatepass"))


whole = EXAMPLE.read_bytes()
SCRAPS = (
    *(b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\r", b"\xc2\x85"),
    *(b"\x1b[2J", b"\t", b"*a", b"&a ", b"!!python/object/apply:os.system [id]", b"!x ", b"--- ", b"..."),
    *(b"%YAML 9.9\n", b"? ", b"<<: ", b"|9\n", b"'", b'"\\U00110000"', b'"\\ud800"', b"{", b"]", b"- - - "),
    *(b"${", b"\\", b"# ", b"@", b": :"),
)
scraps = st.binary(max_size=8) | st.sampled_from(SCRAPS)
cuts = st.lists(st.tuples(st.integers(0, len(whole)), st.integers(0, 30), scraps), min_size=1, max_size=4)


@given(cuts=cuts, source=st.just(whole) | st.just(WHOLE.encode()))
@settings(max_examples=times(120))
@example(cuts=[(0, 0, b"\xff\xfe")], source=whole.decode().encode("utf-16-le"))
def test_any_bytes_are_settings_or_an_error(
    folder: Path, cuts: list[tuple[int, int, bytes]], source: bytes
) -> None:
    for start, length, scrap in cuts:
        source = source[:start] + scrap + source[start + length :]
    load(folder, source)


@pytest.mark.parametrize("length", [255, 3000, 100_000])
def test_a_file_name_without_end_is_not_repeated(folder: Path, length: int) -> None:
    assert load(folder, WHOLE.replace("token_file: other", f"token_file: {'0' * length}").encode()) is None


TARGET = b"targets: [{name: a, bucket: abc, endpoint: 'http://a'}]\n"


def many(piece: str, head: str = "", tail: str = "", count: int = 500) -> bytes:
    """`piece` over and over, with another number in the place of its `#`."""
    return (head + "".join(piece.replace("#", str(n)) for n in range(count)) + tail).encode()


BOMBS = {
    "billion laughs": b"l0: &l0 [lol]\n"
    + b"".join(b"l%d: &l%d [%s]\n" % (n, n, b",".join([b"*l%d" % (n - 1)] * 9)) for n in range(1, 12)),
    "merge keys": b"l0: &l0 {a: b}\n"
    + b"".join(b"l%d: &l%d {<<: [%s]}\n" % (n, n, b",".join([b"*l%d" % (n - 1)] * 9)) for n in range(1, 12)),
    "an alias to itself": b"a: &a [*a]\n",
    "lists": b"[" * 200_000,
    "mappings": b"{a: " * 200_000,
    "dashes": b"- " * 200_000,
    "lines": b"\n" * MAX_BYTES,
    "one word": b"x" * MAX_BYTES,
    "more than is read": b"#" * (MAX_BYTES + 1),
    "unknown keys": TARGET + many("k#: 1\n"),
    "the same key": TARGET + many("a: 1\n"),
    "a long key": TARGET + b"? " + b"k" * 100_000 + b"\n: 1\n",
    "a long number": TARGET + b"breaker: {failure_threshold: " + b"9" * (1 << 20) + b"}\n",
    "bad targets": many("{},", "targets: [", "]"),
    "the same target": many("- {name: a, bucket: abc, endpoint: 'http://a'}\n", "targets:\n"),
    "files that are not there": many(
        "{name: a#, secret_access_key_file: f#},", "targets: [", "]", count=5000
    ),
    "variables that are not set": TARGET + many("'${NO#}',", "a: [", "]"),
    "a long variable": TARGET + b"a: '" + b"${LONG}" * 100_000 + b"'\n",
    "a long variable again": TARGET + many("'${LONG}',", "a: [", "]", 5000),
    "an open variable": TARGET + b"a: '" + b"${" * 100_000 + b"'\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_an_error(folder: Path, bomb: str) -> None:
    assert load(folder, BOMBS[bomb]) is None


@pytest.mark.parametrize("bomb", ["billion laughs", "unknown keys", "a long variable"])
def test_the_command_says_so_in_little_memory(folder: Path, bomb: str) -> None:
    path = folder / "exporter.yaml"
    path.write_bytes(BOMBS[bomb])

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    env = {**ENV, "LONG": "v" * 100_000, "PATH": ""}
    done = run("check-config", f"--config.file={path}", env=env, preexec_fn=limit)
    assert (done.returncode, done.stdout) == (2, "")
    assert_fit_to_be_read(done.stderr.removesuffix("\n"), str(path))


def test_a_running_exporter_says_so_and_goes_on(folder: Path) -> None:
    config = write(folder / "running.yaml", target("media", "http://127.0.0.1:1", "media"))
    with held(config) as exporter:
        for bomb in (BOMBS["billion laughs"], BOMBS["unknown keys"], b"\xff\x00", b"targets: \x1b[2J"):
            config.write_bytes(bomb)
            refused = exporter.ask("POST", "/-/reload")
            assert refused.status == 500
            error = refused.json()["error"]
            assert error["code"] == "invalid_configuration"
            assert 0 < len(error["details"]) <= MAX_PROBLEMS + 1
            assert len(refused.body) < 1 << 20
            assert len(exporter.log.getvalue().splitlines()) <= MAX_PROBLEMS + 2
            exporter.assert_calm(errors_of="exporter.app")
        assert json.dumps(SECRET) not in exporter.ask("GET", "/api/health/config").body.decode()
