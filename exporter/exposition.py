"""Metric families whose text is rendered when it has changed, not at every scrape.

prometheus_client formats each line anew for each scrape, which stalls the event loop for a second
at a hundred thousand lines. Here the series of one family and one owner (a target) form a block that
keeps its text until one of them changes. A scrape renders the changed blocks, joins the rest and
gives way in between. Rendering at once, at each change, costs the same in all (bench/scrape.py) and
is wasted where probes outnumber scrapes. Everything runs on the event loop's thread, without locks.

Formats: Prometheus text 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/) and
OpenMetrics 1.0.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), both written as
prometheus_client writes them, without `_created` samples.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder

from exporter.series import Buckets, Counter, Format, Gauge, Histogram, Labels, Series, escape

CHUNK_BYTES = 32 * 1024
"""Render gives way after this much text: under 1 ms of work even where every line is new."""

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


def negotiate(accept: str | None) -> tuple[Format, str]:
    """Choose the format for an Accept header, and the exact Content-Type to answer with."""
    try:
        _, content_type = choose_encoder(accept or "")
    except TypeError:  # a version that is no number
        return Format.TEXT, CONTENT_TYPE_PLAIN_0_0_4
    # Names are written as they are: right for every escaping scheme but dots, which doubles underscores.
    content_type = content_type.replace("escaping=dots", "escaping=underscores")
    if content_type.startswith("application/openmetrics-text"):
        return Format.OPENMETRICS, re.sub(r"version=[^;]*", "version=1.0.0", content_type)
    return Format.TEXT, content_type


S = TypeVar("S", bound=Series)


class _Block(Generic[S]):
    """The series of one family that belong to one owner, and their text while it holds."""

    __slots__ = ("rendered", "series")

    def __init__(self) -> None:
        self.series: dict[tuple[object, ...], S] = {}
        self.rendered: dict[Format, bytes] = {}

    def text(self, fmt: Format) -> bytes:
        if fmt not in self.rendered:
            text = "".join([series.text(fmt) for series in self.series.values()])
            # A lone surrogate in a label (from the environment, say) must not cost the whole page.
            self.rendered[fmt] = text.encode(errors="replace")
        return self.rendered[fmt]


class Family(Generic[S]):
    """All series of one metric name. Made by a Registry."""

    def __init__(
        self,
        header: Mapping[Format, bytes],
        label_names: Sequence[str],
        partition: str,
        new: Callable[[Labels, Callable[[], None]], S],
    ) -> None:
        self.header = header
        self._names = tuple(label_names)
        self._owner = self._names.index(partition) if partition in self._names else None
        self._new = new
        self._blocks: dict[str | None, _Block[S]] = {}

    def labels(self, /, *values: str, **more: str) -> S:
        """The series with these values of the family's labels, made at zero if it is new.

        `more` are labels that this series has beyond those of its family. Raises ValueError for a
        missing or surplus value and for a name that is no label name.
        """
        owner = None if self._owner is None else values[self._owner]
        key: tuple[object, ...] = (*values, *sorted(more.items())) if more else values
        block = self._blocks.get(owner)
        if block and key in block.series:
            return block.series[key]
        labels = sorted([*zip(self._names, values, strict=True), *more.items()])
        _check_labels([name for name, _ in labels])
        block = block or self._blocks.setdefault(owner, _Block())
        block.rendered.clear()
        return block.series.setdefault(key, self._new(labels, block.rendered.clear))

    def remove(self, owner: str | None, /, **labels: str) -> None:
        """Drop the owner's series with these label values; a family without such a label keeps its own.

        The owner of a family without targets is None.
        """
        block = self._blocks.get(owner)
        if block is None or not labels.keys() <= set(self._names):
            return
        wanted = [(self._names.index(name), value) for name, value in labels.items()]
        for key in [key for key in block.series if all(key[at] == value for at, value in wanted)]:
            del block.series[key]
        block.rendered.clear()
        if not block.series:
            del self._blocks[owner]

    def parts(self, fmt: Format, owner: str | None) -> Iterator[bytes]:
        """The header and the blocks (the owner's alone, if given); nothing while there are no series."""
        # A copy, because targets come and go while a scrape gives way.
        if owner is None:
            blocks = list(self._blocks.values())
        else:
            blocks = [self._blocks[owner]] if owner in self._blocks else []
        if blocks:
            yield self.header[fmt]
        for block in blocks:
            yield block.text(fmt)


class Registry:
    """The families of one exporter.

    `partition` names the label by whose value series are grouped, removed and picked out;
    `collectors` are prometheus_client's own, whose output follows ours.
    """

    def __init__(self, partition: str, collectors: CollectorRegistry | None = None) -> None:
        self._partition = partition
        self._collectors = collectors
        self._families: dict[str, Family[Counter] | Family[Gauge] | Family[Histogram]] = {}

    def counter(self, name: str, description: str, label_names: Sequence[str] = ()) -> Family[Counter]:
        """Raises ValueError unless the name ends in `_total`."""
        if not name.endswith("_total"):
            raise ValueError(f"counter {name} does not end in _total")
        header = _header(name, "counter", description, open_metrics_name=name.removesuffix("_total"))
        family = Family(
            header, label_names, self._partition, lambda labels, changed: Counter(name, labels, changed)
        )
        self._add(name, family)
        return family

    def gauge(self, name: str, description: str, label_names: Sequence[str] = ()) -> Family[Gauge]:
        header = _header(name, "gauge", description)
        family = Family(
            header, label_names, self._partition, lambda labels, changed: Gauge(name, labels, changed)
        )
        self._add(name, family)
        return family

    def histogram(
        self, name: str, description: str, label_names: Sequence[str] = (), *, buckets: Iterable[float]
    ) -> Family[Histogram]:
        """Raises ValueError unless the bucket edges rise strictly from above zero."""
        shape = Buckets.of(buckets)
        family = Family(
            _header(name, "histogram", description),
            label_names,
            self._partition,
            lambda labels, changed: Histogram(name, labels, changed, shape),
        )
        self._add(name, family)
        return family

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the families, in the order they were made."""
        return tuple(self._families)

    def remove(self, owner: str, /, **labels: str) -> None:
        """Drop the owner's series, or only those of them with these label values."""
        for family in self._families.values():
            family.remove(owner, **labels)

    def render(self, fmt: Format, owner: str | None = None) -> Iterator[bytes]:
        """The page in chunks of about CHUNK_BYTES; `await asyncio.sleep(0)` after each lets others run.

        With `owner`, only that owner's series, and none of the collectors.
        """
        chunk: list[bytes] = []
        size = 0
        for part in self._parts(fmt, owner):
            chunk.append(part)
            size += len(part)
            if size >= CHUNK_BYTES:
                yield b"".join(chunk)
                chunk, size = [], 0
        if chunk:
            yield b"".join(chunk)

    def _parts(self, fmt: Format, owner: str | None) -> Iterator[bytes]:
        for family in self._families.values():
            yield from family.parts(fmt, owner)
        if self._collectors and owner is None:
            encode, _ = choose_encoder(fmt)
            yield encode(self._collectors).removesuffix(b"# EOF\n")
        if fmt is Format.OPENMETRICS:
            yield b"# EOF\n"

    def _add(self, name: str, family: Family[Counter] | Family[Gauge] | Family[Histogram]) -> None:
        if not _METRIC_NAME.fullmatch(name) or name in self._families:
            raise ValueError(f"metric name {name!r} is invalid or taken")
        self._families[name] = family


def _check_labels(names: Sequence[str]) -> None:
    for name in names:
        if not _LABEL_NAME.fullmatch(name) or name == "le":
            raise ValueError(f"{name!r} is not a label name")
    if len(set(names)) < len(names):
        raise ValueError(f"a label occurs twice among {', '.join(names)}")


def _header(name: str, kind: str, description: str, *, open_metrics_name: str = "") -> dict[Format, bytes]:
    plain = description.replace("\\", r"\\").replace("\n", r"\n")
    headers = {
        Format.TEXT: (name, plain),
        Format.OPENMETRICS: (open_metrics_name or name, escape(description)),
    }
    return {fmt: f"# HELP {n} {text}\n# TYPE {n} {kind}\n".encode() for fmt, (n, text) in headers.items()}
