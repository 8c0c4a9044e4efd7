"""Our pages against prometheus_client's own, byte for byte, and against its parsers."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    disable_created_metrics,
    enable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition import CHUNK_BYTES, PART_COST, Family, Registry, negotiate
from exporter.series import EXEMPLAR_LIMIT, Counter, Exemplar, Format, Gauge, Histogram

OWNER = "target"

# These are not annotated in prometheus_client.
parse_openmetrics: Callable[[str], Iterable[Any]] = openmetrics_parser.text_string_to_metric_families
go_number: Callable[[float], str] = prometheus_client.utils.floatToGoString
set_created: Mapping[bool, Callable[[], None]] = {
    True: enable_created_metrics,
    False: disable_created_metrics,
}


@pytest.fixture(autouse=True, scope="module")
def _without_created_samples() -> Iterator[None]:
    set_created[False]()
    yield
    set_created[True]()


@dataclass(frozen=True)
class Change:
    """One `inc`, `set` or `observe`, with exemplar labels where the kind takes them."""

    labels: tuple[str, ...]
    value: float
    exemplar: Mapping[str, str] = field(default_factory=dict)
    timestamp: float = 0.0


@dataclass(frozen=True)
class Model:
    """A family and what happens to it, in order, all changes of one owner together."""

    kind: str
    name: str
    description: str
    label_names: tuple[str, ...]
    buckets: tuple[float, ...]
    changes: tuple[Change, ...]


# The first label names sort before `le`, the others after it.
LABEL_NAMES = st.sampled_from(["A", "_x", "a1", "kind", "lea", "le_", "operation", OWNER, "z9"])
LABEL_VALUES = st.text(max_size=8) | st.text('\\"\n{},=#% \t\r', max_size=6)
WORDS = st.from_regex(r"[a-zA-Z0-9_]{1,7}", fullmatch=True)  # prometheus_client turns a colon into _
# Ours writes -0.0 as 0.0, which is the same number.
ANY_FLOAT = st.floats().map(lambda value: value or 0.0) | st.integers(-(10**9), 10**9).map(float)
POSITIVE = st.floats(min_value=0) | st.integers(0, 10**9).map(float)
VALUES = {"gauge": ANY_FLOAT, "counter": POSITIVE, "histogram": st.floats(allow_nan=False)}
EXEMPLAR_TEXT = st.text(max_size=36)

Values = Mapping[str, st.SearchStrategy[float]]


@st.composite
def models(draw: st.DrawFn, number: int, values: Values, exemplar_text: st.SearchStrategy[str]) -> Model:
    kind = draw(st.sampled_from(["counter", "gauge", "histogram"]))
    names = tuple(draw(st.lists(LABEL_NAMES, unique=True, max_size=4)))
    exemplar_names = st.sampled_from(["request_id", "a", "b_2"])
    exemplars = st.dictionaries(exemplar_names, exemplar_text, max_size=0 if kind == "gauge" else 3)
    sets = draw(st.lists(st.tuples(*[LABEL_VALUES for _ in names]), min_size=1, max_size=5, unique=True))
    change = st.builds(Change, st.sampled_from(sets), values[kind], exemplars, st.floats(0, 1e10))
    changes = draw(st.lists(change, min_size=1, max_size=12))
    owner = names.index(OWNER) if OWNER in names else None
    owners = list(dict.fromkeys(c.labels[owner] for c in changes)) if owner is not None else []
    return Model(
        kind=kind,
        name=f"m{number}_{draw(WORDS)}" + ("_total" if kind == "counter" else "_seconds"),
        description=draw(LABEL_VALUES),
        label_names=names,
        buckets=tuple(
            sorted(draw(st.sets(st.floats(0, exclude_min=True, allow_infinity=False), min_size=1)))
        ),
        changes=tuple(
            sorted(changes, key=lambda c: owners.index(c.labels[owner]) if owner is not None else 0)
        ),
    )


@st.composite
def pages(
    draw: st.DrawFn, values: Values = VALUES, exemplar_text: st.SearchStrategy[str] = EXEMPLAR_TEXT
) -> Sequence[Model]:
    return [draw(models(number, values, exemplar_text)) for number in range(draw(st.integers(1, 4)))]


AnyFamily = Family[Counter] | Family[Gauge] | Family[Histogram]


def register(registry: Registry, model: Model) -> AnyFamily:
    if model.kind == "counter":
        return registry.counter(model.name, model.description, model.label_names)
    if model.kind == "gauge":
        return registry.gauge(model.name, model.description, model.label_names)
    return registry.histogram(model.name, model.description, model.label_names, buckets=model.buckets)


def apply(family: AnyFamily, change: Change) -> None:
    exemplar = Exemplar(change.exemplar, change.timestamp) if change.exemplar else None
    series = family.labels(*change.labels)
    if isinstance(series, Counter):
        series.inc(change.value, exemplar)
    elif isinstance(series, Gauge):
        series.set(change.value)
    else:
        series.observe(change.value, exemplar)


def ours(page: Sequence[Model]) -> Registry:
    registry = Registry(OWNER)
    for model in page:
        family = register(registry, model)
        for change in model.changes:
            apply(family, change)
    return registry


def reference_family(registry: CollectorRegistry, model: Model) -> Any:
    if model.kind == "histogram":
        return prometheus_client.Histogram(
            model.name, model.description, model.label_names, registry=registry, buckets=model.buckets
        )
    kind = prometheus_client.Counter if model.kind == "counter" else prometheus_client.Gauge
    return kind(model.name, model.description, model.label_names, registry=registry)


def reference_apply(family: Any, change: Change) -> None:
    series = family.labels(*change.labels) if change.labels else family
    clock = SimpleNamespace(time=lambda: change.timestamp)
    with patch("prometheus_client.metrics.time", clock):
        if isinstance(family, prometheus_client.Gauge):
            series.set(change.value)
        elif isinstance(family, prometheus_client.Counter):
            series.inc(change.value, change.exemplar)
        else:
            series.observe(change.value, change.exemplar)


def text(registry: Registry, fmt: Format, owner: str | None = None) -> str:
    return b"".join(registry.render(fmt, owner)).decode()


def reference_text(registry: CollectorRegistry, fmt: Format) -> str:
    encode, _ = choose_encoder(fmt)
    return encode(registry).decode()


@settings(deadline=None)
@given(pages())
def test_pages_equal_those_of_prometheus_client_after_every_change(page: Sequence[Model]) -> None:
    registry, reference = Registry(OWNER), CollectorRegistry()
    for model in page:
        family, reference_child = register(registry, model), reference_family(reference, model)
        for change in model.changes:
            apply(family, change)
            reference_apply(reference_child, change)
            for fmt in Format:
                assert text(registry, fmt) == reference_text(reference, fmt)


# The parsers take no negative observations, and no escapes inside an exemplar.
READABLE = pages(
    {**VALUES, "histogram": st.floats(0, 1e300)},
    st.text(st.characters(exclude_characters='"\\\n'), max_size=36),
)
Key = tuple[str, frozenset[tuple[str, str]]]


def expected_samples(page: Sequence[Model]) -> dict[Key, str]:
    samples: dict[Key, float] = {}
    for model in page:
        for change in model.changes:
            labels = frozenset(zip(model.label_names, change.labels, strict=True))
            if model.kind == "gauge":
                samples[model.name, labels] = change.value
            else:
                for key, amount in additions(model, labels, change.value):
                    samples[key] = samples.get(key, 0.0) + amount
    return {key: repr(value) for key, value in samples.items()}


def additions(model: Model, labels: frozenset[tuple[str, str]], value: float) -> Iterator[tuple[Key, float]]:
    if model.kind == "counter":
        yield (model.name, labels), value
        return
    for edge in (*model.buckets, math.inf):
        yield (f"{model.name}_bucket", labels | {("le", go_number(edge))}), float(value <= edge)
    yield (f"{model.name}_count", labels), 1.0
    yield (f"{model.name}_sum", labels), value


def parsed_samples(families: Iterable[Any]) -> dict[Key, str]:
    return {(s.name, frozenset(s.labels.items())): repr(float(s.value)) for f in families for s in f.samples}


@settings(deadline=None)
@given(READABLE)
def test_both_formats_parse_to_the_samples_that_went_in(page: Sequence[Model]) -> None:
    registry = ours(page)
    expected = expected_samples(page)
    assert parsed_samples(parse_text(text(registry, Format.TEXT))) == expected
    assert parsed_samples(parse_openmetrics(text(registry, Format.OPENMETRICS))) == expected


@settings(deadline=None)
@given(pages(), st.data())
def test_removing_an_owner_leaves_what_was_never_given_to_it(
    page: Sequence[Model], data: st.DataObject
) -> None:
    registry = ours(page)
    for fmt in Format:
        text(registry, fmt)
    owner = data.draw(st.sampled_from([*sorted(owners(page)), "nobody"]))
    alone = [keep(model, owner, mine=True) for model in page]
    others = [keep(model, owner, mine=False) for model in page]
    for fmt in Format:
        assert text(registry, fmt, owner) == text(ours(alone), fmt)
    registry.remove(owner)
    for fmt in Format:
        assert text(registry, fmt) == text(ours(others), fmt)
        assert text(registry, fmt, owner) == text(Registry(OWNER), fmt)


def owners(page: Sequence[Model]) -> set[str]:
    return {c.labels[m.label_names.index(OWNER)] for m in page if OWNER in m.label_names for c in m.changes}


def keep(model: Model, owner: str, *, mine: bool) -> Model:
    def belongs(change: Change) -> bool:
        return OWNER in model.label_names and change.labels[model.label_names.index(OWNER)] == owner

    changes = tuple(c for c in model.changes if belongs(c) is mine)
    return Model(model.kind, model.name, model.description, model.label_names, model.buckets, changes)


def test_removing_by_further_labels_spares_the_rest() -> None:
    registry = Registry(OWNER)
    probes = registry.counter("probes_total", "Probes.", ("target", "operation"))
    up = registry.gauge("up", "Up.", ("target",))
    for target in ("a", "b"):
        up.labels(target).set(1)
        for operation in ("get", "put"):
            probes.labels(target, operation).inc()
    assert 'probes_total{operation="get",target="a"} 1.0' in text(registry, Format.TEXT)
    registry.remove("a", operation="get")
    assert [line for line in text(registry, Format.TEXT).splitlines() if not line.startswith("#")] == [
        'probes_total{operation="put",target="a"} 1.0',
        'probes_total{operation="get",target="b"} 1.0',
        'probes_total{operation="put",target="b"} 1.0',
        'up{target="a"} 1.0',
        'up{target="b"} 1.0',
    ]


def test_a_new_series_shows_at_zero_on_the_next_page() -> None:
    registry = Registry(OWNER)
    probes = registry.counter("probes_total", "Probes.", ("target", "operation"))
    assert text(registry, Format.TEXT) == ""
    for operation in ("get", "put"):
        probes.labels("a", operation)
        assert f'probes_total{{operation="{operation}",target="a"}} 0.0' in text(registry, Format.TEXT)


def test_series_begun_at_once_are_those_begun_one_by_one() -> None:
    at_once, one_by_one = Registry(OWNER), Registry(OWNER)
    for registry in (at_once, one_by_one):
        errors = registry.counter("errors_total", "Errors.", (OWNER, "reason"))
        errors.labels("b", "dns").inc()
        for owner in ("a", "b", "c"):
            rows = [(owner, reason) for reason in ("tls", "dns", "auth")]
            for _ in range(2):
                if registry is at_once:
                    errors.begin(rows)
                else:
                    for row in rows:
                        errors.labels(*row)
            errors.labels(owner, "auth").inc()
    for fmt in Format:
        assert text(at_once, fmt) == text(one_by_one, fmt)


def test_a_removed_series_begins_again_at_zero() -> None:
    registry = Registry(OWNER)
    probes = registry.counter("probes_total", "Probes.", ("target",))
    probes.labels("a").inc(5)
    registry.remove("a")
    probes.labels("a").inc()
    assert 'probes_total{target="a"} 1.0' in text(registry, Format.TEXT)


def test_exemplars_parse_on_buckets_and_counters_and_stay_out_of_the_plain_text() -> None:
    registry = Registry(OWNER)
    duration = registry.histogram("duration_seconds", "Duration.", (OWNER,), buckets=(0.1, 2.0))
    errors = registry.counter("errors_total", "Errors.", (OWNER,))
    seen = Exemplar({"request_id": "8f2b-AMS", "b": "=#{} ü"}, 1700000000.125)
    duration.labels("a").observe(0.5, seen)
    errors.labels("a").inc(exemplar=seen)
    found = {
        (sample.name, sample.labels.get("le")): sample.exemplar
        for family in parse_openmetrics(text(registry, Format.OPENMETRICS))
        for sample in family.samples
        if sample.exemplar
    }
    assert {key: (e.labels, e.value, float(e.timestamp)) for key, e in found.items()} == {
        ("duration_seconds_bucket", "2.0"): (seen.labels, 0.5, 1700000000.125),
        ("errors_total", None): (seen.labels, 1.0, 1700000000.125),
    }
    assert " # " not in text(registry, Format.TEXT)


def test_an_exemplar_longer_than_openmetrics_allows_is_refused() -> None:
    Exemplar({"id": "x" * (EXEMPLAR_LIMIT - 2)}, 0.0)
    with pytest.raises(ValueError, match="129 characters"):
        Exemplar({"id": "x" * (EXEMPLAR_LIMIT - 1)}, 0.0)


@pytest.mark.parametrize(
    ("count", "written"), [(999_999, "999999.0"), (1_000_000, "1e+06"), (1_000_001, "1.000001e+06")]
)
def test_large_counts_are_written_as_go_writes_them(count: int, written: str) -> None:
    registry = Registry(OWNER)
    series = registry.histogram("d", "D.", buckets=[1.0]).labels()
    for _ in range(count):
        series.observe(2.0)
    assert text(registry, Format.TEXT).splitlines()[2:] == [
        'd_bucket{le="1.0"} 0.0',
        f'd_bucket{{le="+Inf"}} {written}',
        f"d_count {written}",
        f"d_sum {go_number(count * 2.0)}",
    ]


def test_no_zero_is_negative() -> None:
    registry = Registry(OWNER)
    registry.gauge("skew_seconds", "Skew.").labels().set(-0.0)
    assert text(registry, Format.TEXT).splitlines()[2:] == ["skew_seconds 0.0"]


@pytest.mark.parametrize(
    "edges", [[], [0.0, 1.0], [-1.0], [1.0, 1.0], [2.0, 1.0], [1.0, math.nan], [1.0, math.inf]]
)
def test_buckets_that_do_not_rise_from_zero_are_refused(edges: list[float]) -> None:
    with pytest.raises(ValueError, match="rise"):
        Registry(OWNER).histogram("d", "D.", buckets=edges)


@pytest.mark.parametrize("name", ["", "my-label", "1st", "__name__", "le", "ü", "a b", "target"])
def test_labels_prometheus_does_not_take_are_refused(name: str) -> None:
    info = Registry(OWNER).gauge("info", "Info.", (OWNER,))
    with pytest.raises(ValueError, match="label"):
        info.labels("a", **{name: "x"})


def test_series_may_carry_labels_beyond_those_of_their_family() -> None:
    registry = Registry(OWNER)
    info = registry.gauge("target_info", "Info.", (OWNER,))
    info.labels("a", team="web").set(1)
    info.labels("b", self="x", values="y").set(1)
    info.labels("a", team="web")
    info.labels("a", team="ops").set(2)
    assert 'target_info{target="a",team="web"} 1.0\n' in text(registry, Format.TEXT)
    assert 'target_info{target="a",team="ops"} 2.0\n' in text(registry, Format.TEXT)
    assert 'target_info{self="x",target="b",values="y"} 1.0\n' in text(registry, Format.TEXT)


@pytest.mark.parametrize("values", [(), ("a",), ("a", "b", "c")])
def test_a_wrong_number_of_label_values_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="values for the labels x, y"):
        Registry("elsewhere").gauge("g", "G.", ("x", "y")).labels(*values)


def test_a_counter_refuses_to_fall_and_names_are_checked() -> None:
    registry = Registry(OWNER)
    with pytest.raises(ValueError, match="down"):
        registry.counter("c_total", "C.").labels().inc(-1)
    with pytest.raises(ValueError, match="_total"):
        registry.counter("c", "C.")
    with pytest.raises(ValueError, match="taken"):
        registry.gauge("c_total", "C.")
    with pytest.raises(ValueError, match="invalid"):
        registry.gauge("my gauge", "G.")


def test_a_lone_surrogate_in_a_label_does_not_cost_the_page() -> None:
    registry = Registry(OWNER)
    registry.gauge("up", "Up.", (OWNER,)).labels("a\udce4").set(1)
    assert 'up{target="a?"} 1.0' in text(registry, Format.TEXT)


def big_registry(targets: int) -> tuple[Registry, Family[Histogram]]:
    registry = Registry(OWNER)
    family = registry.histogram("duration_seconds", "D.", (OWNER,), buckets=(0.1, 1.0, 2.0))
    for number in range(targets):
        family.labels(f"target-{number}").observe(0.5)
    return registry, family


def test_the_page_comes_in_chunks_of_bounded_size() -> None:
    registry, _ = big_registry(2000)
    chunks = list(registry.render(Format.TEXT))
    assert len(chunks) > 3
    costs = [len(chunk) + PART_COST * chunk.count(b"_sum") for chunk in chunks]
    assert all(CHUNK_BYTES - PART_COST <= cost < CHUNK_BYTES + 1024 for cost in costs[:-1])
    assert 0 < costs[-1] < CHUNK_BYTES + 1024


def test_targets_may_come_and_go_while_a_page_is_read() -> None:
    registry, family = big_registry(2000)
    rendering = registry.render(Format.OPENMETRICS)
    read = [next(rendering)]
    registry.remove("target-1999")
    read.append(next(rendering))
    for name in ("new", "newer"):
        family.labels(name).observe(1)
    read += rendering
    names = {s.labels[OWNER] for f in parse_openmetrics(b"".join(read).decode()) for s in f.samples}
    assert names >= {f"target-{number}" for number in range(1999)}
    after = text(registry, Format.OPENMETRICS)
    assert 'target="new"' in after
    assert 'target="target-1999"' not in after


@pytest.mark.parametrize("fmt", Format)
def test_the_collectors_of_prometheus_client_follow_and_the_end_is_marked_once(fmt: Format) -> None:
    collectors = CollectorRegistry()
    PlatformCollector(registry=collectors)
    registry = Registry(OWNER, collectors)
    registry.gauge("up", "Up.", (OWNER,)).labels("a").set(1)
    page = text(registry, fmt)
    assert page.index('up{target="a"} 1.0\n') < page.index("python_info{")
    assert page.count("# EOF") == (fmt is Format.OPENMETRICS)
    assert page.endswith("# EOF\n") == (fmt is Format.OPENMETRICS)
    assert "python_info" not in text(registry, fmt, "a")


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.5"
)
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "fmt", "content_type"),
    [
        (None, Format.TEXT, PLAIN),
        ("", Format.TEXT, PLAIN),
        ("*/*", Format.TEXT, PLAIN),
        ("text/html,application/xhtml+xml", Format.TEXT, PLAIN),
        (PROMETHEUS_3, Format.OPENMETRICS, f"{OPENMETRICS}; escaping=allow-utf-8"),
        (PROMETHEUS_2, Format.OPENMETRICS, f"{OPENMETRICS}; escaping=underscores"),
        ("application/openmetrics-text", Format.OPENMETRICS, OPENMETRICS),
        (
            "application/openmetrics-text; version=2.0.0",
            Format.OPENMETRICS,
            f"{OPENMETRICS}; escaping=underscores",
        ),
        (
            "application/openmetrics-text; version=1.0.0; escaping=dots",
            Format.OPENMETRICS,
            f"{OPENMETRICS}; escaping=underscores",
        ),
        (
            "text/plain; version=1.0.0; escaping=values",
            Format.TEXT,
            "text/plain; version=1.0.0; charset=utf-8; escaping=values",
        ),
        ("application/openmetrics-text; version=latest", Format.TEXT, PLAIN),
        ("text/plain; version=x", Format.TEXT, PLAIN),
    ],
)
def test_negotiation(accept: str | None, fmt: Format, content_type: str) -> None:
    assert negotiate(accept) == (fmt, content_type)
