"""aiohttp's side of who may call: gathers the facts of a request and answers refusals."""

import base64
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from exporter.web import cors
from exporter.web.access import (
    READ_METHODS,
    AccessPolicy,
    Allow,
    Deny,
    Proof,
    RequestFacts,
    decide,
    is_loopback,
    matching_token,
)
from exporter.web.errors import error
from exporter.web.keys import CALLER
from exporter.web.pace import WEBHOOKS, CallerPace, TokenBucket
from exporter.web.passwords import Logins
from exporter.web.paths import WEBHOOK
from exporter.web.protection import protective_headers
from exporter.web.toolkit import canonical_san

__all__ = [
    "AccessPolicy",
    "Allow",
    "Deny",
    "Proof",
    "RequestFacts",
    "decide",
    "is_loopback",
    "middlewares",
    "protect",
]

PolicySource = Callable[[], AccessPolicy]


def protect(app: web.Application, get_policy: PolicySource) -> None:
    """Put `middlewares` before those that `app` has, and protective headers on every answer of it.

    `get_policy` is asked at every request, so a reload swaps the policy by returning another.
    """
    logins = Logins()
    app.on_cleanup.append(logins.close)
    app.middlewares[:0] = middlewares(get_policy, logins)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        policy = get_policy()
        response.headers.update(policy.headers)
        for name, value in protective_headers(request.path, policy.headers).items():
            response.headers.setdefault(name, value)
        cors.add_headers(request, response, policy)

    app.on_response_prepare.append(add_headers)


def middlewares(get_policy: PolicySource, logins: Logins) -> list[Middleware]:
    """The rate limit, who may call, what browsers ask beforehand, how often they may write; in this order."""
    return [
        _rate_limit(get_policy),
        _access(get_policy, logins),
        cors.preflight(get_policy),
        _write_limit(get_policy),
    ]


def _rate_limit(get_policy: PolicySource) -> Middleware:
    bucket: TokenBucket | None = None

    @web.middleware
    async def rate_limit(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal bucket
        limit = get_policy().rate_limit
        if limit is None:
            return await handler(request)
        if bucket is None or bucket.limit != limit:
            bucket = TokenBucket(limit)
        if wait := bucket.wait(time.monotonic_ns()):
            return _too_many("Too many requests; try again later.", wait)
        return await handler(request)

    return rate_limit


def _write_limit(get_policy: PolicySource) -> Middleware:
    writes, webhooks = CallerPace(), CallerPace()

    @web.middleware
    async def write_limit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method in READ_METHODS:
            return await handler(request)
        now = time.monotonic_ns()
        if request.path == WEBHOOK:
            wait = webhooks.wait(CALLER.get(), WEBHOOKS, now)
        else:
            wait = writes.wait(CALLER.get(), get_policy().write_limit, now)
        if wait:
            return _too_many("Too many writes by this caller; try again later.", wait)
        return await handler(request)

    return write_limit


def _too_many(message: str, wait: int) -> web.Response:
    """`wait` is in nanoseconds."""
    answer = error(429, "too_many_requests", message)
    answer.headers["Retry-After"] = str(-(-wait // 1_000_000_000))
    return answer


def _access(get_policy: PolicySource, logins: Logins) -> Middleware:
    @web.middleware
    async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
        policy = get_policy()
        proof, caller = await _prove(request.headers.get("Authorization"), policy, logins)
        names = _certificate_names(request)
        facts = RequestFacts(
            method=request.method,
            proof=proof,
            host=request.headers.get("Host"),
            origin=request.headers.get("Origin"),
            fetch_site=request.headers.get("Sec-Fetch-Site"),
            preflight=cors.is_preflight(request, policy),
            certificate_sans=None if names is None else frozenset(names),
        )
        verdict = decide(facts, policy)
        if isinstance(verdict, Deny):
            return refusal(verdict)
        # Each request is answered in a task, hence a context, of its own.
        CALLER.set(caller or _of_certificate(names or [], policy) or "anonymous")
        return await handler(request)

    return access


async def _prove(header: str | None, policy: AccessPolicy, logins: Logins) -> tuple[Proof, str]:
    """What the header proves, and whom: "" for nobody."""
    if header is None:
        return Proof.ABSENT, ""
    scheme, _, sent = header.partition(" ")
    if scheme.lower() == "bearer":
        token = matching_token(sent.strip(), policy.tokens)
        if token is None:
            return Proof.WRONG, ""
        return Proof.WRITE_TOKEN if token.scope == "write" else Proof.READ_TOKEN, token.name
    if scheme.lower() != "basic" or not policy.users:
        return Proof.WRONG, ""
    try:
        name, _, password = base64.b64decode(sent.strip(), validate=True).decode().partition(":")
    except ValueError:
        return Proof.WRONG, ""
    good = await logins.verify(name, password, policy.users)
    return (Proof.LOGIN, f"login:{name}") if good else (Proof.WRONG, "")


def _certificate_names(request: web.Request) -> list[str] | None:
    """The names of the verified client certificate: DNS, IP, e-mail and URI; None where there is none."""
    certificate = request.get_extra_info("peercert")
    if not certificate:
        return None
    kinds = ("DNS", "IP Address", "email", "URI")
    names = certificate.get("subjectAltName", ())
    return [canonical_san(name) for kind, name in names if kind in kinds]


def _of_certificate(names: list[str], policy: AccessPolicy) -> str:
    """The caller by the certificate's first name, of those that are allowed if that is asked for."""
    known = [name for name in names if not policy.client_sans or name in policy.client_sans]
    return f"certificate:{known[0]}" if known else ""


def refusal(deny: Deny) -> web.Response:
    """A denial as the JSON error every endpoint answers with."""
    answer = error(deny.status, deny.code, deny.message)
    for challenge in deny.challenges:
        answer.headers.add("WWW-Authenticate", challenge)
    return answer
