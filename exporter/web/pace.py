"""How fast requests are taken: token buckets, one for all requests and one a caller for writes."""

from exporter.web.toolkit import RateLimit

WRITES = RateLimit.model_validate({"interval": "100ms", "burst": 20})
"""Of each caller: 20 at once, and 10 a second after that."""

WEBHOOKS = RateLimit.model_validate({"interval": "10ms", "burst": 1000})
"""Of Alertmanager, which sends one for each of its groups and does not repeat one that was refused."""

CALLERS_REMEMBERED = 1000


class TokenBucket:
    """Lets `burst` requests through at once and one more each `interval`. Counts in whole nanoseconds."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._interval = max(1, round(limit.interval * 1e9))
        self._tolerance = self._interval * (limit.burst - 1)
        self._full_at: int | None = None

    def wait(self, now: int) -> int:
        """Takes a token at monotonic time `now`: 0, or the nanoseconds until there is one to take."""
        full_at = now if self._full_at is None else max(self._full_at, now)
        if full_at - now > self._tolerance:
            return full_at - now - self._tolerance
        self._full_at = full_at + self._interval
        return 0


class CallerPace:
    """A bucket for each caller. Of many callers, the ones heard of last are remembered."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}

    def wait(self, caller: str, limit: RateLimit, now: int) -> int:
        """As `TokenBucket.wait`, for this caller."""
        bucket = self._buckets.pop(caller, None)
        if bucket is None or bucket.limit != limit:
            bucket = TokenBucket(limit)
        while len(self._buckets) >= CALLERS_REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[caller] = bucket
        return bucket.wait(now)
