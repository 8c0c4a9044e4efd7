"""aiohttp's side of who may call: gathers the facts of a request and answers refusals."""

import base64
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from exporter.web.access import (
    AccessPolicy,
    Allow,
    Deny,
    Proof,
    RequestFacts,
    TokenBucket,
    decide,
    is_loopback,
    token_matches,
)
from exporter.web.passwords import Logins
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
    """Put `middlewares` before those that `app` has, and the policy's headers on every answer of it.

    `get_policy` is asked at every request, so a reload swaps the policy by returning another.
    """
    app.middlewares[:0] = middlewares(get_policy)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(get_policy().headers)

    app.on_response_prepare.append(add_headers)


def middlewares(get_policy: PolicySource) -> list[Middleware]:
    """The rate limit, then the decision who may call; outermost first."""
    return [_rate_limit(get_policy), _access(get_policy)]


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
            answer = refusal(Deny(429, "too_many_requests", "Too many requests; try again later."))
            answer.headers["Retry-After"] = str(-(-wait // 1_000_000_000))
            return answer
        return await handler(request)

    return rate_limit


def _access(get_policy: PolicySource) -> Middleware:
    logins = Logins()

    @web.middleware
    async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
        policy = get_policy()
        proof = await _prove(request.headers.get("Authorization"), policy, logins)
        verdict = decide(_facts(request, proof), policy)
        return refusal(verdict) if isinstance(verdict, Deny) else await handler(request)

    return access


async def _prove(header: str | None, policy: AccessPolicy, logins: Logins) -> Proof:
    if header is None:
        return Proof.ABSENT
    scheme, _, sent = header.partition(" ")
    if scheme.lower() == "bearer":
        return Proof.TOKEN if token_matches(sent.strip(), policy) else Proof.WRONG
    if scheme.lower() != "basic" or not policy.users:
        return Proof.WRONG
    try:
        name, _, password = base64.b64decode(sent.strip(), validate=True).decode().partition(":")
    except ValueError:
        return Proof.WRONG
    good = await logins.verify(name, password, policy.users)
    return Proof.LOGIN if good else Proof.WRONG


def _facts(request: web.Request, proof: Proof) -> RequestFacts:
    return RequestFacts(
        method=request.method,
        proof=proof,
        host=request.headers.get("Host"),
        origin=request.headers.get("Origin"),
        fetch_site=request.headers.get("Sec-Fetch-Site"),
        certificate_sans=_certificate_sans(request),
    )


def _certificate_sans(request: web.Request) -> frozenset[str]:
    """The names of the verified client certificate: DNS, IP, e-mail and URI."""
    certificate = request.get_extra_info("peercert") or {}
    kinds = ("DNS", "IP Address", "email", "URI")
    names = certificate.get("subjectAltName", ())
    return frozenset(canonical_san(name) for kind, name in names if kind in kinds)


def refusal(deny: Deny) -> web.Response:
    """A denial as the JSON error every endpoint answers with."""
    headers = CIMultiDict([("WWW-Authenticate", challenge) for challenge in deny.challenges])
    body = {"error": {"code": deny.code, "message": deny.message, "details": []}}
    return web.json_response(body, status=deny.status, headers=headers)
