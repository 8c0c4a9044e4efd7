"""A circuit breaker around every call of an existing boto3 client, through botocore's events.

https://boto3.amazonaws.com/v1/documentation/api/latest/guide/events.html
"""

import ssl
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, TypeVar

from botocore.client import BaseClient
from botocore.exceptions import (
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from exporter.guard.circuit import CircuitBreaker
from exporter.guard.metrics import REJECTED, GuardMetrics
from exporter.guard.one_call import Guard
from exporter.guard.verdict import CircuitOpenError, Verdict, verdict_on
from exporter.outcome import Reason
from exporter.s3.codes import reason_of

C = TypeVar("C", bound=BaseClient)

_KEY = "_r2_exporter_guard"
_OF_THE_STORAGE = {Reason.THROTTLED, Reason.TIMEOUT, Reason.SERVER}
_LOST: tuple[type[Exception], ...] = (
    BotoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
)
_NETWORK = (ssl.SSLError, ConnectionError, TimeoutError, HTTPException, HTTPError)


def guard_client(client: C, breaker: CircuitBreaker, *, metrics: GuardMetrics | None = None) -> C:
    """Protects every call of `client` and returns it; raises ValueError if it is guarded already.

    A call is what the caller makes, botocore's own retries included; while the breaker is open it raises
    CircuitOpenError before anything is sent. Paginators, waiters and transfers are made of such calls.
    Keep a GuardedBucket of the same breaker off the client: each call would count twice.
    What is read from a response's `Body` later is the caller's: `GuardedBucket.get` reads it under guard.
    A call that a BaseException ends, such as KeyboardInterrupt, gives its permit back with its last frame,
    or as half_open_max_wait says, and is in no metric.
    """
    if guarding(client) is not None:
        raise ValueError("this client is guarded already: make another one for another breaker")
    watcher = _Watcher(breaker, metrics)
    setattr(client, _KEY, breaker)
    events: Any = client.meta.events
    # First after the call, so that no other handler can hide its end: the more particular name is earlier.
    events.register_first("before-call.*.*", watcher.before_call)
    events.register_first("request-created.*.*", watcher.request_created)
    events.register_first("after-call.*.*", watcher.after_call)
    events.register_first("after-call-error.*.*", watcher.after_call_error)
    return client


def guarding(client: BaseClient) -> CircuitBreaker | None:
    """The breaker that `client` was guarded with, if it was."""
    breaker: CircuitBreaker | None = getattr(client, _KEY, None)
    return breaker


def judge_storage_error(error: Exception) -> Verdict:
    """Whose fault an exception of boto3 is.

    The storage's: 5xx, throttling, timeouts, lost connections, answers that are cut or no XML. Not
    the storage's, which did its part: 404, 403 and other refusals. Neither: what was never sent, such as
    wrong parameters or missing credentials, and the application's own exceptions.
    """
    if isinstance(error, ClientError):
        response: Mapping[str, Any] = error.response
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        reason = reason_of(status, response.get("Error", {}).get("Code", ""))
        return Verdict.FAILURE if reason in _OF_THE_STORAGE else Verdict.SUCCESS
    if type(error) is HTTPClientError:
        # botocore wraps whatever is raised while it sends, a header that cannot be sent or a body that
        # cannot be read included: only what the network did is the storage's.
        error = error.kwargs.get("error", error)
        return Verdict.FAILURE if isinstance(error, _NETWORK) else Verdict.NEITHER
    return Verdict.FAILURE if isinstance(error, _LOST) else Verdict.NEITHER


class _Watcher:
    """Handles botocore's events of one client. A call's guard travels in the call's own context."""

    def __init__(self, breaker: CircuitBreaker, metrics: GuardMetrics | None) -> None:
        self._breaker = breaker
        self._judge = breaker.own_judge or judge_storage_error
        self._metrics = metrics
        if metrics:
            metrics.watch(breaker)

    def before_call(self, model: Any, **_: object) -> None:
        """Spares a call that will be rejected the preparation of its body."""
        self._ask(self._breaker.check, model.name)

    def request_created(self, request: Any, operation_name: str, **_: object) -> None:
        """The first attempt gets the permit: what comes before may fail without any event."""
        if _KEY not in request.context:
            guard = _ClientGuard(self._breaker, self._judge)
            self._ask(guard.__enter__, operation_name)
            request.context[_KEY] = guard

    def _ask(self, admit: Callable[[], object], operation: str) -> None:
        try:
            admit()
        except CircuitOpenError:
            if self._metrics:
                self._metrics.count(self._breaker.name, operation, REJECTED)
            raise

    def after_call(
        self, http_response: Any, parsed: Any, model: Any, context: dict[str, Any], **_: object
    ) -> None:
        # From 300 on this is what botocore raises, after it has told us.
        failed = http_response.status_code >= 300
        verdict = verdict_on(ClientError(parsed, model.name), self._judge) if failed else Verdict.SUCCESS
        self._end(context, model.name, verdict)

    def after_call_error(
        self, exception: Exception, context: dict[str, Any], event_name: str, **_: object
    ) -> None:
        self._end(context, event_name.rpartition(".")[2], verdict_on(exception, self._judge))

    def _end(self, context: dict[str, Any], operation: str, verdict: Verdict) -> None:
        if guard := context.pop(_KEY, None):
            guard.end(verdict)
            if self._metrics:
                self._metrics.ended(self._breaker.name, operation, guard)


class _ClientGuard(Guard):
    """botocore tells nobody of a BaseException: the call's end is then the end of its context."""

    def __del__(self) -> None:
        self.end(Verdict.NEITHER)
