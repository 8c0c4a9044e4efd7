"""Metric families, and the pages that a scrape is answered with.

prometheus_client formats each line anew, label by label, which stalls the event loop for a second at a
hundred thousand lines. Here a scrape joins text that is ready with numbers (`exporter.blocks`). Changes are
made on the event loop's thread alone; a page may be rendered there in turns, or in another thread.

Formats: Prometheus text 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/) and
OpenMetrics 1.0.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), both written as
prometheus_client writes them, without `_created` samples.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder

from exporter.blocks import OWNER, Block, Key, Shapes
from exporter.series import (
    Buckets,
    Counter,
    Format,
    Gauge,
    Histogram,
    Labels,
    escape,
    histogram_heads,
    simple_heads,
)

CHUNK_BYTES = 128 * 1024
"""Render gives way after this much text: up to a millisecond of work. With less, a page of ten
thousand targets would wait for its turn so often that it came too late for Prometheus."""

PART_COST = 400
"""Bytes of text that could be made in the time that a part costs however short it is."""

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


S = TypeVar("S", bound=Counter | Gauge | Histogram)


class _Owners(dict[str | None, bytes]):
    """The owners' names as they stand in their label; made once, for they are in every line."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def __missing__(self, owner: str | None) -> bytes:
        written = self[owner] = _clean(owner or "").encode()
        return written


class Family(Generic[S]):
    """All series of one metric name. Made by a Registry.

    `heads` gives the text before each value of a series with these labels, `series` the series whose
    values begin at a place of a block.
    """

    def __init__(
        self,
        header: Mapping[Format, bytes],
        label_names: Sequence[str],
        owners: _Owners,
        heads: Callable[[Labels], list[str]],
        series: Callable[[Block, int], S],
    ) -> None:
        self.header = header
        self.label_names = tuple(label_names)
        self._owners = owners
        self._owner = self.label_names.index(owners.label) if owners.label in self.label_names else None
        self._key_names = tuple(name for name in label_names if name != owners.label)
        self._heads = heads
        self._series = series
        self._shapes = Shapes(self._heads_of)
        self._blocks: dict[str | None, Block] = {}

    def labels(self, /, *values: str, **more: str) -> S:
        """The series with these values of the family's labels, made at zero if it is new.

        `more` are labels that this series has beyond those of its family. Raises ValueError for a
        missing or surplus value and for a name that is no label name.
        """
        owner, key = self._owner_and_key(values)
        if more:
            key += tuple(chain.from_iterable(sorted(more.items())))
        block = self._blocks.get(owner) or Block(self._shapes.empty)
        place = block.place(key)  # which may raise, and then there is no new block
        self._blocks[owner] = block
        return self._series(block, place)

    def begin(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Makes series of one owner at zero, unless they are there; as `labels` would, but all at once.

        Each row has the values of the family's labels.
        """
        owners, keys = zip(*map(self._owner_and_key, rows), strict=True)
        block = self._blocks.get(owners[0]) or Block(self._shapes.empty)
        block.take(self._shapes.extended(block.shape, keys))
        self._blocks[owners[0]] = block

    def remove(self, owner: str | None, /, **labels: str) -> None:
        """Drop the owner's series with these label values; a family without such a label keeps its own.

        The owner of a family without targets is None.
        """
        block = self._blocks.get(owner)
        if block is None or not labels.keys() <= set(self._key_names):
            return
        wanted = [(self._key_names.index(name), value) for name, value in labels.items()]
        left = block.without(lambda key: all(key[at] == value for at, value in wanted))
        if left.values:
            self._blocks[owner] = left
        else:
            del self._blocks[owner]

    def parts(self, fmt: Format, owner: str | None) -> Iterator[bytes]:
        """The header and the blocks (the owner's alone, if given); nothing while there are no series."""
        # A copy, because targets come and go while a scrape gives way.
        if owner is None:
            blocks = list(self._blocks.items())
        else:
            blocks = [(owner, self._blocks[owner])] if owner in self._blocks else []
        if blocks:
            yield self.header[fmt]
        with_exemplars = fmt is Format.OPENMETRICS
        for name, block in blocks:
            yield block.text(self._owners[name], with_exemplars=with_exemplars)

    def _owner_and_key(self, values: tuple[str, ...]) -> tuple[str | None, Key]:
        if len(values) != len(self.label_names):
            raise ValueError(f"{len(values)} values for the labels {', '.join(self.label_names)}")
        at = self._owner
        if at is None:
            return None, values
        return values[at], values[:at] + values[at + 1 :]

    def _heads_of(self, key: Key) -> list[str]:
        names, values = list(self._key_names), list(key[: len(self._key_names)])
        more = key[len(names) :]
        names += more[::2]
        values += more[1::2]
        labels = [(name, _clean(value)) for name, value in zip(names, values, strict=True)]
        if self._owner is not None:
            labels.append((self._owners.label, OWNER))
        _check_labels([name for name, _ in labels])
        return self._heads(sorted(labels))


class Registry:
    """The families of one exporter.

    `partition` names the label by whose value series are grouped, removed and picked out;
    `collectors` are prometheus_client's own, whose output follows ours.
    """

    def __init__(self, partition: str, collectors: CollectorRegistry | None = None) -> None:
        self._owners = _Owners(partition)
        self._collectors = collectors
        self._families: dict[str, Family[Any]] = {}

    def counter(self, name: str, description: str, label_names: Sequence[str] = ()) -> Family[Counter]:
        """Raises ValueError unless the name ends in `_total`."""
        if not name.endswith("_total"):
            raise ValueError(f"counter {name} does not end in _total")
        header = _header(name, "counter", description, open_metrics_name=name.removesuffix("_total"))
        return self._add(
            name, Family(header, label_names, self._owners, partial(simple_heads, name), Counter)
        )

    def gauge(self, name: str, description: str, label_names: Sequence[str] = ()) -> Family[Gauge]:
        header = _header(name, "gauge", description)
        heads = partial(simple_heads, name)
        return self._add(name, Family(header, label_names, self._owners, heads, Gauge))

    def histogram(
        self, name: str, description: str, label_names: Sequence[str] = (), *, buckets: Iterable[float]
    ) -> Family[Histogram]:
        """Raises ValueError unless the bucket edges rise strictly from above zero."""
        shape, header = Buckets.of(buckets), _header(name, "histogram", description)
        heads, series = partial(histogram_heads, name, shape), partial(Histogram, shape.edges)
        return self._add(name, Family(header, label_names, self._owners, heads, series))

    @property
    def families(self) -> Mapping[str, Family[Any]]:
        """The families by name, in the order they were made."""
        return self._families

    def remove(self, owner: str, /, **labels: str) -> None:
        """Drop the owner's series, or only those of them with these label values."""
        for family in self._families.values():
            family.remove(owner, **labels)
        self._owners.pop(owner, None)

    def render(self, fmt: Format, owner: str | None = None) -> Iterator[bytes]:
        """The page in chunks of about CHUNK_BYTES; `await asyncio.sleep(0)` after each lets others run.

        With `owner`, only that owner's series, and none of the collectors.
        """
        chunk: list[bytes] = []
        size = 0
        for part in self._parts(fmt, owner):
            chunk.append(part)
            size += len(part) + PART_COST
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

    def _add(self, name: str, family: Family[S]) -> Family[S]:
        if not _METRIC_NAME.fullmatch(name) or name in self._families:
            raise ValueError(f"metric name {name!r} is invalid or taken")
        self._families[name] = family
        return family


def _clean(value: str) -> str:
    """A lone surrogate in a label (from the environment, say) must not cost the whole page."""
    return escape(value).encode(errors="replace").decode()


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
