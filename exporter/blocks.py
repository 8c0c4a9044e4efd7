"""Where the values of series are, and how a block of them becomes text.

Ten thousand targets have the same series but for their name. So the text around the values is kept once
(`Shape`), and a target has its numbers alone (`Block`): 8 bytes each. A scrape joins the two, which takes
a fifth of a microsecond a line (bench/scrape.py); keeping each target's text would take 35 kB of memory.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from math import inf
from weakref import WeakValueDictionary

from prometheus_client.utils import floatToGoString

go_number: Callable[[float], str] = floatToGoString  # not annotated there
Key = tuple[str, ...]
"""What tells the series of one owner apart."""

OWNER = "\udcff"
"""Stands for the owner in the text of a shape. Encoded it is the byte 0xff, which is in no UTF-8 text."""

_OWNER_BYTE = b"\xff"
_EXPONENT_FROM = 1e6  # from here on Go writes 1e+06
_REMEMBERED = 10_000


class _Numbers(dict[float, bytes]):
    """The text of numbers as Go writes them; of small whole ones, which most are, it is remembered."""

    def __missing__(self, value: float) -> bytes:
        if not -inf < value < _EXPONENT_FROM:
            return go_number(value).encode()
        text = repr(value).encode()
        if 0 <= value < _REMEMBERED and value.is_integer():
            self[value] = text
        return text


_numbers = _Numbers()


class Part:
    """One series of a shape: its key, and what stands before each of its values."""

    __slots__ = ("__weakref__", "heads", "key")

    def __init__(self, key: Key, heads: Sequence[str]) -> None:
        self.key = key
        self.heads = tuple(head.encode(errors="surrogateescape") for head in heads)


class Shape:
    """The series of a block in their order. Never changes, so that blocks can share it.

    A shape knows the one it has grown from. What is looked up in it is made when it is first wanted, and
    let go of once it has grown, for then it is mostly a step on the way.
    """

    __slots__ = ("__weakref__", "_pieces", "_shapes", "begin", "end", "parent", "part", "places")

    def __init__(self, shapes: "Shapes", parent: "Shape | None" = None, part: Part | None = None) -> None:
        self._shapes = shapes
        self.parent = parent
        self.part = part
        self.begin: int = parent.end if parent else 0
        self.end: int = self.begin + (len(part.heads) if part else 0)
        self.places: dict[Key, int] | None = None
        self._pieces: list[bytes] | None = None

    def place(self, key: Key) -> int | None:
        """Where the values of a series begin; from now on `places` says it too."""
        places = self.places
        if places is None:
            if self._shapes.know(self, key):
                return None  # which another block has found out
            places = self.places = {part.key: begin for part, begin in self._parts()}
        return places.get(key)

    def grown(self, key: Key) -> "Shape":
        """This one with another series at its end."""
        grown = self._shapes.grown(self, key)
        self.places = self._pieces = None
        return grown

    def __iter__(self) -> Iterator[Key]:
        return (part.key for part, _ in self._parts())

    def pieces(self) -> list[bytes]:
        """What stands before each value, and after it the place for it; then the end of the last line."""
        pieces = self._pieces  # growing lets go of it at any moment
        if pieces is None:
            heads = [head for part, _ in self._parts() for head in part.heads]
            pieces = [b"\n"] * (2 * len(heads) + 1)
            pieces[:-1:2] = heads[:1] + [b"\n" + head for head in heads[1:]]
            self._pieces = pieces
        return pieces

    def _parts(self) -> list[tuple[Part, int]]:
        parts, shape = [], self
        while shape.parent is not None and shape.part is not None:
            parts.append((shape.part, shape.begin))
            shape = shape.parent
        return parts[::-1]


class Shapes:
    """The shapes of one family; each lives as long as a block has it, or one that it has grown into."""

    def __init__(self, heads: Callable[[Key], Sequence[str]]) -> None:
        self._new_heads = heads
        self._parts: WeakValueDictionary[Key, Part] = WeakValueDictionary()
        self._grown: WeakValueDictionary[tuple[Shape, Key], Shape] = WeakValueDictionary()
        self._extended: WeakValueDictionary[tuple[Shape, tuple[Key, ...]], Shape] = WeakValueDictionary()
        self.empty = Shape(self)

    def know(self, shape: Shape, key: Key) -> bool:
        """Whether the shape has grown by this series before."""
        return (shape, key) in self._grown

    def extended(self, shape: Shape, keys: tuple[Key, ...]) -> Shape:
        """The shape with all of these series. Quick where it has been extended so before."""
        extended = self._extended.get((shape, keys))
        if extended is None:
            extended = shape
            for key in keys:
                if extended.place(key) is None:
                    extended = extended.grown(key)
            if extended is not shape:  # or the entry would keep itself alive
                self._extended[shape, keys] = extended
        return extended

    def grown(self, shape: Shape, key: Key) -> Shape:
        """Raises ValueError if no series can have this key."""
        grown = self._grown.get((shape, key))
        if grown is None:
            part = self._parts.get(key)
            if part is None:
                part = self._parts[key] = Part(key, self._new_heads(key))
            grown = self._grown[shape, key] = Shape(self, shape, part)
        return grown


class Block:
    """The values of one owner's series."""

    __slots__ = ("exemplars", "shape", "values")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.values = array("d")
        self.exemplars: dict[int, bytes] | None = None

    def place(self, key: Key) -> int:
        """Where the values of this series begin; it is made at zero if it is new. Raises ValueError."""
        shape = self.shape
        place = shape.places.get(key) if shape.places is not None else shape.place(key)
        if place is None:
            self.take(self.shape.grown(key))
            place = self.shape.begin
        return place

    def take(self, shape: Shape) -> None:
        """A shape that its own has grown into; what is new is at zero."""
        self.values.frombytes(bytes(8 * (shape.end - self.shape.end)))
        self.shape = shape

    def without(self, unwanted: Callable[[Key], bool]) -> "Block":
        """What is left of this block."""
        left = Block(self.shape)
        while left.shape.parent is not None:
            left.shape = left.shape.parent
        for key in self.shape:
            if not unwanted(key):
                self._copy(key, left)
        return left

    def exemplify(self, place: int, exemplar: bytes) -> None:
        """What follows a value in OpenMetrics."""
        if self.exemplars is None:
            self.exemplars = {}
        self.exemplars[place] = exemplar

    def text(self, owner: bytes, *, with_exemplars: bool) -> bytes:
        """As of one moment, also for a thread while the values change: each is taken by one instruction."""
        shape = self.shape
        values = self.values[: shape.end]
        exemplars = tuple(self.exemplars.items()) if with_exemplars and self.exemplars else ()
        pieces = shape.pieces().copy()
        pieces[1::2] = map(_numbers.__getitem__, values)
        for place, exemplar in exemplars:
            if place < shape.end:
                pieces[2 * place + 1] += exemplar
        return b"".join(pieces).replace(_OWNER_BYTE, owner)

    def _copy(self, key: Key, to: "Block") -> None:
        source, place = self.place(key), to.place(key)
        for offset in range(to.shape.end - place):
            to.values[place + offset] = self.values[source + offset]
            if self.exemplars and source + offset in self.exemplars:
                to.exemplify(place + offset, self.exemplars[source + offset])
