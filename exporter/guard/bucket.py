"""One bucket behind a circuit breaker, for applications that call the storage themselves."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import IO, Any, TypeVar

from botocore.client import BaseClient

from exporter.breaker import Policy, Status
from exporter.guard.circuit import CircuitBreaker
from exporter.guard.client import guarding, judge_storage_error
from exporter.guard.metrics import GuardMetrics

R = TypeVar("R")


class GuardedBucket:
    """Calls `bucket` through a boto3 S3 client, which threads may share as they may share this.

    While the breaker is open each call raises CircuitOpenError at once; else it raises what boto3 does,
    and 5xx, throttling, timeouts and lost connections count against the storage, 404 and 403 do not.
    Further keyword arguments go to boto3 as they are, such as `ContentType`.
    Buckets may share a `breaker`; without one a bucket has its own, named after it, with `policy`.
    """

    def __init__(
        self,
        client: BaseClient,
        bucket: str,
        *,
        policy: Policy | None = None,
        breaker: CircuitBreaker | None = None,
        metrics: GuardMetrics | None = None,
    ) -> None:
        if policy is not None and breaker is not None:
            raise ValueError("give policy or breaker, not both: a breaker has its policy already")
        if breaker is not None and guarding(client) is breaker:
            raise ValueError("this client is guarded with the same breaker: each call would count twice")
        self.bucket = bucket
        self.breaker = breaker or CircuitBreaker(bucket, policy)
        self._client: Any = client
        self._metrics = metrics
        if metrics:
            metrics.watch(self.breaker)

    def put(self, key: str, body: bytes | IO[bytes], **more: Any) -> Mapping[str, Any]:
        """Writes an object; boto3's answer to PutObject."""
        return self._call("put", self._client.put_object, Key=key, Body=body, **more)

    def get(self, key: str, **more: Any) -> bytes:
        """An object's content, read to its last byte under the breaker's eyes."""
        return self._call("get", self._read, Key=key, **more)

    def delete(self, key: str, **more: Any) -> Mapping[str, Any]:
        """Removes an object, one that is not there too; boto3's answer to DeleteObject."""
        return self._call("delete", self._client.delete_object, Key=key, **more)

    def head(self, key: str, **more: Any) -> Mapping[str, Any]:
        """What is known of an object without its content; boto3's answer to HeadObject."""
        return self._call("head", self._client.head_object, Key=key, **more)

    def list(self, prefix: str = "", **more: Any) -> Iterator[Mapping[str, Any]]:
        """Each object under `prefix` as ListObjectsV2 describes it; each page is one guarded call."""
        while True:
            page = self._call("list", self._client.list_objects_v2, Prefix=prefix, **more)
            yield from page.get("Contents", [])
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def breaker_status(self) -> Status:
        """The breaker as it is now."""
        return self.breaker.status()

    def reset_breaker(self) -> None:
        """Closes the breaker, and forgets the failures so far."""
        self.breaker.reset()

    def _call(self, operation: str, function: Callable[..., R], **arguments: Any) -> R:
        guard = self.breaker.guard(self.breaker.own_judge or judge_storage_error)
        try:
            with guard:
                return function(Bucket=self.bucket, **arguments)
        finally:
            if self._metrics:
                self._metrics.ended(self.breaker.name, operation, guard)

    def _read(self, **arguments: Any) -> bytes:
        # Not the body's own context manager: that one hands out the raw stream, whose length nobody checks.
        with closing(self._client.get_object(**arguments)["Body"]) as body:
            content: bytes = body.read()
        return content
