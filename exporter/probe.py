"""The operations on one target, and the promise to leave nothing behind in its bucket."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from exporter.config import TargetSettings
from exporter.keys import ProbeKey, new_key
from exporter.masking import mask
from exporter.outcome import BillingClass, Failure, Operation, Outcome, Phase, Reason
from exporter.storage import Reply, Storage
from exporter.sweep import Sweep, Sweeper
from exporter.verify import Written, judge

Record = Callable[[Outcome, Reply], None]
SHORTEST_TIMEOUT = 0.01
"""Seconds; the least `timeout` that can be configured. With less left, an operation is not begun."""
BILLING = {
    Operation.PUT: BillingClass.A,
    Operation.LIST: BillingClass.A,
    Operation.GET: BillingClass.B,
    Operation.HEAD: BillingClass.B,
    Operation.DELETE: BillingClass.FREE,
}


@dataclass(slots=True)
class _Run:
    """One run's object: its key, its bytes, and what is known of it so far.

    `fresh` as long as the first operation, over a new connection, is still to come.
    """

    key: ProbeKey
    body: bytes
    fresh: bool
    written: Written | None = None
    may_be_stored: bool = False
    not_found: Failure | None = None
    """A 404 of this run that is not about its key: it explains those of HEAD, which have no body."""


class Probe:
    """Runs the operations of one target. `cleaned` is told whether each cleanup succeeded."""

    def __init__(
        self,
        target: TargetSettings,
        storage: Storage,
        instance: str,
        *,
        cleaned: Callable[[bool], None],
    ) -> None:
        self.target = target
        self._storage = storage
        self._sweeper = Sweeper(storage, target.probe.key_prefix, target.probe.timeout)
        self._instance = instance
        self._cleaned = cleaned
        self._cleanups: set[asyncio.Task[None]] = set()
        self._runs = 0

    async def run(
        self,
        record: Record,
        operations: Sequence[Operation] = (),
        limit: float | None = None,
        admit: Callable[[Operation], bool] = lambda _: True,
    ) -> None:
        """One run: each operation once, in this order, its outcome recorded as soon as it is known.

        `operations` defaults to the target's own. `limit` (seconds) bounds the run as a whole: an
        operation gets what is left of it, and is not begun when nothing is. Nor is one that `admit`,
        asked right before it, does not let through.
        An object that may have been written is removed even if the run is cancelled.
        """
        settings = self.target.probe
        ends = math.inf if limit is None else time.monotonic() + limit
        every = settings.fresh_connection_every
        chosen = tuple(operations) or settings.operations
        run = _Run(
            key=new_key(settings.key_prefix, self._instance, time.time()),
            body=random.randbytes(settings.object_size) if Operation.PUT in chosen else b"",  # noqa: S311
            fresh=every > 0 and self._runs % every == 0,
        )
        self._runs += 1
        try:
            for operation in chosen:
                timeout = min(settings.timeout, ends - time.monotonic())
                if timeout < SHORTEST_TIMEOUT:
                    break
                if not admit(operation):
                    continue
                record(*await self._perform(run, operation, timeout))
        finally:
            if run.may_be_stored:
                self._in_background(self._clean_up(run))

    async def sweep(self) -> Sweep:
        """Removes what earlier runs left behind, from where the last sweep ended."""
        return await self._sweeper.sweep()

    async def close(self, grace: float) -> None:
        """Waits up to `grace` seconds for cleanups under way, then closes the connections.

        Call it when no run is under way any more: a cancelled run hands in its cleanup as it ends.
        """
        if self._cleanups:
            _, late = await asyncio.wait(self._cleanups, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._storage.close()

    async def _perform(self, run: _Run, operation: Operation, timeout: float) -> tuple[Outcome, Reply]:
        if operation is Operation.PUT:
            run.may_be_stored = True
        fresh, run.fresh = run.fresh, False
        reply = await self._storage.perform(operation, run.key, run.body, timeout=timeout, fresh=fresh)
        failure = reply.failure or judge(operation, reply.answer, run.key, run.written)
        if reply.status == HTTPStatus.NOT_FOUND:
            failure = _explained(run, operation, failure)
        if operation is Operation.PUT:
            run.written = Written.from_put(run.body, reply.answer if failure is None else None)
            run.may_be_stored = may_be_stored(reply)
        elif operation is Operation.DELETE and failure is None:
            run.may_be_stored = False
        return self._outcome(operation, reply, failure), reply

    async def _clean_up(self, run: _Run) -> None:
        removed = False
        try:
            reply = await self._storage.perform(
                Operation.DELETE, run.key, b"", timeout=self.target.probe.timeout
            )
            removed = reply.failure is None
        finally:
            self._cleaned(removed)

    def _in_background(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    def _outcome(self, operation: Operation, reply: Reply, failure: Failure | None) -> Outcome:
        return Outcome(
            target=self.target.name,
            operation=operation,
            started_at=reply.started_at,
            duration=reply.duration,
            phases=reply.phases,
            status=reply.status,
            request_id=mask(reply.request_id),
            failure=failure and _masked(failure),
            billed=BILLING[operation] if is_billed(reply) else None,
            reconnected=reply.reconnected,
            certificate_expiry=reply.answer.certificate_expiry if reply.answer else None,
            clock_skew=reply.answer.clock_skew if reply.answer else None,
        )


def _explained(run: _Run, operation: Operation, failure: Failure | None) -> Failure | None:
    """Why nothing was found, HEAD's answer included if another one of its run says more."""
    if failure is not None and failure.reason is Reason.CLIENT:
        run.not_found = failure
    elif failure is None and operation is Operation.HEAD and (why := run.not_found) is not None:
        return replace(
            why, message=f"HTTP 404, which to HEAD says no more; before in this run: {why.message}"
        )
    return failure


def _masked(failure: Failure) -> Failure:
    """What a storage says may repeat what was sent to it, and goes to the log, the API and the history."""
    return replace(failure, message=mask(failure.message), s3_code=mask(failure.s3_code))


def may_be_stored(put: Reply) -> bool:
    """Whether an object may exist after this PUT: no, if it was never sent or was refused outright."""
    if put.status is None:
        return Phase.PROCESSING in put.phases or put.reconnected
    return not 300 <= put.status < 500


def is_billed(reply: Reply) -> bool:
    """Whether R2 counts this request: it was sent, and not turned away with 401 as unauthorized.

    https://developers.cloudflare.com/r2/pricing/
    """
    return Phase.PROCESSING in reply.phases and reply.status != 401
