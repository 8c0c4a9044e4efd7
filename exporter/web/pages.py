"""Pages of metrics as gzip, each made once for everyone who waits for one."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator

from exporter.background import Background
from exporter.exposition import Registry
from exporter.series import Format

LEVEL = 1
"""Compresses this text to a twelfth, and the default, 6, to a fourteenth in five times the time."""

BATCH_BYTES = 512 * 1024
"""Text that goes to a thread at once: less would spend more on getting there than on compressing."""

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

    async def make(self, text: Iterable[bytes]) -> None:
        """Compresses `text`, whose chunks are made on the event loop, in a thread."""
        try:
            async for chunk in compressed(text):
                self._chunks.append(chunk)
                self._tell()
        except Exception as error:
            self._error = error
            raise
        finally:
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
            await page.make(self._registry.render(fmt))


async def compressed(text: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The gzip of `text`; the event loop gets a turn after each of its chunks."""
    compressor = zlib.compressobj(LEVEL, wbits=_GZIP)
    async for batch in _batches(iter(text)):
        if chunk := await asyncio.to_thread(compressor.compress, batch):
            yield chunk
    yield compressor.flush()


async def _batches(text: Iterator[bytes]) -> AsyncIterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for chunk in text:
        batch.append(chunk)
        size += len(chunk)
        if size >= BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
        await asyncio.sleep(0)
    if batch:
        yield b"".join(batch)
