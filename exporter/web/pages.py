"""Pages of metrics as gzip, each made once for everyone who waits for one."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from exporter.background import Background
from exporter.exposition import Registry
from exporter.series import Format

LEVEL = 1
"""Compresses this text to a twelfth, and the default, 6, to a fourteenth in five times the time."""

_GZIP = 31
"""As zlib's `wbits`: the largest window, and gzip's header and checksum around it."""


class Page:
    """A page, from its first chunk to its last, while it is being made as well as after."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._grown = asyncio.Event()
        self._whole = False
        self._error: Exception | None = None

    async def read(self) -> AsyncIterator[bytes]:
        """The chunks, each once it is there. Raises what kept the page from being made."""
        at = 0
        while at < len(self._chunks) or not self._whole:
            if at == len(self._chunks):
                await self._grown.wait()
            else:
                yield self._chunks[at]
                at += 1
        if self._error is not None:
            raise self._error

    def grow(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._tell()

    def end(self, error: Exception | None = None) -> None:
        """It is whole, or will never be."""
        self._error = error
        self._whole = True
        self._tell()

    def _tell(self) -> None:
        self._grown.set()
        self._grown.clear()


class Pages:
    """Makes one page at a time. Whoever comes while one is made gets the next, which has no value that is
    older than the question, together with all others who have come by then."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._next: dict[Format, Page] = {}
        self._making = asyncio.Lock()
        self._background = Background()

    async def read(self, fmt: Format) -> AsyncIterator[bytes]:
        """The chunks of a page whose making begins now, or as soon as the one before is ready."""
        page = self._next.get(fmt)
        if page is None:
            page = self._next[fmt] = Page()
            self._background.begin(self._make(fmt, page))
        async for chunk in page.read():
            yield chunk

    async def close(self) -> None:
        """Ends what is under way."""
        await self._background.end()

    async def _make(self, fmt: Format, page: Page) -> None:
        async with self._making:
            del self._next[fmt]
            loop = asyncio.get_running_loop()
            try:
                # In a thread from beginning to end: on a loop that has thousands of probes to serve, the page
                # would wait for its turn so often that it came too late for Prometheus.
                await asyncio.to_thread(
                    self._write, fmt, lambda chunk: loop.call_soon_threadsafe(page.grow, chunk)
                )
            except Exception as error:
                page.end(error)
                raise
            page.end()

    def _write(self, fmt: Format, send: Callable[[bytes], object]) -> None:
        for chunk in compressed(self._registry.render(fmt)):
            send(chunk)


def compressed(text: Iterable[bytes]) -> Iterator[bytes]:
    """The gzip of `text`, in pieces as they come."""
    compressor = zlib.compressobj(LEVEL, wbits=_GZIP)
    for part in text:
        if chunk := compressor.compress(part):
            yield chunk
    yield compressor.flush()
