"""Tells one member of the cluster, at its own pace and whatever becomes of the others."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

import structlog

from exporter.alertmanager import silence
from exporter.alertmanager.ledger import BATCH, Ledger, Pace
from exporter.alertmanager.pushed import Pushed, to_json
from exporter.alertmanager.silence import SilenceError
from exporter.outcome import Failure, Reason
from exporter.reason import explain_error
from exporter.s3.address import Url
from exporter.s3.client import Answer, Client
from exporter.s3.printable import printable

log = structlog.get_logger(__name__)

PATH = "/api/v2/alerts"
MAX_BODY = 4096
MAX_SAID = 200

# These speak of what was sent: the same again would be refused again.
_REFUSALS = frozenset({400, 413, 422})
_REASONS = {401: Reason.AUTH, 403: Reason.AUTH, 407: Reason.AUTH, 408: Reason.TIMEOUT, 429: Reason.THROTTLED}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to a member, by its URL: how many alerts it held, how long it took, and why it failed.

    `dropped` counts those that the member refused and that are not sent again.
    """

    member: str
    alerts: int
    seconds: float
    reason: Reason | None = None
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """How to speak with a member: connections of its own, and what it asks for."""

    client: Client
    headers: Mapping[str, str]
    labels: Mapping[str, str]
    timeout: float


class Member:
    """One member, known by its URL. What it has been told outlives a change of the link to it."""

    def __init__(self, url: str, pace: Pace, told: Callable[[Attempt], None]) -> None:
        self.url = url
        self._pace = pace
        self._told = told
        self._ledger = Ledger(pace)
        self._news = asyncio.Event()
        self._failing: Reason | None = None
        self._link: Link
        self._task: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """How many alerts wait to be told."""
        return len(self._ledger.pending())

    def put(self, alert: Pushed) -> None:
        """Tells an alert as soon as may be. Never blocks."""
        self._ledger.put(alert, time.monotonic())
        self._news.set()

    def use(self, link: Link) -> None:
        """Goes on over this link; end the one of before first."""
        self._link = link
        self._task = asyncio.get_running_loop().create_task(self._run(link), name=f"pushing to {self.url}")

    async def end(self) -> None:
        """Stops telling, in the middle of a request if need be, and closes the link."""
        task, self._task = self._task, None
        if task is not None:
            link = self._link
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await link.client.close()

    async def silence(self, labels: Mapping[str, str], *, until: float, by: str, comment: str) -> str:
        """Sets a silence for alerts with these labels and the link's; its id. Raises SilenceError."""
        link = self._link
        body = silence.to_json(
            {**link.labels, **labels}, start=time.time(), end=until, by=by, comment=comment
        )
        exchange = await link.client.send(
            "POST",
            Url.of(self.url + silence.PATH),
            link.headers,
            body,
            timeout=link.timeout,
            max_body=MAX_BODY,
        )
        answer = exchange.result
        if isinstance(answer, Exception):
            why = explain_error(answer, exchange.trace, link.timeout).message
        elif not 200 <= answer.status < 300:
            why = f"HTTP {answer.status}"
        else:
            try:
                return silence.silence_id(answer.body)
            except ValueError as error:
                why = str(error)
        raise SilenceError(f"{self.url} set no silence: {why}", asked=True)

    async def end_silence(self, silence_id: str) -> bool:
        """Whether the member has taken a silence back."""
        link = self._link
        url = Url.of(f"{self.url}{silence.ONE}/{quote(silence_id, safe='')}")
        exchange = await link.client.send(
            "DELETE", url, link.headers, b"", timeout=link.timeout, max_body=MAX_BODY
        )
        return not isinstance(exchange.result, Exception) and exchange.result.status == 200

    async def last_words(self, seconds: float) -> None:
        """Tries once to tell what waits, for so long, and ends."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        pending = self._ledger.pending()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for first in range(0, len(pending), BATCH):
                    if not await self._tell(self._link, pending[first : first + BATCH]):
                        break
        await self.end()

    async def _run(self, link: Link) -> None:
        failures = 0
        while True:
            batch = await self._due()
            try:
                told = await self._tell(link, batch)
            except Exception:
                log.exception("pushing alerts failed unexpectedly", alertmanager=self.url)
                told = False
            failures = 0 if told else failures + 1
            if failures:
                await asyncio.sleep(self._pace.retry_after(failures, random.random()))  # noqa: S311

    async def _due(self) -> tuple[Pushed, ...]:
        while not (batch := self._ledger.take_due(time.monotonic())):
            self._news.clear()
            due = self._ledger.next_due()
            wait = None if due is None else max(0.0, due - time.monotonic())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()
        return batch

    async def _tell(self, link: Link, batch: tuple[Pushed, ...]) -> bool:
        """Whether the member could be spoken with, even if it refused."""
        started = time.monotonic()
        body = to_json(batch, link.labels, until=time.time() + self._pace.lifetime)
        url = Url.of(self.url + PATH)
        exchange = await link.client.send(
            "POST", url, link.headers, body, timeout=link.timeout, max_body=MAX_BODY
        )
        seconds = time.monotonic() - started
        failure: Failure | None
        if isinstance(exchange.result, Exception):
            failure = explain_error(exchange.result, exchange.trace, link.timeout)
        else:
            if exchange.result.status in _REFUSALS:
                return await self._refused(link, batch, exchange.result, seconds)
            failure = _failure(exchange.result)
        if failure is None:
            self._ledger.accepted(batch, time.monotonic())
        else:
            self._ledger.unreached(time.monotonic())
        self._told(Attempt(self.url, len(batch), seconds, failure.reason if failure else None))
        self._tell_change(failure)
        return failure is None

    async def _refused(self, link: Link, batch: tuple[Pushed, ...], answer: Answer, seconds: float) -> bool:
        """Alerts of one request are told one by one, so that a bad one takes no good one along."""
        self._tell_change(None)
        if len(batch) > 1:
            self._told(Attempt(self.url, 0, seconds, Reason.CLIENT))
            for alert in batch:
                if not await self._tell(link, (alert,)):
                    return False
            return True
        [alert] = batch
        dropped = self._ledger.refused(alert, time.monotonic())
        self._told(Attempt(self.url, 1, seconds, Reason.CLIENT, dropped=int(dropped)))
        log.error(
            "Alertmanager refuses an alert",
            alertmanager=self.url,
            labels=dict(alert.labels),
            status=answer.status,
            said=printable(answer.body.decode(errors="replace").strip(), MAX_SAID),
        )
        return True

    def _tell_change(self, failure: Failure | None) -> None:
        before, self._failing = self._failing, failure.reason if failure else None
        if failure is not None and failure.reason is not before:
            log.warning(
                "alerts do not reach Alertmanager",
                alertmanager=self.url,
                reason=failure.reason,
                cause=failure.message,
                pending=self.pending,
            )
        elif failure is None and before is not None:
            log.info("alerts reach Alertmanager again", alertmanager=self.url)


def _failure(answer: Answer) -> Failure | None:
    """What a status says of the member; what the answer says besides may hold anything, and is not told."""
    if 200 <= answer.status < 300:
        return None
    usual = Reason.SERVER if answer.status >= 500 else Reason.CLIENT
    return Failure(_REASONS.get(answer.status, usual), f"HTTP {answer.status}")
