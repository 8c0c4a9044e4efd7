"""Sweeps: what earlier runs left behind in a bucket is removed, and nothing else."""

import time
from dataclasses import dataclass

from exporter.keys import leftovers
from exporter.outcome import Failure, Operation
from exporter.storage import Reply, Storage

LEFTOVER_AGE = 3600.0
SWEEP_PAGES = 20
SWEEP_SECONDS = 300.0
"""And then the next one goes on: only a few targets are swept at once, and none may keep others waiting."""

LONGEST_KEY = 1024
"""Bytes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep removed, how many pages it listed, and why it ended early if it did."""

    deleted: int
    pages: int
    failure: Failure | None = None


class Sweeper:
    """Sweeps below one prefix, each time from where it ended before.

    So neither many objects of others nor one that cannot be deleted keeps it from the rest.
    """

    def __init__(self, storage: Storage, prefix: str, timeout: float) -> None:
        self._storage = storage
        self._prefix = prefix
        self._timeout = timeout
        self._after = ""

    async def sweep(self) -> Sweep:
        """Removes our keys, older than an hour, from at most 20 pages; ends at the first failure."""
        ends = time.monotonic() + SWEEP_SECONDS
        deleted, token, from_the_top = 0, None, not self._after
        for page in range(1, SWEEP_PAGES + 1):
            reply, listing = await self._storage.list_page(
                self._prefix, token, self._after, timeout=self._timeout
            )
            if listing is None:
                if token is None:
                    self._after = ""  # it may be this that the storage does not take
                return Sweep(deleted, page, reply.failure)
            for key in leftovers(self._prefix, listing.keys, _earlier_clock(reply), LEFTOVER_AGE):
                self._after = str(key)
                reply = await self._storage.perform(Operation.DELETE, key, b"", timeout=self._timeout)
                deleted += reply.failure is None
                if reply.failure is not None or time.monotonic() >= ends:
                    return Sweep(deleted, page, reply.failure)
            token = listing.next_token
            self._after = self._last(listing.keys) if token else ""
            if (token is None and from_the_top) or time.monotonic() >= ends:
                return Sweep(deleted, page)
            from_the_top = from_the_top or token is None
        return Sweep(deleted, SWEEP_PAGES)

    def _last(self, keys: list[str]) -> str:
        """The last key of a page, if it is one that can be asked for."""
        if not keys or not keys[-1].startswith(self._prefix) or len(keys[-1].encode()) > LONGEST_KEY:
            return self._after
        return keys[-1]


def _earlier_clock(reply: Reply) -> float:
    """Unix seconds by our clock or the storage's: neither makes anything old that the other calls young."""
    skew = reply.answer.clock_skew if reply.answer is not None else None
    return time.time() - max(0.0, skew or 0.0)
